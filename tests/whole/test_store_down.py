"""A store elsewhere that dies: what is cached is served, all else is told to come again, and builds wait."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import pytest
import pytest_asyncio
from multidict import CIMultiDict

from tests.rigs import s3_servers
from tests.rigs.s3_servers import Server
from tests.whole.daemon import RunningDaemon, end_all, repository
from tests.whole.sites import HELLO, PAUSE, built_by, let_go_on

pytestmark = pytest.mark.timeout(300)

HOST: Final = "shop.localhost"
FILM: Final = os.urandom(900_000)
OTHER: Final = os.urandom(800_000)
FILES: Final = {
    "index.html": b"<h1>home</h1>",
    "cold.html": b"<h1>cold</h1>",
    "film.mp4": FILM,
    "other.mp4": OTHER,
}
STORE: Final = """
[store]
kind = "s3"
[store.s3]
bucket = "{bucket}"
prefix = "{prefix}"
endpoint = "{endpoint}"
region = "us-east-1"
path_style = true
access_key = "{access_key}"
secret_key = "${{STORE_SECRET}}"
tries = 2
connect_timeout_s = 1.0
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of this module's own, since its tests kill it."""
    found = s3_servers.fresh("weed")
    yield found
    found.end()


@pytest.fixture
def up(server: Server) -> Server:
    """The server, running."""
    if server.process is None or server.process.poll() is not None:
        server.start()
    return server


@asynccontextmanager
async def daemon_on(
    server: Server, home: Path, *, edge: str = "", secret: str = s3_servers.SECRET_KEY
) -> AsyncIterator[RunningDaemon]:
    table = STORE.format(
        bucket=s3_servers.BUCKET, prefix=home.name, endpoint=server.url, access_key=s3_servers.ACCESS_KEY
    )
    daemon = RunningDaemon(home, tables=table, edge=edge, environ={"STORE_SECRET": secret})
    try:
        await daemon.start()
        yield daemon
        await end_all(daemon)
    finally:
        daemon.kill_all()


@pytest_asyncio.fixture(params=["", "workers = 2"], ids=["alone", "workers"])
async def daemon(request: pytest.FixtureRequest, up: Server, tmp_path: Path) -> AsyncIterator[RunningDaemon]:
    async with daemon_on(up, tmp_path, edge=str(request.param)) as opened:
        await opened.until(await opened.upload("shop", "prebuilt", FILES), "ready")
        yield opened


async def got(
    daemon: RunningDaemon, path: str, method: str = "GET", **headers: str
) -> tuple[int, bytes, CIMultiDict[str]]:
    """An answer, on a connection of its own."""
    url = f"http://127.0.0.1:{daemon.port}{path}"
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=40)) as session,
        session.request(method, url, headers={"Host": HOST, **headers}) as answer,
    ):
        return answer.status, await answer.read(), CIMultiDict(answer.headers)


async def serves_what_is_cached(daemon: RunningDaemon) -> None:
    """By whichever process."""
    for _ in range(4):
        status, body, headers = await got(daemon, "/")
        assert (status, body) == (200, FILES["index.html"])
        assert (await got(daemon, "/", **{"If-None-Match": headers["ETag"]}))[0] == 304
        assert (await got(daemon, "/film.mp4"))[:2] == (200, FILM)
        assert (await got(daemon, "/film.mp4", Range="bytes=600000-600009"))[:2] == (206, FILM[600_000:600_010])
        ranges = await got(daemon, "/film.mp4", Range="bytes=0-9,700000-700009")
        assert ranges[0] == 206
        assert FILM[:10] in ranges[1]
        assert FILM[700_000:700_010] in ranges[1]
        assert (await got(daemon, "/film.mp4", "HEAD"))[0] == 200
        assert (await got(daemon, "/nothing"))[0] == 404


async def refuses_what_is_cold(daemon: RunningDaemon, *paths: str) -> None:
    for path in paths:
        status, _, headers = await got(daemon, path)
        assert (status, int(headers["Retry-After"]) > 0) == (503, True), path
        assert (await got(daemon, path, Range="bytes=0-9"))[0] == 503
        status, _, headers = await got(daemon, path, "HEAD")
        assert (status, headers["Content-Length"]) == (200, str(len(FILES[path[1:]])))  # its manifest is here


async def test_what_is_cached_is_served_while_the_store_is_dead_and_after_a_restart(
    daemon: RunningDaemon, up: Server
) -> None:
    assert (await got(daemon, "/"))[0] == 200
    assert (await got(daemon, "/film.mp4"))[1] == FILM
    up.kill()
    await serves_what_is_cached(daemon)
    await refuses_what_is_cold(daemon, "/other.mp4")

    await daemon.kill()
    await daemon.start()
    assert "the store" in daemon.log()
    await serves_what_is_cached(daemon)
    await refuses_what_is_cold(daemon, "/other.mp4")
    await tells_of_it(daemon)

    up.start()
    await daemon.eventually(lambda: is_well(daemon, "/other.mp4"))
    assert (await got(daemon, "/other.mp4"))[1] == OTHER
    assert (await got(daemon, "/cold"))[1] == FILES["cold.html"]


