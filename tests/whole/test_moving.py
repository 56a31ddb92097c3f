"""From a disk to a bucket, in a real daemon with serving processes: no visit fails, and no deployment waits."""

import asyncio
import json
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import pytest
import pytest_asyncio

from tests.rigs import s3_servers
from tests.whole.daemon import RunningDaemon, end_all

pytestmark = pytest.mark.timeout(300)

PAGES: Final = {f"page-{number}.html": f"<h1>{number}</h1>".encode() * 20 for number in range(500)}
SITE: Final = {"index.html": b"<h1>one</h1>", "film.mp4": b"f" * 900_000, **PAGES}
TABLE: Final = """
[store]
kind = "disk"
[store.s3]
bucket = "{bucket}"
prefix = "{prefix}"
endpoint = "{url}"
region = "{region}"
access_key = "{access_key}"
secret_key = "{secret_key}"
"""


@pytest_asyncio.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RunningDaemon]:
    async with home_of(tmp_path, s3_servers.url_of("weed")) as opened:
        yield opened


@asynccontextmanager
async def home_of(tmp_path: Path, url: str) -> AsyncIterator[RunningDaemon]:
    """A daemon whose blobs live on the disk, and that knows a bucket."""
    table = TABLE.format(
        bucket=s3_servers.BUCKET,
        prefix=tmp_path.name,
        url=url,
        region=s3_servers.REGION,
        access_key=s3_servers.ACCESS_KEY,
        secret_key=s3_servers.SECRET_KEY,
    )
    opened = RunningDaemon(tmp_path, edge="workers = 2", tables=table)
    try:
        await opened.start()
        yield opened
        await end_all(opened)
    finally:
        opened.kill_all()


async def command(daemon: RunningDaemon, *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scalemesh", *words, "--config", str(daemon.config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        said, talked = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode(), talked.decode()


class Visitors:
    """Look at everything, again and again, on connections that stay and on fresh ones."""

    def __init__(self, daemon: RunningDaemon) -> None:
        self._daemon, self.count = daemon, 0
        self.failed: list[object] = []
        self.cut: list[object] = []

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._look(random.Random(number), number % 2 == 0)) for number in range(4)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, chance: random.Random, stays: bool) -> None:
        connector = aiohttp.TCPConnector(force_close=not stays)
        async with aiohttp.ClientSession(headers={"Host": "shop.localhost"}, connector=connector) as session:
            while True:
                path = chance.choice(["", "film.mp4", *list(PAGES)])
                try:
                    async with session.get(f"http://127.0.0.1:{self._daemon.port}/{path}") as answer:
                        body = await answer.read()
                    if answer.status != 200 or (path in PAGES and body != PAGES[path]):
                        self.failed.append((path, answer.status, body[:100]))
                except aiohttp.ClientError as error:
                    self.cut.append((path, error))
                self.count += 1


async def publish(daemon: RunningDaemon, **changed: bytes) -> None:
    files = {**SITE, **{f"{name}.html": content for name, content in changed.items()}}
    await daemon.until(await daemon.upload("shop", "prebuilt", files), "ready")


async def everything_answers(daemon: RunningDaemon) -> None:
    for _ in range(4):  # enough to meet every serving process
        assert (await daemon.visit("shop.localhost", "/film.mp4"))[:2] == (200, "f" * 900_000)
        assert (await daemon.visit("shop.localhost", "/"))[:2] == (200, "<h1>two</h1>")
        assert (await daemon.visit("shop.localhost", "/extra.html"))[:2] == (200, "<h1>extra</h1>")
    for path, content in random.Random(1).sample(sorted(PAGES.items()), 20):
        assert (await daemon.visit("shop.localhost", f"/{path}"))[:2] == (200, content.decode())


async def test_a_site_moves_to_a_bucket_and_nobody_sees_it(daemon: RunningDaemon, tmp_path: Path) -> None:
    await publish(daemon)
    assert (await command(daemon, "store", "verify"))[0] == 0
    visitors = Visitors(daemon)
    async with visitors.looking():
        moving = asyncio.create_task(command(daemon, "store", "migrate", "--to", "s3", "--json"))
        await daemon.eventually(lambda: phase_of(daemon, "copying"))
        await publish(daemon, index=b"<h1>two</h1>", extra=b"<h1>extra</h1>")
        code, said, talked = await moving
        assert code == 0, talked
        result = json.loads(said)["result"]
        assert (result["well"], result["from"], result["to"]) == (True, "disk", "s3")
        seen = visitors.count
        await daemon.eventually(lambda: visitors.count > seen + 50)
    assert visitors.failed == []
    # A worker that a busy machine keeps from following at once is dropped, with the answers that it was giving.
    assert visitors.cut == [] or "does not follow" in daemon.log()
    await publish(daemon, index=b"<h1>two</h1>", extra=b"<h1>extra</h1>", late=b"<h1>late</h1>")
    await everything_answers(daemon)
    assert (await daemon.call("GET", "/store"))["kind"] == "s3"

    await daemon.stop()
    (tmp_path / "data" / "store" / "blobs").rename(tmp_path / "away")  # nothing is read from there any more
    await daemon.start()
    await everything_answers(daemon)
    assert "the blobs live in s3" in daemon.log()
    code, said, _ = await command(daemon, "store", "verify", "--json")
    found = json.loads(said)["result"]
    assert (code, found["store"], found["unknown"]["count"]) == (0, "s3", 0)
    said = (await command(daemon, "check"))[1]
    assert 'fix: set store.kind = "s3" in the config' in said


