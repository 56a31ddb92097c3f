"""The store on the dashboard: where it is, how it does, moving and verifying it by a button."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scalemesh.services.disk_room import Level
from tests.rigs.far_store import Door, FarConfig, FarStore
from tests.whole.control_host import ControlHost, open_control_host
from tests.whole.test_storage_pages import page, post


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[ControlHost]:
    async with open_control_host(tmp_path) as opened:
        await opened.sign_in()
        yield opened


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[ControlHost]:
    """On a store that lies elsewhere, behind a door."""
    async with open_control_host(tmp_path, open_store=lambda at: FarStore.open(FarConfig(path=at / "far"))) as opened:
        await opened.sign_in()
        yield opened


async def until_over(host: ControlHost) -> str:
    """The panel, once nothing is under way."""
    while "data-refresh" in (text := await page(host, "/storage/store")):
        await asyncio.sleep(0.005)
    return text


async def until_reading(host: ControlHost, door: Door) -> str:
    """The panel while a blob is being read."""
    while not door.reads():
        await asyncio.sleep(0.005)
    return await page(host, "/storage")


async def test_the_panel_tells_which_store_is_home_and_that_it_works(host: ControlHost, tmp_path: Path) -> None:
    text = await page(host, "/storage")
    assert str(tmp_path / "store") in text
    assert "<code>disk</code>" in text
    assert "Works" in text
    assert "Not verified since the daemon's start" in text
    assert "data-refresh" not in text


async def test_a_store_that_is_away_is_told_with_what_goes_on_meanwhile(far: ControlHost, tmp_path: Path) -> None:
    Door(tmp_path / "far").shut()
    text = await page(far, "/storage")
    assert "Away" in text
    assert "The far store does not answer" in text
    assert "Open its door" in text
    assert "served as ever" in text


async def test_verifying_is_a_button_and_its_end_is_told(host: ControlHost) -> None:
    await host.life.ready(b"one page")
    assert await post(host, "/storage/verify", {}) == "/storage#store"
    assert "all whole" in await until_over(host)
    assert "Verify again" in await page(host, "/storage")


async def test_what_is_damaged_is_told_with_whose_it_is_and_mended(host: ControlHost, tmp_path: Path) -> None:
    ready = await host.life.ready(b"a page that will be damaged")
    for path in (tmp_path / "store" / "blobs").rglob("*"):
        if path.is_file() and path.read_bytes() == b"a page that will be damaged":
            path.chmod(0o644)
            path.write_bytes(b"a page that has been damaged")
    await post(host, "/storage/verify", {})
    text = await until_over(host)
    assert "1 damaged, 0 missing" in text
    assert f'href="/deployments/{ready}"' in text
    assert "Mend…" in text
    await post(host, "/storage/verify?mend=yes", {})
    text = await until_over(host)
    assert "What else was damaged is taken away" in text
    assert "Deploy again, so that it is whole: site." in text
    assert "Mend…" not in text


async def test_what_is_missing_and_what_nobody_knows_is_told(host: ControlHost, tmp_path: Path) -> None:
    await host.life.ready(b"a page that will be missing")
    blobs = tmp_path / "store" / "blobs"
    (page_at,) = [
        one for one in blobs.rglob("*") if one.is_file() and one.read_bytes() == b"a page that will be missing"
    ]
    page_at.unlink()
    (blobs / "ab").mkdir(exist_ok=True)
    (blobs / "ab" / ("ab" * 32)).write_bytes(b"from somewhere")
    await post(host, "/storage/verify", {})
    text = await until_over(host)
    assert "0 damaged, 1 missing" in text
    assert page_at.name[:16] in text
    assert 'Unknown <span class="soft">1</span>' in text
    assert "14 B" in text


async def test_what_runs_shows_how_far_it_is_and_stops_by_a_button(far: ControlHost, tmp_path: Path) -> None:
    await far.life.ready(b"one page")
    door = Door(tmp_path / "far")
    (tmp_path / "far" / "reads").unlink(missing_ok=True)
    door.hold()
    await post(far, "/storage/verify", {})
    text = await until_reading(far, door)
    assert 'data-refresh="active" data-from="/storage/store"' in text
    assert "Verifying" in text
    assert "Verify all files" not in text
    await post(far, "/storage/verify?mend=yes", {}, status=409)
    assert await post(far, "/storage/stop", {}) == "/storage#store"
    assert "Verifying was stopped" in await until_over(far)
    door.let_go()
    await post(far, "/storage/stop", {}, status=409)


async def test_a_move_is_asked_for_done_and_told_until_the_config_follows(host: ControlHost) -> None:
    ready = await host.life.ready(b"one page")
    assert "Move to other…" in await page(host, "/storage")
    assert await post(host, "/storage/move?to=other", {}) == "/storage#store"
    text = await until_over(host)
    assert "Moved from <code>disk</code> to <code>other</code>" in text
    assert 'store.kind = "other"' in text
    assert "Move to disk…" in text
    assert host.life.live() == ready


async def test_a_move_that_was_stopped_goes_on_by_a_button(far: ControlHost, tmp_path: Path) -> None:
    await far.life.ready(b"one page")
    door = Door(tmp_path / "far")
    (tmp_path / "far" / "reads").unlink(missing_ok=True)
    door.hold()
    await post(far, "/storage/move?to=other", {})
    assert "Moving to other" in await until_reading(far, door)
    await post(far, "/storage/stop", {})
    text = await until_over(far)
    assert "stands still" in text
    assert "Go on moving to other…" in text
    door.let_go()
    await post(far, "/storage/move?to=other", {})
    assert "Moved from" in await until_over(far)


@pytest.mark.parametrize("to", ["", "disk", "nowhere", "x" * 10_000])
async def test_a_move_to_where_there_is_no_store_is_refused(host: ControlHost, to: str) -> None:
    await post(host, f"/storage/move?to={to}", {}, status=400)
    assert host.life.services.storage.chores.current is None


async def test_on_a_full_disk_the_blobs_may_be_moved_away(host: ControlHost) -> None:
    await host.life.ready(b"one page")
    host.life.services.storage.disk.level = Level.LAST
    await post(host, "/storage/move?to=other", {})
    assert "Moved from" in await until_over(host)


async def test_strangers_come_to_the_sign_in_page(tmp_path: Path) -> None:
    async with open_control_host(tmp_path) as host:
        answer = await host.anybody.get("/storage/store", allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, "/sign-in?next=%2Fstorage%2Fstore")
        answer = await host.anybody.post("/storage/verify", headers=host.origin, allow_redirects=False)
        assert answer.status == 401
