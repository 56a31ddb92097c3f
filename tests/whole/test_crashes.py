"""A power switch at every point where something is written: each deployment comes to its right end all the same."""

import asyncio
import json
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from scalemesh.faults import POINTS
from tests.whole.daemon import RunningDaemon, repository, running_daemon
from tests.whole.sites import HELLO, PAUSE, built_by, let_go_on
from tests.whole.small_disk import fill, needs_root, on_a_small_disk

pytestmark = pytest.mark.timeout(300)

GOOD: Final = (
    "mkdir -p out/a; echo built; for n in 1 2 3; do echo page $n >out/a/$n.html; done; echo new >out/index.html"
)
OLD_PAGE: Final = "<h1>hello</h1>\n"
KILLED: Final = -9
LINES: Final = 100_000


@dataclass(frozen=True)
class Crash:
    """Where the daemon dies, what leads there, and how the deployment ends all the same."""

    fault: str
    script: str = GOOD
    cancels: bool = False
    end: str = "ready"
    last_words: str = "Ready"


#: Points that the ordinary deployment does not lead to, or that the start's own check of the store hits first.
LED_TO: Final[Mapping[str, list[Crash]]] = {
    "store.before_link": [Crash("store.before_link:2"), Crash("store.before_link:4"), Crash("store.before_link:7")],
    "store.after_link": [Crash("store.after_link:2"), Crash("store.after_link:5"), Crash("store.after_link:7")],
    "delete.after_commit": [],  # nothing is thrown away here: see test_upkeep_crashes.py
    "expiry.after_log": [],
    "leftovers.after_logs": [],
    "adopt.after_list": [],  # a store in a bucket: tests/contracts/buckets/test_settling_cut_off.py, test_settling.py
    "settle.after_copies": [],
    "settle.after_uploads": [],
    "settle.after_list": [],
    "window.after_blob": [],  # nothing leaves production here: see the test of its own
    "collect.after_doom": [],  # an hour passes before anything is collected: tests/contracts/test_collector.py
    "collect.after_delete": [],
    **{point: [] for point in POINTS if point.startswith("move.")},  # nothing moves here: contracts/test_moving.py
    "logs.after_append": [Crash("logs.after_append"), Crash("logs.after_append:3")],
    "ledger.before_routes": [Crash(f"ledger.before_routes:{n}") for n in (2, 3, 4, 5)],
    "end.after_commit": [
        Crash("end.after_commit", "echo no; exit 7", end="failed", last_words="Failed (command_failed)")
    ],
    "cancel.after_commit": [
        Crash("cancel.after_commit", "echo built; sleep 600", cancels=True, end="canceled", last_words="Canceled")
    ],
    "cancel.after_stop": [
        Crash("cancel.after_stop", "echo built; sleep 600", cancels=True, end="canceled", last_words="Canceled")
    ],
}
CRASHES: Final = [crash for point in POINTS for crash in LED_TO.get(point, [Crash(point)])]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a site that is live; each test begins with a copy of its data."""
    home = tmp_path_factory.mktemp("before")
    async with running_daemon(home) as daemon:
        found = await daemon.until(await daemon.deploy(repository(home, "site", built_by(HELLO))), "ready")
        await ended_cleanly(daemon, found, "Ready")
        await daemon.eventually(lambda: is_encoded(daemon, found["id"]))  # or a start would go on with it
    return home


def is_encoded(daemon: RunningDaemon, deployment: str) -> bool:
    """Whether its variants are made: nothing that a visitor of small pages can see."""
    with closing(sqlite3.connect(f"file:{daemon.data / 'scalemesh.db'}?mode=ro", uri=True)) as database:
        row = database.execute("SELECT encodings FROM deployment WHERE id = ?", (deployment,)).fetchone()
    return bool(row and row[0])


@pytest.fixture
def daemon(before: Path, tmp_path: Path) -> Iterator[RunningDaemon]:
    """Not started yet. Whatever the test does to it, no process of it stays."""
    home = tmp_path / "home"
    shutil.copytree(before / "data", home / "data", symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
    shutil.copytree(before / "git", home / "git")
    (home / "work").mkdir()
    daemon = RunningDaemon(home)
    yield daemon
    daemon.kill_all()


@pytest.mark.parametrize("crash", CRASHES, ids=[crash.fault for crash in CRASHES])
async def test_a_crash_changes_nothing_of_how_a_deployment_ends(daemon: RunningDaemon, crash: Crash) -> None:
    url = repository(daemon.home, "mine", built_by(crash.script))
    await daemon.start(SCALEMESH_FAULT=crash.fault)
    await lead_to(daemon, url, crash)
    assert await daemon.ended() == KILLED, "the point was never reached"

    await daemon.start()
    assert await page(daemon, "site.localhost") == OLD_PAGE
    mine = [found for found in await everything(daemon) if found["project"] == "mine"]
    assert len(mine) == 1
    found = await daemon.until(mine[0]["id"], crash.end)
    await ended_cleanly(daemon, found, crash.last_words)
    if crash.end == "ready":
        assert await page(daemon, "mine.localhost") == "new\n"
        assert [await page(daemon, "mine.localhost", f"/a/{n}.html") for n in (1, 2, 3)] == [
            "page 1\n",
            "page 2\n",
            "page 3\n",
        ]
    await daemon.stop()


async def lead_to(daemon: RunningDaemon, url: str, crash: Crash) -> None:
    """Do what leads to the point; the daemon may die of it at any moment."""
    with suppress(aiohttp.ClientError, OSError):
        deployment = await daemon.deploy(url)
        if crash.cancels:
            await daemon.until_said(deployment, "built")
            await daemon.call("POST", f"/deployments/{deployment}/cancel")


async def ended_cleanly(daemon: RunningDaemon, found: dict[str, Any], last_words: str) -> None:
    """Its log is whole and closed, and nothing of it is left."""
    rows = await followed(daemon, found["id"])
    assert rows[-1]["end"]["state"] == found["state"]
    lines = await daemon.lines(found["id"])
    assert rows[:-1] == lines
    ends = [line["text"] for line in lines if line["step"] == "end"]
    assert len(ends) == 1, lines
    assert ends[0].startswith(last_words)
    built = [line["text"] for line in lines if line["step"] == "build" and line["stream"] == "out"]
    assert built in ([], ["built"], ["no"]), "a line of the build is lost or doubled"
    await daemon.eventually(lambda: not daemon.processes(found["id"]), what=str(daemon.processes(found["id"])))
    await daemon.eventually(lambda: not daemon.temporary_files(), what=str(daemon.temporary_files()))


async def followed(daemon: RunningDaemon, deployment: str) -> list[dict[str, Any]]:
    """The log as a follower reads it, to its end."""
    url = f"http://x/api/v1/deployments/{deployment}/logs?follow=1"
    async with asyncio.timeout(60), daemon.session() as session, session.get(url) as answer:
        return [json.loads(line) async for line in answer.content if line.strip()]


async def test_the_last_words_are_said_however_the_daemon_ends(daemon: RunningDaemon) -> None:
    """A prebuilt folder has no builder that would go on: the daemon alone must finish it."""
    await daemon.start(SCALEMESH_FAULT="publish.after_commit")
    with suppress(aiohttp.ClientError, OSError, AssertionError):
        await daemon.upload("folder", "prebuilt", {"index.html": b"whole"})
    assert await daemon.ended() == KILLED
    await daemon.start()
    found = next(found for found in await everything(daemon) if found["project"] == "folder")
    await ended_cleanly(daemon, await daemon.until(found["id"], "ready"), "Ready")
    assert await page(daemon, "folder.localhost") == "whole"
    await daemon.stop()


async def test_random_kills_lose_and_double_no_line_and_change_no_byte(daemon: RunningDaemon) -> None:
    chance = random.Random(20)
    daemon.builds = "log_mib = 64"
    part = LINES // 10
    script = f"""
        for part in 0 1 2 3 4 5 6 7 8 9; do
            seq -f 'line %.0f' $((part * {part} + 1)) $((part * {part} + {part})); sleep 0.3
        done; {HELLO}
    """
    url = repository(daemon.home, "talks", built_by(script))
    await daemon.start()
    async with visitor(daemon) as seen:
        deployment = await daemon.deploy(url)
        for number in sorted(chance.sample(range(1, LINES), 6)):
            await daemon.eventually(partial(has_line, daemon, deployment, number))
            await daemon.kill()
            await daemon.start()
        found = await daemon.until(deployment, "ready")
    assert seen["right"] > 20
    assert found["attempt"] == 1
    texts = [line["text"] for line in await daemon.lines(deployment) if line["stream"] == "out"]
    assert texts == [f"line {number}" for number in range(1, LINES + 1)]
    assert await page(daemon, "talks.localhost") == OLD_PAGE
    await daemon.eventually(lambda: not daemon.processes(deployment))
    await daemon.eventually(lambda: not daemon.temporary_files())
    await daemon.stop()


async def has_line(daemon: RunningDaemon, deployment: str, number: int) -> bool:
    found = await daemon.call("GET", f"/deployments/{deployment}/logs?after={number}&limit=1")
    return bool(found["lines"] or found["end"])


@asynccontextmanager
async def visitor(daemon: RunningDaemon) -> AsyncIterator[dict[str, int]]:
    """Visits the site all the time: no answer is fine while the daemon is away, a wrong one never."""
    seen = {"right": 0, "away": 0}

    async def visit() -> None:
        while True:
            try:
                status, body, _ = await daemon.visit("site.localhost")
            except (aiohttp.ClientError, OSError):
                seen["away"] += 1
            else:
                assert (status, body) == (200, OLD_PAGE)
                seen["right"] += 1
            await asyncio.sleep(0.01)

    visiting = asyncio.create_task(visit())
    try:
        yield seen
        assert not visiting.done(), visiting.exception()
    finally:
        visiting.cancel()
        await asyncio.wait({visiting})


async def test_a_build_goes_on_while_the_daemon_is_stopped(daemon: RunningDaemon) -> None:
    script = f"echo one; {PAUSE}; echo two; {HELLO}"
    await daemon.start()
    deployment = await daemon.deploy(repository(daemon.home, "goes-on", built_by(script)))
    await daemon.until_said(deployment, "one")
    await daemon.stop()
    assert is_building(daemon, deployment), daemon.processes(deployment)
    let_go_on(daemon.data / "jobs", deployment)
    await daemon.start()
    found = await daemon.until(deployment, "ready")
    assert found["attempt"] == 1
    texts = [line["text"] for line in await daemon.lines(deployment) if line["stream"] == "out"]
    assert texts == ["one", "two"]
    await daemon.stop()


def is_building(daemon: RunningDaemon, deployment: str) -> bool:
    """Whether the build's own script runs."""
    return any("build.sh" in words for words in daemon.processes(deployment).values())


