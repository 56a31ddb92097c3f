"""A real daemon, a real build, a real S3 server: bytes go straight to the store, whatever happens to it meanwhile."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from tests.rigs.relay import Relay, relay
from tests.rigs.s3_servers import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Server, fresh, started
from tests.whole.daemon import RunningDaemon, end_all, repository

pytestmark = pytest.mark.timeout(300)

UNHELD: Final = 'sandbox = "off"'  #: a build that reaches 127.0.0.1
PAGES: Final = {f"page-{number}.html": f"page {number}\n" * 500 for number in range(150)}


@dataclass
class Place:
    """The parties, and the wires between them."""

    daemon: RunningDaemon
    store: Server
    builds: Relay  #: by which builds reach the store
    own: Relay  #: by which the daemon does

    async def deploy(self, pages: Mapping[str, str]) -> str:
        return await self.daemon.deploy(repository(self.daemon.home, "site", {"index.html": "hello\n", **pages}))

    async def names(self) -> list[str]:
        """Of all objects in the store that are this daemon's."""
        return await asyncio.to_thread(_names, self.store, f"{self.daemon.home.name}/")

    async def is_whole(self, pages: Mapping[str, str]) -> bool:
        """Whether visitors get all of it."""
        found = [(await self.daemon.visit("site.localhost", f"/{path}"))[1] == text for path, text in pages.items()]
        return all(found)


@asynccontextmanager
async def place(
    home: Path,
    executor: str = UNHELD,
    builds: str = "",
    *,
    kind: str = "local",
    tables: str = "",
    address: str = "127.0.0.1",
    kills_store: bool = False,
) -> AsyncIterator[Place]:
    """One whose builds run by *kind*, and reach the store at *address*: that of the run, or for *kills_store* its own."""
    # That of the run must not end with a thread of this test's loop, as what such a thread starts does.
    store = await asyncio.to_thread(fresh, "weed") if kills_store else started("weed")
    port = urlsplit(store.url).port or 0
    async with relay(port, address) as way, relay(port) as own:
        store_table = f"""
            [store]
            kind = "s3"
            [store.s3]
            bucket = "{BUCKET}"
            prefix = "{home.name}"
            region = "{REGION}"
            path_style = true
            endpoint = "{own.url}"
            public_endpoint = "{way.url}"
            access_key = "{ACCESS_KEY}"
            secret_key = "{SECRET_KEY}"
        """
        daemon = RunningDaemon(home, executor=executor, builds=builds, kinds=(kind,), tables=tables + store_table)
        way.counts = b"/staging/dpl_"
        try:
            await daemon.start()
            yield Place(daemon, store, way, own)
            await end_all(daemon)
        finally:
            daemon.kill_all()
            if kills_store:
                store.end()


