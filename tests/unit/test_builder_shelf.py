"""Archives for later builds on their way to the daemon: what is not kept is told, with the reason."""

import asyncio
import hashlib
import ssl
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from aiohttp import web

from builder.api import Api, Contact
from builder.archives import Archive
from builder.errors import GivenUp
from builder.life import Life
from builder.shelf import Shelf
from builder.store import Store

DATA = b"packed" * 1000


class NeverTakes:
    """A daemon whose way in for archives is shut: an upload is neither taken nor refused, unless with *status*."""

    def __init__(self, status: int = 0) -> None:
        self._status = status
        self._over = asyncio.Event()
        self.asked = asyncio.Event()
        self.kept: list[str] = []

    async def place(self, _: web.Request) -> web.Response:
        return web.json_response({"put": {"url": "/build/v1/cache/blobs/x", "headers": {}}})

    async def put(self, _: web.Request) -> web.Response:
        self.asked.set()
        if not self._status:
            await self._over.wait()
        words = {"title": "there is no room", "detail": "the disk is full"}
        return web.json_response(words, status=self._status or 500, content_type="application/problem+json")

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        app = web.Application()
        app.add_routes(
            [web.post("/build/v1/cache/blobs", self.place), web.put("/build/v1/cache/blobs/{sha256}", self.put)]
        )
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._over.set()
        await runner.cleanup()


def packed(folder: Path) -> Archive:
    (folder / "archive").write_bytes(DATA)
    return Archive(folder / "archive", hashlib.sha256(DATA).hexdigest(), len(DATA), len(DATA))


async def kept(daemon: NeverTakes, folder: Path, life: Life, *, time_s: float = 100) -> tuple[list[str], float]:
    """What was said of one archive at the end of a build, and how long that took."""
    said: list[str] = []
    async with daemon.listening() as address:
        with closing(Api(address, "tok", Contact(life))) as api:
            shelf = Shelf(api, Store(life, ssl.create_default_context, {}, said.append), time_s)
            shelf.keep("modules", "key", packed(folder), 1.0, "the installed packages", at_once=True)
            await daemon.asked.wait()
            began = time.monotonic()
            await asyncio.to_thread(shelf.finish, said.append)
            return said, time.monotonic() - began


@pytest.mark.parametrize("status", [507, 422])
async def test_what_the_daemon_refuses_to_keep_is_told_in_its_words(tmp_path: Path, status: int) -> None:
    said, _ = await kept(NeverTakes(status), tmp_path, Life())
    assert said == ["Not kept for later builds: the installed packages: there is no room. the disk is full"]


async def test_an_archive_that_does_not_arrive_in_time_is_told(tmp_path: Path) -> None:
    life = Life()
    life.limit(2)  # the rest of its time is not waited away
    said, took_s = await kept(NeverTakes(), tmp_path, life)
    assert said == ["Not kept for later builds: the installed packages: it is still on its way after 1 s"]
    assert took_s < 2


async def test_nobody_waits_for_archives_of_a_build_that_is_cancelled(tmp_path: Path) -> None:
    life = Life()
    threading.Timer(0.3, life.end, [GivenUp("cancelled")]).start()
    _, took_s = await kept(NeverTakes(), tmp_path, life, time_s=1000)
    assert took_s < 5
