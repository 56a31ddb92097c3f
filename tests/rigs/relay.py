"""A stretch of wire between two parties that counts what passes, waits for words, and refuses once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Relay:
    """Leads from ``url`` to *port* of the loopback address."""

    port: int
    url: str = ""
    sent: int = 0  #: bytes, from whoever connects
    counts: bytes = b" HTTP/1.1\r\n"  #: what is looked for in it
    count: int = 0  #: and how often it was there
    refusals: int = 0  #: so many connections that begin with what is counted are answered 403
    most: int = 0  #: so many bytes end a wait
    word: bytes = b""  #: so does this, in what is sent
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)  #: what ended the wait is held back until then

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with suppress(
            OSError, EOFError, asyncio.CancelledError
        ):  # cancelled where the test is over: nobody awaits this task
            async with _closing(writer):
                head = await reader.readuntil(b"\r\n\r\n")
                if self.refusals and self.counts in head:
                    await self._refuse(head, reader, writer)
                    return
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
                async with _closing(far_writer), asyncio.TaskGroup() as both:
                    both.create_task(self._there(head, reader, far_writer))
                    both.create_task(_back(far_reader, writer))

    async def _there(self, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data:
                self.sent += len(data)
                self.count += data.count(self.counts)
                if 0 < self.most <= self.sent or (self.word and self.word in data):
                    self.reached.set()
                    await self.go_on.wait()
                writer.write(data)
                await writer.drain()
                data = await reader.read(1 << 16)
        writer.close()

    async def _refuse(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.refusals -= 1
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        said = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
        answer = f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(said)}\r\nConnection: close\r\n\r\n"
        writer.write(answer.encode() + said)
        await writer.drain()


@asynccontextmanager
async def relay(port: int, address: str = "127.0.0.1") -> AsyncIterator[Relay]:
    """One at *address* that runs until left."""
    made = Relay(port)
    async with await asyncio.start_server(made.carry, address, 0, limit=1 << 20) as server:
        made.url = f"http://{address}:{server.sockets[0].getsockname()[1]}"
        try:
            yield made
        finally:
            made.go_on.set()


async def _back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
