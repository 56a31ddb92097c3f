"""A build that uploads its output, and what it uploads to: a daemon that gives URLs, and a store with bad days."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from builder.api import Api, Contact
from builder.collect import Collected, collect
from builder.life import Life
from builder.store import Store
from builder.tree import Tree
from builder.upload import Sent, upload


@dataclass
class Daemon:
    """Gives URLs of a store and takes what does not go there; ``answers`` are what the store says to its next PUTs."""

    address: str = ""
    store: str = ""  #: where the URLs lead; empty: to the daemon itself
    answers: list[tuple[int, str]] = field(default_factory=list)
    asked: list[list[str]] = field(default_factory=list)  #: the digests of each question
    puts: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)  #: to the store: target, headers, body
    kept: dict[str, bytes] = field(default_factory=dict)  #: by the store
    taken: dict[str, bytes] = field(default_factory=dict)  #: by the daemon
    aborts: int = 0  #: so many PUTs are cut off unread

    async def blobs(self, request: web.Request) -> web.Response:
        digests = [each["sha256"] for each in (await request.json())["digests"]]
        self.asked.append(digests)
        missing = [one for one in digests if one not in self.taken]
        return web.json_response({"missing": [{"sha256": one, "put": self._put_of(one)} for one in missing]})

    async def take(self, request: web.Request) -> web.Response:
        self.taken[request.match_info["sha256"]] = await request.read()
        return web.Response(status=204)

    async def put(self, request: web.Request) -> web.Response:
        if self.aborts:
            self.aborts -= 1
            assert request.transport is not None
            request.transport.abort()
        data = await request.read()
        self.puts.append((request.path_qs, dict(request.headers), data))
        if self.answers:
            status, text = self.answers.pop(0)
            return web.Response(status=status, text=text)
        self.kept[request.match_info["sha256"]] = data
        return web.Response()

    async def get(self, request: web.Request) -> web.StreamResponse:
        if self.answers:
            status, text = self.answers.pop(0)
            return web.Response(status=status, text=text)
        return web.Response(body=self.kept[request.match_info["sha256"]])

    def _put_of(self, digest: str) -> dict[str, Any]:
        if not self.store:
            return {"url": f"/build/v1/blobs/{digest}", "headers": {}}
        return {"url": f"{self.store}/bucket/{digest}?sig={len(self.asked)}", "headers": {"X-Amz-Extra": "1"}}


@asynccontextmanager
async def serving_daemon() -> AsyncIterator[Daemon]:
    """One that listens, as its store does."""
    served = Daemon()
    app = web.Application(client_max_size=1 << 30)
    app.add_routes(
        [
            web.post("/build/v1/blobs", served.blobs),
            web.put("/build/v1/blobs/{sha256}", served.take),
            web.put("/bucket/{sha256}", served.put),
            web.get("/bucket/{sha256}", served.get),
        ]
    )
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.address = served.store = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


@dataclass
class Build:
    """A build that has its output and uploads it."""

    folder: Path
    life: Life = field(default_factory=Life)
    said: list[str] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    has_network: bool = True
    trusts: Callable[[], ssl.SSLContext] = ssl.create_default_context

    @property
    def files(self) -> list[Collected]:
        return collect(Tree(self.folder), (1 << 30, 100_000), lambda: None)[0]

    @property
    def store(self) -> Store:
        return Store(self.life, self.trusts, self.environ, self.said.append, has_network=self.has_network)

    async def upload(self, daemon: Daemon, files: list[Collected] | None = None) -> Sent:
        files = files or self.files
        with closing(Api(daemon.address, "tok", Contact(self.life))) as api:
            return await asyncio.to_thread(upload, files, Tree(self.folder), api, self.store)
