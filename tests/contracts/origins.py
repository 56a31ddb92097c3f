"""Both sides of a proxy: real origins on ports of the system's choice, and a real server in front that passes on."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from scalemesh.config import Proxying
from scalemesh.daemon import PROTOCOL
from scalemesh.edge.answers import Passage
from scalemesh.edge.cache import BlobCache
from scalemesh.edge.cache import Sites as SiteCache
from scalemesh.edge.heads import Head
from scalemesh.edge.listening import Edge, open_edge
from scalemesh.edge.origins.proxy import Proxy
from scalemesh.edge.quick import Quick
from scalemesh.edge.visit import Visits
from scalemesh.services.callers import Callers
from scalemesh.services.routing import RouteTable
from tests.contracts.visits import AT, PATIENT, Got, MemoryStore, parse

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
OPEN = Proxying(allow_networks=("127.0.0.0/8", "::1/128"))
HOST = "shop.localhost:8080"
CLIENT = "203.0.113.9"


@dataclass
class Seen:
    """A request as an origin got it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Origin:
    """Writes down what it is asked, and answers by its handler."""

    def __init__(self, handler: Handler | None = None) -> None:
        self.handler = handler
        self.seen: list[Seen] = []
        self.connections: set[Any] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.connections.add(request.transport)
        if self.handler is not None:
            return await self.handler(request)
        body = await request.read()
        self.seen.append(Seen(request.method, request.raw_path, dict(request.headers), body))
        return web.Response(body=b"" if request.method == "HEAD" else b"from the origin", content_type="text/plain")


@asynccontextmanager
async def serving(handler: Handler, **more: Any) -> AsyncIterator[int]:
    """A server for *handler*; its port."""
    server = web.Server(handler, access_log=None, auto_decompress=False, **more)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@dataclass
class Front:
    """The server that visitors talk to. What it does with the next visit may be changed at any time."""

    proxy: Proxy
    passage: Passage
    port: int = 0
    broken: list[BaseException] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def leads_to(self, url: str, **more: Any) -> None:
        self.passage = replace(self.passage, url=url, **more)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self.proxy.forward(
                request, self.passage, client=CLIENT, scheme="https", host=HOST, request_id="0123456789abcdef"
            )
        except ConnectionError as error:
            self.broken.append(error)
            raise
        finally:
            self.ended.set()

    async def raw(self, data: bytes) -> bytes:
        """All bytes that come back on a connection of its own, until the server closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            async with asyncio.timeout(30):
                return await reader.read()
        finally:
            writer.close()

    async def get(self, target: str = "/", *more: str, method: str = "GET", body: bytes = b"") -> Got:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}", "Connection: close", *more, "", ""]
        return parse(await self.raw("\r\n".join(lines).encode() + body))


class HandsOver(Quick):
    """Knows no answer itself, as of a rule that leads to another origin."""

    def form(self, head: Head, target: bytes) -> None:
        return None

    def answer(self, method: str, head: Head, target: bytes) -> None:
        return None


@asynccontextmanager
async def behind_the_edge(handler: Handler) -> AsyncIterator[int]:
    """A server for *handler* whose connections are the daemon's own; its port."""
    store, routes = MemoryStore(), RouteTable()
    blobs, sites = BlobCache(store), SiteCache(store)
    edge = Edge(
        visits=Visits(routes, store, blobs=blobs, sites=sites),
        quick=HandsOver(routes, sites, blobs, file_of=None, capacity_bytes=1, now=lambda: AT),
        callers=Callers(),
        control="localhost",
        patience=PATIENT,
        visited=lambda _status, _count, _bytes: None,
    )
    sock = socket.create_server(("127.0.0.1", 0))
    server = web.Server(handler, **PROTOCOL)
    async with open_edge(edge, server, sock, backlog=128, stop_s=1, options=PROTOCOL):
        yield sock.getsockname()[1]
    await server.shutdown(1)


@asynccontextmanager
async def front(url: str, settings: Proxying = OPEN, **more: Any) -> AsyncIterator[Front]:
    """A server that passes everything on to *url*."""
    async with Proxy(settings, **more) as proxy:
        made = Front(proxy, Passage(url=url, because="a rule"))
        async with behind_the_edge(made) as made.port:
            yield made


@asynccontextmanager
async def both(handler: Handler | None = None, settings: Proxying = OPEN) -> AsyncIterator[tuple[Origin, Front]]:
    """An origin, and a server in front of it."""
    origin = Origin(handler)
    async with serving(origin) as origin.port, front(origin.url + "/there?x=1", settings) as made:
        yield origin, made


async def until(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds; fails after half a minute."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)
