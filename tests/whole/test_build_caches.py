"""What builds keep for later ones, with nothing played: real builds of a small npm project in the local sandbox."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.rigs.everywhere import IMPATIENT
from tests.whole.daemon import RunningDaemon, end_all, repository
from tests.whole.test_direct_uploads import place

pytestmark = pytest.mark.timeout(300)
LOCK = {
    "name": "site",
    "version": "1.0.0",
    "lockfileVersion": 3,
    "packages": {
        "": {"name": "site", "version": "1.0.0", "dependencies": {"is-number": "7.0.0"}},
        "node_modules/is-number": {"version": "7.0.0"},
    },
}
#: Writes how often it has run with the cache of its last run at hand.
BUILD = """
const fs = require('fs'), kept = 'node_modules/.cache/tool/times'
const times = fs.existsSync(kept) ? Number(fs.readFileSync(kept)) + 1 : 1
fs.mkdirSync('node_modules/.cache/tool', {recursive: true}); fs.writeFileSync(kept, String(times))
fs.mkdirSync('dist'); fs.writeFileSync('dist/index.html', `${require('is-number')(5)} ${times}`)
"""


def files(**lock: object) -> dict[str, str]:
    package = {
        **{"name": "site", "version": "1.0.0", "dependencies": {"is-number": "7.0.0"}},
        "scripts": {"build": "node build.js"},
    }
    texts = {"package.json": json.dumps(package), "package-lock.json": json.dumps(LOCK | lock), "build.js": BUILD}
    return {**texts, "readme": "x"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningDaemon]:
    running = RunningDaemon(tmp_path_factory.mktemp("daemon"), builds=IMPATIENT)
    old = running.data / "caches" / "prj_x"
    old.mkdir(parents=True)
    (old / "archive").write_bytes(b"of an earlier version")
    moved_away = running.data / "cache" / "s3" / "blobs" / "ab"
    moved_away.mkdir(parents=True)
    (moved_away / ("ab" * 32)).write_bytes(b"of a bucket that was the home once")
    (running.data / "cache" / "s3" / "locks").touch()
    (running.data / "cache" / "lost+found").mkdir()
    try:
        await running.start()
        yield running
        await end_all(running)
    finally:
        running.kill_all()


async def built(daemon: RunningDaemon, url: str, **wanted: object) -> tuple[str, str]:
    """The log of one more deployment, and its page."""
    found = await daemon.until(await daemon.deploy(url, **wanted), "ready")
    host = found["permalink"].split("/")[2].split(":")[0]
    return await daemon.text(found["id"]), (await daemon.visit(host))[1]


async def kept(daemon: RunningDaemon, project: str) -> list[tuple[str, str]]:
    found = await daemon.call("GET", f"/projects/{project}/cache")
    return sorted((one["kind"], one["scope"]) for one in found["entries"])


@pytest.mark.asyncio(loop_scope="module")
async def test_the_second_build_skips_the_install_and_a_changed_lock_starts_warm(daemon: RunningDaemon) -> None:
    url = repository(daemon.home, "twice", files())
    first, page = await built(daemon, url)
    assert ("> npm ci" in first, page) == (True, "true 1")
    second, page = await built(daemon, url)
    assert ("> npm ci" in second, page) == (False, "true 2")
    assert re.search(r"Restored all packages, so nothing is installed \([\d.]+ kB in [\d.]+ m?s", second)
    assert "Restored the build cache" in second
    repository(daemon.home, "twice", files(name="other"))
    third, page = await built(daemon, url)
    assert ("> npm ci" in third, page) == (True, "true 3")
    assert "Restored the downloads for an earlier lock file" in third


@pytest.mark.asyncio(loop_scope="module")
async def test_without_caches_nothing_is_taken_over_and_fresh_ones_are_kept(daemon: RunningDaemon) -> None:
    url = repository(daemon.home, "fresh", files())
    await built(daemon, url)
    log, page = await built(daemon, url, no_cache=True)
    assert ("> npm ci" in log, page) == (True, "true 1")
    assert "Nothing of earlier builds is used" in log
    assert (await built(daemon, url))[1] == "true 2"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_branch_begins_with_productions_and_leaves_nothing_to_it(daemon: RunningDaemon) -> None:
    url = repository(daemon.home, "branches", files())
    repository(daemon.home, "branches", files(), branch="feature")
    assert (await built(daemon, url, branch="main"))[1] == "true 1"
    log, page = await built(daemon, url, branch="feature")
    assert ("> npm ci" in log, page) == (False, "true 2")
    assert (await built(daemon, url, branch="feature"))[1] == "true 3"
    assert (await built(daemon, url, branch="main"))[1] == "true 2"
    assert ("framework", "branch:feature") in await kept(daemon, "branches")


@pytest.mark.asyncio(loop_scope="module")
async def test_another_project_of_the_same_source_begins_from_nothing(daemon: RunningDaemon) -> None:
    for name in ("one", "two"):
        log, page = await built(daemon, repository(daemon.home, name, files()))
        assert ("> npm ci" in log, page) == (True, "true 1")


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_kept_can_be_thrown_away(daemon: RunningDaemon) -> None:
    url = repository(daemon.home, "cleared", files())
    await built(daemon, url)
    assert [kind for kind, _ in await kept(daemon, "cleared")] == ["dependencies", "framework", "modules"]
    cleared = await daemon.call("DELETE", "/projects/cleared/cache")
    assert cleared["count"] == 3
    assert cleared["size_bytes"] > 0
    assert await kept(daemon, "cleared") == []
    log, page = await built(daemon, url)
    assert ("> npm ci" in log, page) == (True, "true 1")


@pytest.mark.asyncio(loop_scope="module")
async def test_archives_of_earlier_versions_are_removed_at_the_start(daemon: RunningDaemon) -> None:
    assert not (daemon.data / "caches").exists()


@pytest.mark.asyncio(loop_scope="module")
async def test_caches_of_stores_that_are_home_no_more_go_beside_serving(daemon: RunningDaemon) -> None:
    assert (daemon.data / "cache" / "s3").exists()  # nobody waits for it before anything is served
    parts = (await daemon.call("POST", "/gc", {"dry_run": True}))["parts"]
    assert {"part": "local_cache", "count": 1, "size_bytes": None, "error": ""} in parts
    await daemon.call("POST", "/gc", {})
    await daemon.eventually(lambda: not list((daemon.data / "cache").glob("*s3")), what="the cache stays")
    assert [path.name for path in (daemon.data / "cache").iterdir()] == ["lost+found"]


async def test_archives_go_straight_into_a_bucket_and_come_straight_from_it(tmp_path: Path) -> None:
    async with place(tmp_path, builds=IMPATIENT) as there:
        url = repository(there.daemon.home, "direct", files())
        assert (await built(there.daemon, url))[1] == "true 1"
        assert there.builds.count == 4  # three archives and a page
        there.builds.count, there.builds.counts = 0, b"GET /"
        log, page = await built(there.daemon, url)
        assert ("> npm ci" in log, page) == (False, "true 2")
        assert there.builds.count == 2
        assert "through the daemon" not in log
