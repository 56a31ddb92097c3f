"""A visitor's end of one connection, and what they come to."""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from scalemesh.edge.front import Front
from scalemesh.edge.protocol import Connection
from scalemesh.values import Digest
from tests.contracts.visits import MemoryStore, Site

PLAIN: Final = b"GET /about HTTP/1.1\r\nHost: shop.localhost\r\n\r\n"
FILM: Final = b"GET /film.mp4 HTTP/1.1\r\nHost: shop.localhost\r\n\r\n"
CHUNKED: Final = b"POST / HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
SOON_S: Final = 15.0  #: for what happens within a second on a machine that is not busy; far below PATIENT
_HEAD: Final = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r]*\r\n(.*?)\r\n\r\n", re.DOTALL)


class Files:
    """Where large files lie; shared with the store of a site."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, MemoryStore()

    def path(self, digest: Digest) -> Path:
        path = self.folder / digest
        if not path.exists() and digest in self.store.blobs:
            path.write_bytes(self.store.blobs[digest])
        return path


def front_of(site: Site) -> Front:
    assert site.front is not None
    return site.front


def connections(site: Site) -> list[Connection]:
    return [found for found in front_of(site)._open if isinstance(found, Connection)]


def open_files() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


class Visitor:
    """One connection, from the other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def get(self, data: bytes = b"", *, is_head: bool = False) -> tuple[int, bytes]:
        """Send *data* and read one answer."""
        self.send(data)
        async with asyncio.timeout(SOON_S):
            found = _HEAD.fullmatch(await self._reader.readuntil(b"\r\n\r\n"))
            assert found
            length = re.search(rb"Content-Length: (\d+)", found[2])
            size = int(length[1]) if length and not is_head else 0
            return int(found[1]), await self._reader.readexactly(size)

    def end(self) -> None:
        """Send no more."""
        self._writer.write_eof()

    def reset(self) -> None:
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def rest(self, limit_s: float = SOON_S) -> bytes:
        """All that comes until the server closes."""
        received = b""
        with suppress(ConnectionError):
            async with asyncio.timeout(limit_s):
                while data := await self._reader.read(1 << 20):
                    received += data
        return received


@asynccontextmanager
async def visitor(site: Site, *, read_bytes: int = 1 << 20, kernel_bytes: int = 0) -> AsyncIterator[Visitor]:
    """Come to *site*; with *kernel_bytes*, what the systems between hold is as little as may be."""
    sock = socket.socket()
    if kernel_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, kernel_bytes)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", site.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=read_bytes)
    try:
        yield Visitor(reader, writer)
    finally:
        writer.transport.abort()


async def until(holds: Callable[[], bool], limit_s: float = SOON_S) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.01)
