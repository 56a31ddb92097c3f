"""A power switch while old deployments are thrown away: the next start goes on, and nothing of them is left."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.whole.daemon import RunningDaemon

pytestmark = pytest.mark.timeout(300)
KILLED: Final = -9
TABLES: Final = "[retention]\nproduction = 1\nlog_days = 1\n[serving]\nasset_window_days = 0"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RunningDaemon]:
    daemon = RunningDaemon(tmp_path, tables=TABLES)
    yield daemon
    daemon.kill_all()


def years_pass(daemon: RunningDaemon) -> None:
    """All that has ended did so long ago."""
    with closing(sqlite3.connect(daemon.data / "scalemesh.db")) as database, database:
        database.execute("UPDATE deployment SET finished_at = finished_at - 63072000000")


def kept_logs(daemon: RunningDaemon) -> set[str]:
    with closing(sqlite3.connect(f"file:{daemon.data / 'logs.db'}?mode=ro", uri=True)) as database:
        return {row[0] for row in database.execute("SELECT DISTINCT deployment FROM block")}


@pytest.mark.parametrize(
    "point", ["delete.after_commit", "delete.after_commit:2", "expiry.after_log", "leftovers.after_logs"]
)
async def test_a_crash_while_old_deployments_go_leaves_nothing_of_them(daemon: RunningDaemon, point: str) -> None:
    await daemon.start()
    made = [await daemon.upload("folder", "prebuilt", {"index.html": b"%d" % number}) for number in range(4)]
    for deployment in made:
        await daemon.until(deployment, "ready")
    await daemon.stop()
    years_pass(daemon)

    await daemon.start(SCALEMESH_FAULT=point)
    with suppress(aiohttp.ClientError, OSError):
        await daemon.call("POST", "/gc")
    assert await daemon.ended() == KILLED, "the point was never reached"

    await daemon.start()
    done = await daemon.call("POST", "/gc")
    while done["running"]:
        done = await daemon.call("GET", "/gc")
    assert [part["error"] for part in done["parts"]] == [""] * len(done["parts"])
    left = [one["id"] for one in (await daemon.call("GET", "/deployments"))["deployments"]]
    assert left == [made[3], made[2]]
    assert not kept_logs(daemon) & set(made)
    assert (await daemon.visit("folder.localhost"))[:2] == (200, "3")
    assert not daemon.temporary_files()
    await daemon.stop()
