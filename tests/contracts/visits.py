"""A site to visit: a store that can be made to fail, a route table and a real aiohttp server on a free port."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from scalemesh.edge.cache import BlobCache
from scalemesh.edge.cache import Sites as SiteCache
from scalemesh.edge.front import Front, Patience
from scalemesh.edge.listening import Edge, open_edge
from scalemesh.edge.quick import Quick
from scalemesh.edge.visit import Visits
from scalemesh.errors import NotFoundError, UnreachableError
from scalemesh.ports import BlobStore, Finding
from scalemesh.services.callers import Callers
from scalemesh.services.manifests import encode, make_manifest
from scalemesh.services.routing import RouteTable
from scalemesh.values import Blob, DeploymentId, Digest, HostKind, ProjectId, Route, State

ID = DeploymentId("dpl_abcdefghij2345678901")
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PROJECT = ProjectId("prj_a")
PATIENT = Patience(idle_s=60, head_s=60, stall_s=60, connections=1000, connections_per_address=1000)
BIG = bytes(range(256)) * 12_000  # 3 MB: streamed, in many chunks
CHUNK = 64 * 1024
FILES = {
    "index.html": b"<h1>hello</h1>",
    "404.html": b"<h1>lost</h1>",
    "about.html": b"<h1>about</h1>",
    "docs/index.html": b"<h1>docs</h1>",
    "assets/index-BxYz12aB.js": b"console.log(1)",
    "empty.txt": b"",
    "film.mp4": BIG,
    "d\u00fcse.txt": "düse".encode(),
}


class MemoryStore:
    """Blobs in a dict, given out in chunks; counts reads that began and that ended."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.begun: list[Digest] = []
        self.ended: list[Digest] = []

    def add(self, data: bytes) -> Digest:
        digest = Digest(hashlib.sha256(data).hexdigest())
        self.blobs[digest] = data
        return digest

    async def read(self, sha256: Digest, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        self.begun.append(sha256)
        try:
            if sha256 not in self.blobs:
                raise NotFoundError(f"no blob {sha256}")
            data = self.blobs[sha256][start:stop]
            for position in range(0, len(data), CHUNK):
                await asyncio.sleep(0)
                yield data[position : position + CHUNK]
        finally:
            self.ended.append(sha256)

    async def put(self, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        raise NotImplementedError

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        raise NotImplementedError

    async def delete(self, digests: Collection[Digest]) -> None:
        for sha256 in digests:
            del self.blobs[sha256]

    async def check(self) -> Sequence[Finding]:
        return ()


class Unreachable(MemoryStore):
    """Answers until it is cut off."""

    away = False

    async def read(self, sha256: Digest, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        if self.away:
            raise UnreachableError("the store does not answer")
        async for chunk in super().read(sha256, start, stop):
            yield chunk


class DiesMidway(MemoryStore):
    """Breaks off after the first chunk of a large blob."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def read(self, sha256: Digest, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        async for chunk in super().read(sha256, start, stop):
            yield chunk
            if len(chunk) == CHUNK:
                raise self.error


class Hangs(MemoryStore):
    """Begins, and never goes on."""

    async def read(self, sha256: Digest, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        self.begun.append(sha256)
        await asyncio.Event().wait()
        yield b""


@dataclass
class Got:
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)


@dataclass
class Site:
    """A running server with one project on it."""

    store: MemoryStore
    routes: RouteTable
    server: web.Server
    port: int
    front: Front | None = None  #: what the connections of the quick way share

    async def raw(self, data: bytes) -> bytes:
        """All bytes that come back on a connection of its own, until the server closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            async with asyncio.timeout(30):
                return await reader.read()
        finally:
            writer.close()

    async def get(self, target: str, *more: str, method: str = "GET", host: str = "shop.localhost") -> Got:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *more, "", ""]
        return parse(await self.raw("\r\n".join(lines).encode()))


def parse(answer: bytes) -> Got:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    pairs = [line.split(": ", 1) for line in lines]
    assert len({name.lower() for name, _ in pairs}) == len(pairs), f"a header stands there twice: {lines}"
    return Got(int(first.split()[1]), dict(pairs), body)


def route(
    store: MemoryStore, host: str, kind: HostKind = HostKind.PRODUCTION, files: Mapping[str, bytes] = FILES
) -> Route:
    listing = [(path, store.add(data), len(data)) for path, data in files.items()]
    manifest = store.add(encode(make_manifest(ID, AT, listing, ["assets/*-<hash>.*"]).manifest))
    return Route(host=host, kind=kind, project=PROJECT, project_name="shop", deployment=ID, manifest=manifest)


@asynccontextmanager
async def open_site(
    store: MemoryStore,
    *,
    served_from: BlobStore | None = None,
    stall_s: float = 20.0,
    quick: bool = True,
    file_of: Callable[[Digest], Path] | None = None,
    patience: Patience = PATIENT,
    files: Mapping[str, bytes] = FILES,
) -> AsyncIterator[Site]:
    routes = RouteTable()
    nothing_ready = Route(
        host="new.localhost",
        kind=HostKind.PRODUCTION,
        project=PROJECT,
        project_name="new",
        deployment=None,
        manifest=None,
        waiting=State.BUILDING,
    )
    mine = [
        route(store, "shop.localhost", files=files),
        route(store, "shop-678901.localhost", HostKind.PERMALINK),
        nothing_ready,
    ]
    routes.apply(PROJECT, 1, mine)
    read_from = served_from or store
    blobs, sites = BlobCache(read_from, timeout_s=stall_s), SiteCache(read_from, timeout_s=stall_s)
    visits = Visits(routes, read_from, blobs=blobs, sites=sites, stall_s=stall_s)
    server = web.Server(visits.answer, access_log=None)
    sock = socket.create_server(("127.0.0.1", 0))
    if not quick:
        async with listening(server, sock):
            yield Site(store, routes, server, sock.getsockname()[1])
        return
    edge = Edge(
        visits=visits,
        quick=Quick(routes, sites, blobs, file_of=file_of, capacity_bytes=1 << 20, now=lambda: AT),
        callers=Callers(),
        control="localhost",
        patience=patience,
        visited=lambda _status, _count, _bytes: None,
    )
    async with open_edge(edge, server, sock, backlog=128, stop_s=1, options={"access_log": None}) as front:
        yield Site(store, routes, server, sock.getsockname()[1], front)
    await server.shutdown(1)


@asynccontextmanager
async def listening(server: web.Server, sock: socket.socket) -> AsyncIterator[None]:
    """aiohttp alone, without the quick way before it."""
    runner = web.ServerRunner(server)
    await runner.setup()
    try:
        await web.SockSite(runner, sock).start()
        yield
    finally:
        await runner.cleanup()
