"""A disk that becomes full: builds wait, then nothing is taken; sites are served and deleting works throughout."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from tests.whole.daemon import RunningDaemon, repository
from tests.whole.sites import HELLO, PAUSE, built_by, let_go_on
from tests.whole.small_disk import fill, needs_root, on_a_small_disk

pytestmark = [pytest.mark.timeout(300), needs_root]

MIB: Final = 1 << 20
SIZE: Final = 640 * MIB
TABLES: Final = "[disk]\nhigh_water_percent = 70"


async def disk_says(daemon: RunningDaemon) -> dict[str, Any]:
    found = await daemon.call("GET", "/status")
    return dict(next(check for check in found["checks"] if check["part"] == "disk"))


async def is_well(daemon: RunningDaemon) -> bool:
    return bool((await disk_says(daemon))["ok"])


def take(daemon: RunningDaemon, size_bytes: int) -> Path:
    """A file of that size on the daemon's disk."""
    path = daemon.data / f"filler-{size_bytes}"
    with path.open("wb") as file:
        for _ in range(size_bytes // MIB):
            file.write(bytes(MIB))
    return path


async def test_builds_wait_above_the_mark_and_start_when_there_is_room_again(tmp_path: Path) -> None:
    async with on_a_small_disk(tmp_path, f"{SIZE >> 20}m", TABLES) as daemon:
        url = repository(tmp_path, "site", built_by(HELLO))
        await daemon.until(await daemon.deploy(url), "ready")
        filler = take(daemon, SIZE * 75 // 100)
        await daemon.eventually(lambda: "the disk is getting full" in daemon.log())
        waiting = await daemon.deploy(repository(tmp_path, "waits", built_by(HELLO)))
        await daemon.until_said(waiting, "Waiting for room: the disk that holds")
        assert (await daemon.get(waiting))["state"] == "queued"
        found = await disk_says(daemon)
        assert not found["ok"]
        assert "no build starts" in found["what"]
        assert "scalemesh gc" in found["fix"]
        prebuilt = await daemon.upload("folder", "prebuilt", {"index.html": b"small"})
        await daemon.until(prebuilt, "ready")  # it needs no build
        filler.unlink()
        await daemon.until(waiting, "ready")
        assert (await daemon.text(waiting)).count("Waiting for room") == 1
        await daemon.eventually(lambda: is_well(daemon))  # what a status tells is as of some seconds ago


async def health_of(daemon: RunningDaemon) -> str:
    status, body, _ = await daemon.visit("localhost", "/api/v1/health")
    assert status == 200
    return str(json.loads(body)["status"])


async def test_a_load_balancer_goes_on_sending_visitors_while_the_disk_is_full(tmp_path: Path) -> None:
    async with on_a_small_disk(tmp_path, f"{SIZE >> 20}m", TABLES) as daemon:
        take(daemon, SIZE * 75 // 100)
        assert await health_of(daemon) == "degraded"


async def test_at_the_last_reserve_nothing_is_taken_and_all_else_goes_on(tmp_path: Path) -> None:
    async with on_a_small_disk(tmp_path, f"{SIZE >> 20}m", TABLES) as daemon:
        await daemon.until(await daemon.deploy(repository(tmp_path, "site", built_by(HELLO))), "ready")
        first = await daemon.upload("folder", "prebuilt", {"index.html": b"first"})
        await daemon.until(first, "ready")
        await daemon.until(await daemon.upload("folder", "prebuilt", {"index.html": b"second"}), "ready")
        building = await daemon.deploy(repository(tmp_path, "slow", built_by(f"echo begun; {PAUSE}; {HELLO}")))
        await daemon.until_said(building, "begun")
        assert (daemon.data / "ballast").exists()
        fill(daemon.data / "filler")
        await daemon.eventually(lambda: not (daemon.data / "ballast").exists())

        await refused(daemon, "POST", "/projects", {"name": "another"})
        await refused(daemon, "PUT", "/projects/folder/env/NAME", {"value": "some value"})
        await refused(daemon, "POST", "/projects/folder/deployments", {"upload": "prebuilt"})
        await refused(daemon, "POST", f"/deployments/{first}/blobs", {"digests": []})
        assert (await daemon.visit("folder.localhost"))[:2] == (200, "second")

        await daemon.call("PATCH", "/projects/folder", {"retention": {"production": 1}})
        await daemon.call("POST", f"/deployments/{first}/promote")
        assert (await daemon.visit("folder.localhost"))[:2] == (200, "first")
        await daemon.call("DELETE", "/projects/folder")
        assert (await daemon.visit("folder.localhost"))[0] == 404
        assert (await daemon.get(building))["state"] == "building"
        let_go_on(tmp_path / "jobs", building)

        for filler in daemon.data.glob("filler*"):
            filler.unlink()
        found = await daemon.until(building, "ready")
        assert found["attempt"] == 1
        await daemon.eventually(lambda: shows(daemon, "slow.localhost"))
        await daemon.eventually((daemon.data / "ballast").exists)
        await daemon.call("POST", "/projects", {"name": "another"})
        assert "Traceback" not in daemon.log()


async def refused(daemon: RunningDaemon, method: str, path: str, body: object) -> None:
    status, said = await daemon.try_call(method, path, body)
    assert (status, said["code"]) == (507, "no_room"), said
    assert "are kept for serving and deleting" in said["detail"]
    assert "scalemesh disk" in said["fix"]


async def shows(daemon: RunningDaemon, host: str) -> bool:
    return (await daemon.visit(host))[0] == 200