async def phase_of(daemon: RunningDaemon, phase: str) -> bool:
    status, found = await daemon.try_call("GET", "/chores/current")
    return status == 200 and found["kind"] == "migrate" and found["phase"] == phase and found["done"] > 0


async def test_a_daemon_that_is_killed_goes_on_with_the_move(daemon: RunningDaemon) -> None:
    await publish(daemon)
    await daemon.call("POST", "/chores", {"kind": "migrate", "to": "s3"})
    await daemon.eventually(lambda: phase_of(daemon, "copying"))
    await daemon.kill()
    await daemon.start()

    async def has_ended() -> bool:
        status, found = await daemon.try_call("GET", "/chores/current")
        return status == 200 and found["state"] == "done"

    await daemon.eventually(has_ended, 60)
    code, said, _ = await command(daemon, "store", "migrate")
    assert (code, said.split()[0]) == (0, "moved")
    code, said, talked = await command(daemon, "store", "verify", "--json")
    assert code == 0, (said, talked)


@pytest.fixture
def own_server() -> Iterator[s3_servers.Server]:
    """One that the test may kill."""
    found = s3_servers.fresh("weed")
    yield found
    found.end()


async def test_a_store_that_is_killed_midway_is_waited_for_and_the_command_may_leave(
    own_server: s3_servers.Server, tmp_path: Path
) -> None:
    async with home_of(tmp_path, own_server.url) as daemon:
        await publish(daemon)
        leaving = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scalemesh", "store", "migrate", "--to", "s3", "--config", str(daemon.config)),
            stderr=asyncio.subprocess.PIPE,
        )
        await daemon.eventually(lambda: phase_of(daemon, "copying"))
        own_server.kill()
        await daemon.eventually(lambda: waits(daemon), 60)
        leaving.send_signal(signal.SIGINT)
        async with asyncio.timeout(60):
            _, talked = await leaving.communicate()
        assert leaving.returncode == 130
        assert b"`scalemesh store migrate --stop` stops it" in talked
        await publish(daemon, index=b"<h1>two</h1>", extra=b"<h1>extra</h1>")  # nobody's deployment waits for it
        assert (await command(daemon, "store", "migrate", "--stop"))[0] == 0
        assert (await daemon.call("GET", "/store"))["move"]["is_stopped"]
        assert (await command(daemon, "store", "migrate"))[0] == 5
        own_server.start()

        async def has_moved() -> bool:
            return (await command(daemon, "store", "migrate", "--to", "s3"))[0] == 0

        await daemon.eventually(has_moved, 90)  # the server is not all there as soon as it answers
        await everything_answers(daemon)


async def waits(daemon: RunningDaemon) -> bool:
    return str((await daemon.call("GET", "/chores/current"))["words"]).startswith("waiting: ")


async def test_a_kind_that_is_changed_without_a_move_is_refused_at_the_start(daemon: RunningDaemon) -> None:
    await publish(daemon)
    await daemon.stop()
    daemon.tables = daemon.tables.replace('kind = "disk"', 'kind = "s3"')
    daemon.launch()
    assert await daemon.ended() != 0
    assert 'the blobs live in "disk"' in daemon.log()
    daemon.tables = daemon.tables.replace('kind = "s3"', 'kind = "disk"')
    await daemon.start()


async def test_the_command_says_what_cannot_be(daemon: RunningDaemon) -> None:
    code, _, talked = await command(daemon, "store", "migrate", "--to", "disk")
    assert (code, "the blobs live in disk already" in talked) == (1, True)
    code, _, talked = await command(daemon, "store", "migrate", "--to", "s4")
    assert (code, "no plug-in of that name" in talked) == (1, True)
    code, _, talked = await command(daemon, "store", "migrate", "--stop")
    assert (code, "is under way" in talked) == (1, True)
