"""The marks of the disk: when builds wait, when nothing is taken any more, and how it goes back."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalemesh.assembly import disk_room
from scalemesh.config import Config
from scalemesh.errors import NoRoomError
from scalemesh.keeping import Disk
from scalemesh.services.disk_room import DiskRoom, Level, Volume, level_of, look

MIB = 1 << 20
GIB = 1 << 30
SHARED = Path("/dev/shm")
DISK = Volume(path="/data", total_bytes=100 * GIB, free_bytes=50 * GIB)

VOLUMES = st.builds(
    lambda total, free, files, left: Volume(
        path="/data", total_bytes=total, free_bytes=min(total, free), total_files=files, free_files=min(files, left)
    ),
    st.integers(MIB, 1 << 44),
    st.integers(0, 1 << 44),
    st.integers(0, 1 << 32),
    st.integers(0, 1 << 32),
)
LIMITS = st.builds(Disk, high_water_percent=st.integers(50, 100), reserve_mib=st.integers(0, 1 << 20))


class NoStore:
    """One whose blobs lie elsewhere."""


def level(free_bytes: float, before: Level = Level.ROOMY, limits: Disk | None = None) -> Level:
    return level_of([replace(DISK, free_bytes=int(free_bytes))], limits or Disk(), before)


def test_above_the_high_water_mark_no_build_starts_and_below_the_reserve_nothing_is_taken() -> None:
    assert level(10.1 * GIB) is Level.ROOMY
    assert level(10 * GIB) is Level.HIGH
    assert level(1 * GIB) is Level.HIGH
    assert level(1 * GIB - 1) is Level.LAST


def test_a_level_is_left_only_with_some_room_to_spare() -> None:
    assert level(11 * GIB, Level.HIGH) is Level.HIGH
    assert level(12.1 * GIB, Level.HIGH) is Level.ROOMY
    assert level(1.1 * GIB, Level.LAST) is Level.LAST
    assert level(1.3 * GIB, Level.LAST) is Level.HIGH
    assert level(50 * GIB, Level.LAST) is Level.ROOMY


def test_a_mark_of_100_percent_lets_builds_start_on_any_disk_that_has_its_reserve() -> None:
    assert level(2 * GIB, limits=Disk(high_water_percent=100)) is Level.ROOMY
    assert level(2 * GIB, Level.HIGH, Disk(high_water_percent=100)) is Level.ROOMY


def test_a_small_disk_has_a_small_reserve() -> None:
    small = Volume(path="/data", total_bytes=60 * MIB, free_bytes=40 * MIB)
    assert level_of([small], Disk(), Level.ROOMY) is Level.ROOMY
    assert level_of([replace(small, free_bytes=2 * MIB)], Disk(), Level.ROOMY) is Level.LAST


def test_a_disk_without_names_for_files_is_as_full_as_one_without_bytes() -> None:
    names = replace(DISK, total_files=1_000_000, free_files=50_000)
    assert level_of([names], Disk(), Level.ROOMY) is Level.HIGH
    assert level_of([replace(names, free_files=9_000)], Disk(), Level.ROOMY) is Level.LAST


@given(st.lists(VOLUMES, min_size=1, max_size=4), LIMITS, st.sampled_from(Level))
def test_the_fullest_disk_decides(volumes: list[Volume], limits: Disk, before: Level) -> None:
    each = [level_of([volume], limits, before) for volume in volumes]
    assert level_of(volumes, limits, before) is max(each)


@given(VOLUMES, LIMITS, st.sampled_from(Level))
def test_a_level_holds_while_the_disk_stays_as_it_is(volume: Volume, limits: Disk, before: Level) -> None:
    """Or builds would start and stop at every look."""
    first = level_of([volume], limits, before)
    second = level_of([volume], limits, first)
    assert level_of([volume], limits, second) is second
    assert second <= max(first, before)


@given(VOLUMES, LIMITS, st.integers(0, 1 << 40))
def test_more_room_never_makes_it_worse(volume: Volume, limits: Disk, more: int) -> None:
    roomier = replace(volume, free_bytes=min(volume.total_bytes, volume.free_bytes + more))
    for before in Level:
        assert level_of([roomier], limits, before) <= level_of([volume], limits, before)


def test_folders_of_one_file_system_count_once_also_where_they_are_not_there_yet(tmp_path: Path) -> None:
    found = look([tmp_path, tmp_path / "store" / "blobs"])
    assert [volume.path for volume in found] == [str(tmp_path)]
    assert 0 <= found[0].free_bytes <= found[0].total_bytes


async def test_what_needs_room_is_refused_at_the_last_reserve_and_told_why(
    tmp_path: Path,
) -> None:
    full = [replace(DISK, free_bytes=100 * MIB)]
    room = DiskRoom([tmp_path], Disk(), ballast=tmp_path / "ballast", look=lambda _places: full)
    with pytest.raises(NoRoomError) as refused:
        room.require()
    assert "105 MB are free; the last 1.1 GB are kept" in refused.value.why
    assert "scalemesh gc" in refused.value.fix
    full[:] = [DISK]
    assert await room.measure()
    room.require()
    assert room.takes_builds
    assert not await room.measure()


async def test_the_ballast_is_held_while_there_is_room_and_let_go_when_there_is_none(
    tmp_path: Path,
) -> None:
    found, ballast = [DISK], tmp_path / "ballast"
    room = DiskRoom([tmp_path], Disk(), ballast=ballast, look=lambda _places: found)
    await room.measure()
    assert ballast.stat().st_blocks * 512 >= 64 * MIB
    found[:] = [replace(DISK, free_bytes=900 * MIB)]  # at the reserve, but not full
    await room.measure()
    assert ballast.exists()
    found[:] = [replace(DISK, free_bytes=10 * MIB)]
    await room.measure()
    assert not ballast.exists()


async def test_a_folder_that_something_is_brought_to_is_looked_at_and_keeps_more_than_its_reserve(
    tmp_path: Path,
) -> None:
    free = {tmp_path: 50 * GIB, tmp_path / "other": 50 * GIB}
    seen: list[list[Path]] = []

    def looked(places: Iterable[Path]) -> list[Volume]:
        seen.append(list(places))
        return [replace(DISK, path=str(place), free_bytes=free[place]) for place in seen[-1]]

    room = DiskRoom([tmp_path], Disk(), ballast=tmp_path / "ballast", look=looked)
    assert await room.lacks(tmp_path / "other") == ""
    free[tmp_path / "other"] = int(1.2 * GIB)
    assert "1.3 GB free" in await room.lacks(tmp_path / "other")
    free[tmp_path / "other"] = GIB - 1
    await room.measure()
    assert seen[-1] == [tmp_path, tmp_path / "other"]
    assert room.level is Level.LAST


async def test_whoever_waits_is_told_of_a_change_that_another_look_has_seen(tmp_path: Path) -> None:
    """A look that a refused request asked for must not keep builds waiting."""
    full, told, looks = [replace(DISK, free_bytes=100 * MIB)], asyncio.Event(), list[float]()

    def look_at(_places: Iterable[Path]) -> list[Volume]:
        looks.append(full[0].free_bytes)
        return list(full)

    room = DiskRoom([tmp_path], Disk(), ballast=tmp_path / "ballast", look=look_at)
    serving = asyncio.create_task(room.serve(told.set))
    while len(looks) < 2:
        await asyncio.sleep(0.01)
    full[:] = [DISK]
    assert await room.measure()
    await asyncio.wait_for(told.wait(), 30)
    serving.cancel()


@pytest.mark.skipif(not SHARED.is_mount(), reason="there is no second file system here")
def test_file_systems_of_the_local_cache_and_of_jobs_are_looked_at_and_hold_up_builds_alone(tmp_path: Path) -> None:
    (tmp_path / "cache").symlink_to(SHARED)
    config = replace(Config(), data_dir=tmp_path, executor={"kind": "local", "local": {"work_dir": "/proc/jobs"}})
    volumes = disk_room(config, NoStore()).volumes  # type: ignore[arg-type]
    places = {volume.path: volume for volume in volumes}
    assert set(places) == {str(tmp_path), str(tmp_path / "cache"), "/proc/jobs"}
    assert [places[str(path)].is_beside for path in (tmp_path, tmp_path / "cache")] == [False, True]
    full = replace(DISK, free_bytes=MIB, is_beside=True)
    assert level_of([DISK, full], Disk(), Level.ROOMY) is Level.HIGH
    assert level_of([DISK, replace(full, is_beside=False)], Disk(), Level.ROOMY) is Level.LAST
