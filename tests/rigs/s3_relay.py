"""Stands before an HTTP server, carries requests and answers, and can refuse, stall, cut, or listen with TLS."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, Self
from urllib.parse import urlsplit

_MOST_HEAD_BYTES: Final = 256 * 1024
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class Rule:
    """What happens to the next *times* requests that match, instead of being carried; held ones are carried later."""

    matches: Callable[[Asked], bool]
    times: int
    does: Literal["answer", "stall", "cut", "hold"]
    status: int = 503
    code: str = "SlowDown"
    after_bytes: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    released: asyncio.Event = field(default_factory=asyncio.Event)


class Relay:
    """To one server. Each request goes over a connection of its own. Takes requests as a proxy does, too."""

    def __init__(self, server: str) -> None:
        self._server = urlsplit(server)
        self._listening: asyncio.Server | None = None
        self._carried: set[asyncio.Task[None]] = set()
        self._scheme = "http"
        self.rules: list[Rule] = []
        self.asked: list[Asked] = []
        self.under_way = self.most_under_way = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, server: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        relay = cls(server)
        relay._scheme = "https" if tls else "http"
        relay._listening = await asyncio.start_server(relay._accept, "127.0.0.1", 0, ssl=tls)
        try:
            yield relay
        finally:
            relay._listening.close()
            for task in relay._carried:
                task.cancel()
            await asyncio.gather(*relay._carried, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self._listening is not None
        return f"{self._scheme}://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"

    def refuse(
        self,
        times: int,
        method: str = "",
        *,
        status: int = 503,
        code: str = "SlowDown",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.rules.append(Rule(_is(method), times, "answer", status=status, code=code, headers=headers or {}))

    def stall(self, times: int, method: str = "") -> None:
        """Take the request and say nothing."""
        self.rules.append(Rule(_is(method), times, "stall"))

    def cut(self, times: int, after_bytes: int, method: str = "GET", path: str = "/blobs/") -> None:
        """Carry so many bytes of the answer, and close."""
        self.rules.append(
            Rule(lambda asked: asked.method == method and path in asked.path, times, "cut", after_bytes=after_bytes)
        )

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._carried.add(task)
        task.add_done_callback(self._carried.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._carry(reader, writer)
        finally:
            self.under_way -= 1
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        fields = [line.partition(":") for line in lines[1:] if line]
        headers = {name.lower(): value.strip() for name, _, value in fields}
        asked = Asked(method, target, headers)
        self.asked.append(asked)
        if headers.get("expect"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        rule = self._rule(asked)
        if rule is not None and rule.does == "stall":
            await reader.read()  # until the other side gives up
            return
        if rule is not None and rule.does == "answer":
            told = f"<Error><Code>{rule.code}</Code><Message>by the relay</Message></Error>"
            more = "".join(f"{name}: {value}\r\n" for name, value in rule.headers.items())
            writer.write(
                f"HTTP/1.1 {rule.status} No\r\nContent-Type: application/xml\r\n{more}"
                f"Content-Length: {len(told)}\r\nConnection: close\r\n\r\n{told}".encode()
            )
            await writer.drain()
            return
        if rule is not None and rule.does == "hold":
            await rule.released.wait()
        path = target[target.index("/", 8) :] if target.startswith("http") else target  # as a proxy is asked
        kept = "".join(
            f"{name}:{value}\r\n" for name, _, value in fields if name.lower() not in {"connection", "expect"}
        )
        request = f"{method} {path} HTTP/1.1\r\n{kept}Connection: close\r\n\r\n".encode("latin-1") + body
        cut = rule.after_bytes if rule and rule.does == "cut" else None
        await self._exchange(request, writer, 0 if method == "HEAD" else cut)

    async def _exchange(self, request: bytes, writer: asyncio.StreamWriter, most: int | None) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._server.hostname, self._server.port)
        try:
            far_writer.write(request)
            head = await far_reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            told = _LENGTH.search(head)
            # Over with the last byte that was told: the client may come again before the server closes.
            left = min((each for each in (most, int(told[1]) if told else None) if each is not None), default=None)
            while (left is None or left > 0) and (
                data := await far_reader.read(65536 if left is None else min(left, 65536))
            ):
                writer.write(data)
                await writer.drain()
                left = None if left is None else left - len(data)
        finally:
            far_writer.close()

    def _rule(self, asked: Asked) -> Rule | None:
        for rule in self.rules:
            if rule.times > 0 and rule.matches(asked):
                rule.times -= 1
                return rule
        return None


def _is(method: str) -> Callable[[Asked], bool]:
    return lambda asked: method in {"", asked.method}