async def is_well(daemon: RunningDaemon, path: str) -> bool:
    return (await got(daemon, path))[0] == 200


async def tells_of_it(daemon: RunningDaemon) -> None:
    status, body, _ = await got(daemon, "/api/v1/health", Host="localhost")
    assert (status, json.loads(body)) == (200, {"status": "degraded"})
    checks = (await daemon.call("GET", "/status"))["checks"]
    assert [(check["part"], "store" in check["what"]) for check in checks if not check["ok"]] == [("store", True)]


async def test_a_file_that_was_thrown_away_is_fetched_again(daemon: RunningDaemon) -> None:
    """Also where its answer was ready to be sent."""
    for _ in range(8):
        assert (await got(daemon, "/film.mp4"))[1] == FILM
    cached = list((daemon.data / "cache").glob("*/blobs/*/*"))
    assert len(cached) >= 2
    for blob in cached:
        blob.unlink()
    for _ in range(4):
        assert (await got(daemon, "/film.mp4"))[1] == FILM
        assert (await got(daemon, "/film.mp4", Range="bytes=5-9"))[:2] == (206, FILM[5:10])
        assert (await got(daemon, "/"))[1] == FILES["index.html"]


async def test_a_store_that_hangs_keeps_nobody_waiting_for_long(up: Server, tmp_path: Path) -> None:
    """It takes connections and says nothing: neither visits of what is here nor a start wait for it."""
    async with daemon_on(up, tmp_path) as daemon:
        await daemon.until(await daemon.upload("shop", "prebuilt", FILES), "ready")
        assert (await got(daemon, "/"))[0] == (await got(daemon, "/film.mp4"))[0] == 200
        assert up.process is not None
        up.process.send_signal(signal.SIGSTOP)
        try:
            await daemon.kill()
            await daemon.start()
            cold = [asyncio.create_task(got(daemon, "/other.mp4", Range=f"bytes={n}-{n}")) for n in range(50)]
            async with asyncio.timeout(40):
                await serves_what_is_cached(daemon)
            async with asyncio.timeout(40):
                assert {status for status, _, _ in await asyncio.gather(*cold)} == {503}
        finally:
            up.process.send_signal(signal.SIGCONT)
        await daemon.eventually(lambda: is_well(daemon, "/other.mp4"), 60)


async def test_builds_and_deployments_wait_for_the_store(up: Server, tmp_path: Path) -> None:
    """One that builds while it dies, one that comes to it dead, and a folder that a person deploys by the command."""
    async with daemon_on(up, tmp_path) as daemon:
        await daemon.until(await daemon.upload("shop", "prebuilt", FILES), "ready")
        running = await daemon.deploy(repository(tmp_path, "runs", built_by(f"echo begun; {PAUSE}; {HELLO}")))
        await daemon.until_said(running, "begun")
        up.kill()
        let_go_on(daemon.data / "jobs", running)
        later = await daemon.deploy(repository(tmp_path, "later", built_by(HELLO)))
        site = tmp_path / "site"
        site.mkdir()
        (site / "index.html").write_text("<h1>by hand</h1>")
        words = ("deploy", str(site), "--prebuilt", "--project", "hand")
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scalemesh", "--config", str(daemon.config), *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert command.stdout is not None
        async with asyncio.timeout(60):
            while "Waiting: " not in (await command.stdout.readline()).decode():
                pass
        await daemon.eventually(lambda: "a request failed" in daemon.log())  # a builder came to the store
        assert {(await daemon.get(each))["state"] for each in (running, later)} <= {"building", "queued"}
        assert (await got(daemon, "/", Host="runs.localhost"))[0] == 503  # nothing is published there yet

        up.start()
        for each in (running, later):
            assert (await daemon.until(each, "ready"))["attempt"] == 1
        async with asyncio.timeout(60):
            said = (await command.communicate())[0].decode()
        assert command.returncode == 0, said
        for host in ("runs", "later", "hand"):
            assert (await got(daemon, "/", Host=f"{host}.localhost"))[0] == 200
        assert "Traceback" not in daemon.log()


async def test_a_deployment_ends_while_the_store_is_dead(up: Server, tmp_path: Path) -> None:
    """Its log is closed, who follows it is told; what it had uploaded goes when the store is back."""
    async with daemon_on(up, tmp_path) as daemon:
        waiting = await daemon.deploy(repository(tmp_path, "site", built_by("echo begun; sleep 600")))
        await daemon.until_said(waiting, "begun")
        up.kill()
        await daemon.call("POST", f"/deployments/{waiting}/cancel")
        assert (await daemon.until(waiting, "canceled"))["state"] == "canceled"
        await daemon.until_said(waiting, "Canceled")
        up.start()


async def test_wrong_settings_stop_the_start_all_the_same(up: Server, tmp_path: Path) -> None:
    daemon = RunningDaemon(tmp_path)
    with pytest.raises(AssertionError, match="no address"):
        async with daemon_on(up, tmp_path, secret="wrong-secret") as daemon:
            pass
    assert "does not accept the credentials" in daemon.log()