async def test_the_bytes_of_a_build_pass_the_daemon_by(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        deployment = await there.deploy(PAGES)
        await there.daemon.until(deployment, "ready")
        text = await there.daemon.text(deployment)
        assert "Uploaded 151 files" in text
        assert ", straight to the store" in text
        size = sum(len(page) for page in {"hello\n", *PAGES.values()})
        assert size < there.builds.sent < 1.5 * size + 151 * 1500  # and their heads
        assert 151 <= (first := there.builds.count) < 170
        assert there.own.sent < size / 2 + 151 * 2500  # it copies by name alone
        assert await there.is_whole(dict(list(PAGES.items())[:20]))
        again = await there.deploy({"one.html": "one more\n"})
        await there.daemon.until(again, "ready")
        assert "Uploaded 1 files" in await there.daemon.text(again)
        assert there.builds.count == first + 1


async def test_a_url_that_has_expired_is_asked_for_again(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        there.builds.refusals = 2
        deployment = await there.deploy({})
        await there.daemon.until(deployment, "ready")
        assert ", straight to the store" in await there.daemon.text(deployment)
        assert (there.builds.refusals, there.builds.count) == (0, 1)


async def test_a_store_that_is_killed_while_builds_send_and_started_again_loses_nothing(tmp_path: Path) -> None:
    async with place(tmp_path, kills_store=True) as there:
        there.builds.most = 200_000
        deployment = await there.deploy(PAGES)
        await asyncio.wait_for(there.builds.reached.wait(), 120)
        there.store.kill()
        there.builds.go_on.set()
        assert (await there.daemon.get(deployment))["state"] == "building"
        await asyncio.to_thread(there.store.start)
        await there.daemon.until(deployment, "ready")
        assert ", straight to the store" in await there.daemon.text(deployment)
        assert await there.is_whole(PAGES)


async def test_a_daemon_that_is_killed_while_builds_send_finds_what_was_sent_without_it(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        there.builds.most = 200_000
        deployment = await there.deploy(PAGES)
        await asyncio.wait_for(there.builds.reached.wait(), 120)
        await there.daemon.kill()
        there.builds.go_on.set()
        await there.daemon.start()
        await there.daemon.until(deployment, "ready")
        assert ", straight to the store" in await there.daemon.text(deployment)
        assert 151 <= there.builds.count < 170  # not all of it twice
        assert await there.is_whole(PAGES)


async def test_a_store_that_is_killed_while_the_daemon_publishes_and_started_again_loses_nothing(
    tmp_path: Path,
) -> None:
    async with place(tmp_path, kills_store=True) as there:
        there.own.word = b"/adopted/dpl_"
        deployment = await there.deploy(PAGES)
        await asyncio.wait_for(there.own.reached.wait(), 120)
        there.store.kill()
        there.own.go_on.set()
        assert (await there.daemon.get(deployment))["state"] == "publishing"
        await there.daemon.until_said(deployment, "Waiting: ")
        await asyncio.to_thread(there.store.start)
        await there.daemon.until(deployment, "ready")
        assert await there.is_whole(PAGES)


async def test_a_store_that_is_killed_while_it_copies_what_is_ready_and_started_again_loses_nothing(
    tmp_path: Path,
) -> None:
    async with place(tmp_path, kills_store=True) as there:
        there.own.word = b"x-amz-copy-source"
        deployment = await there.deploy(PAGES)
        await asyncio.wait_for(there.own.reached.wait(), 120)
        there.store.kill()
        there.own.go_on.set()
        assert (await there.daemon.get(deployment))["state"] == "ready"
        await asyncio.to_thread(there.store.start)
        await there.daemon.eventually(lambda: there.is_whole(PAGES), 120)  # it is not all there as soon as it answers
        async with asyncio.timeout(200):
            while any("/adopted/" in f"/{name}" or "/staging/" in f"/{name}" for name in await there.names()):
                await asyncio.sleep(0.2)
        blobs = {name.rpartition("/")[2] for name in await there.names()}
        assert {hashlib.sha256(page.encode()).hexdigest() for page in PAGES.values()} <= blobs


async def test_a_build_that_is_kept_from_the_store_sends_through_the_daemon_and_says_why(tmp_path: Path) -> None:
    async with place(tmp_path, executor="") as there:
        deployment = await there.deploy({"a.html": "a\n"})
        await there.daemon.until(deployment, "ready")
        text = await there.daemon.text(deployment)
        assert text.count("so its files go through the daemon. To send them straight, let builds reach 127.0.0.1") == 1
        assert "Uploaded 2 files" in text
        assert there.builds.count == 0
        assert (await there.daemon.visit("site.localhost", "/a.html"))[1] == "a\n"


@pytest.mark.parametrize("network", ["packages", "none"])
async def test_a_build_without_a_network_sends_through_the_daemon(tmp_path: Path, network: str) -> None:
    async with place(tmp_path, executor="", builds=f'network = "{network}"') as there:
        command = {"buildCommand": "mkdir out && echo made > out/index.html", "outputDirectory": "out"}
        deployment = await there.daemon.upload("site", "source", {"vercel.json": json.dumps(command).encode()})
        await there.daemon.until(deployment, "ready")
        text = await there.daemon.text(deployment)
        assert text.count("so its files go through the daemon") == 1
        assert ("This build has no network of its own" in text) is (network == "packages")
        assert (await there.daemon.visit("site.localhost"))[1] == "made\n"


async def test_what_lies_in_the_store_afterwards_is_what_was_built_and_nothing_staged(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        deployment = await there.deploy({"a.html": "a\n"})
        await there.daemon.until(deployment, "ready")
        await there.daemon.until_said(deployment, "Ready")
        names = await there.names()
        assert any(name.endswith(hashlib.sha256(b"a\n").hexdigest()) for name in names)
        assert not any("staging" in name for name in names)


def _names(store: Server, prefix: str) -> list[str]:
    found = store.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    return [str(each["Key"]) for each in found["Contents"]]