async def test_a_build_that_ended_while_the_daemon_was_away_is_published(daemon: RunningDaemon) -> None:
    await daemon.start()
    deployment = await daemon.deploy(repository(daemon.home, "alone", built_by(f"echo one; {PAUSE}; exit 7")))
    await daemon.until_said(deployment, "one")
    await daemon.kill()
    let_go_on(daemon.data / "jobs", deployment)
    await daemon.eventually(lambda: not is_building(daemon, deployment))
    await daemon.start()
    found = await daemon.until(deployment, "failed")
    assert found["reason"] == "command_failed"
    await daemon.stop()


async def test_a_lost_build_starts_once_more_and_not_twice(daemon: RunningDaemon) -> None:
    await daemon.start()
    once = await daemon.deploy(repository(daemon.home, "once", built_by(f"echo begun; {PAUSE}; {HELLO}")))
    twice = await daemon.deploy(repository(daemon.home, "twice", built_by("echo begun; sleep 600")))
    for deployment in (once, twice):
        await daemon.until_said(deployment, "begun")
        daemon.kill_supervisor(deployment)
    await daemon.eventually(lambda: says_twice(daemon, once, "begun"))
    let_go_on(daemon.data / "jobs", once)
    await daemon.eventually(lambda: says_twice(daemon, twice, "begun"))
    daemon.kill_supervisor(twice)
    found = await daemon.until(once, "ready")
    assert found["attempt"] == 2
    assert "it starts once more" in await daemon.text(once)
    found = await daemon.until(twice, "failed")
    assert (found["reason"], found["attempt"]) == ("lost", 2)
    await daemon.eventually(lambda: not daemon.processes())
    await daemon.stop()


async def says_twice(daemon: RunningDaemon, deployment: str, text: str) -> bool:
    return [line["text"] for line in await daemon.lines(deployment)].count(text) == 2


async def test_a_second_daemon_on_the_same_data_is_refused(daemon: RunningDaemon) -> None:
    await daemon.start()
    second = RunningDaemon(daemon.home)
    second.launch()
    assert await second.ended() not in (0, KILLED)
    assert "another daemon runs on" in daemon.log()
    assert "Traceback" not in daemon.log()
    assert await page(daemon, "site.localhost") == OLD_PAGE
    await daemon.stop()


@needs_root
async def test_a_full_disk_loses_nothing_and_says_so(tmp_path: Path) -> None:
    """What a build tells and sends waits until there is room again."""
    async with on_a_small_disk(tmp_path, "640m") as daemon:
        await daemon.until(await daemon.deploy(repository(tmp_path, "site", built_by(HELLO))), "ready")
        waiting = await daemon.deploy(repository(tmp_path, "waits", built_by(f"echo begun; {PAUSE}; {HELLO}")))
        await daemon.until_said(waiting, "begun")
        fill(daemon.data / "filler")
        assert await page(daemon, "site.localhost") == OLD_PAGE
        status, said = await daemon.try_call("POST", "/projects", {"name": "no-room", "git_url": None})
        assert status in (503, 507), said  # the database says so, or the look at the disk does
        assert "disk" in said["detail"]
        assert "disk" in said["fix"]
        told = daemon.log().count("full")
        let_go_on(tmp_path / "jobs", waiting)
        await daemon.eventually(lambda: not is_building(daemon, waiting))
        await daemon.eventually(lambda: daemon.log().count("full") > told, what="nobody said what the build waits for")
        assert await page(daemon, "site.localhost") == OLD_PAGE

        for filler in daemon.data.glob("filler*"):
            filler.unlink()
        found = await daemon.until(waiting, "ready")
        assert found["attempt"] == 1
        assert await page(daemon, "waits.localhost") == OLD_PAGE
        assert [line["text"] for line in await daemon.lines(waiting)].count("begun") == 1
        await daemon.until(await daemon.deploy(repository(tmp_path, "later", built_by(HELLO))), "ready")
        assert "Traceback" not in daemon.log()


@needs_root
async def test_a_disk_that_is_nearly_full_does_not_keep_the_sites_down(tmp_path: Path) -> None:
    async with on_a_small_disk(tmp_path, "64m") as daemon:
        assert "are free for blobs" in daemon.log()
        await daemon.until(await daemon.upload("finished", "prebuilt", {"index.html": b"here"}), "ready")
        assert await page(daemon, "finished.localhost") == "here"


async def everything(daemon: RunningDaemon) -> list[dict[str, Any]]:
    return list((await daemon.call("GET", "/deployments?limit=100"))["deployments"])


async def page(daemon: RunningDaemon, host: str, path: str = "/") -> str:
    """The body of an answer that must be 200."""
    status, found, _ = await daemon.visit(host, path)
    assert status == 200, (status, found)
    return found
