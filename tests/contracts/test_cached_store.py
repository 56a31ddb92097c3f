"""The local cache over a real store behind a door: one fetch, never a wrong byte, a cap, and life without the store."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from subprocess import run

import pytest

from scalemesh.errors import DamagedError, NotFoundError, UnreachableError
from scalemesh.ports import Direct, LocalFiles
from scalemesh.services import cached_store, fetches
from scalemesh.services.cached_store import CachedStore, open_near
from scalemesh.values import Digest
from tests.contracts.crash_store import A
from tests.contracts.test_stores import ABSENT, ROOT, blob_of, open_files, put, read
from tests.contracts.visitors import until
from tests.rigs.far_store import FarConfig, FarDirectStore, FarStore

MIB = 1 << 20


class Rig:
    """A far store, and caches of it that are opened again and again."""

    def __init__(self, home: Path, far: FarStore) -> None:
        self.home, self.far, self.door = home, far, far.door

    @asynccontextmanager
    async def near(
        self, capacity_bytes: int = 1 << 30, *, is_keeper: bool = True, spare: float = 0.0
    ) -> AsyncIterator[CachedStore]:
        root = self.home / "cache"
        async with open_near(self.far, root, capacity_bytes, is_keeper=is_keeper, spare=spare) as near:
            assert isinstance(near, CachedStore)
            yield near

    def cached(self) -> set[str]:
        """The blobs in the cache, each proven right."""
        found = {path.name: path.read_bytes() for path in (self.home / "cache" / "blobs").glob("*/*")}
        assert all(blob_of(data).sha256 == name for name, data in found.items())
        return set(found)

    def temporary(self) -> list[Path]:
        return list((self.home / "cache" / "tmp").glob("*/*"))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with FarStore.open(FarConfig(path=tmp_path / "far")) as far:
        yield Rig(tmp_path, far)


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, 3_500_001])
async def test_a_blob_is_fetched_once_and_then_lies_here(rig: Rig, size: int) -> None:
    data = os.urandom(size)
    blob = await put(rig.far, data)
    async with rig.near() as near:
        assert not near.path(blob.sha256).exists()
        assert await read(near, blob.sha256) == data
        assert near.path(blob.sha256).read_bytes() == data
        rig.door.shut()
        assert await read(near, blob.sha256) == data
        assert await read(near, blob.sha256, 1, 9) == data[1:9]
    async with rig.near() as near:
        assert await read(near, blob.sha256) == data
    assert rig.door.reads() == [blob.sha256]
    assert rig.temporary() == []


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (0, 0), (5, 5), (1_999_999, None), (7, 10**9), (10**7, None), (10**7, 10**8), (9, 3)]
)
async def test_a_range_of_a_cold_blob_is_what_a_slice_would_be(rig: Rig, start: int, stop: int | None) -> None:
    data = os.urandom(2_000_003)
    blob = await put(rig.far, data)
    async with rig.near() as near:
        assert await read(near, blob.sha256, start, stop) == data[start:stop]
    assert rig.cached() == {blob.sha256}


async def test_a_thousand_visitors_of_one_cold_blob_make_one_fetch(rig: Rig) -> None:
    """Also those who leave while it is fetched end it for nobody, and nothing stays open."""
    data = os.urandom(300_000)
    blob = await put(rig.far, data)
    async with rig.near() as near:
        before = open_files()
        rig.door.hold()
        readers = [asyncio.create_task(read(near, blob.sha256)) for _ in range(1000)]
        await until(lambda: rig.door.reads() == [blob.sha256])
        for reader in readers[::3]:
            reader.cancel()
        rig.door.let_go()
        found = await asyncio.gather(*readers, return_exceptions=True)
        assert [each == data for each in found] == [number % 3 != 0 for number in range(1000)]
        assert open_files() == before
    assert rig.door.reads() == [blob.sha256]


async def test_a_fetch_goes_on_when_all_who_waited_have_left(rig: Rig) -> None:
    blob = await put(rig.far, os.urandom(2_500_000))
    async with rig.near() as near:
        before = open_files()
        rig.door.hold()
        reader = asyncio.create_task(read(near, blob.sha256))
        await until(lambda: rig.door.reads() == [blob.sha256])
        reader.cancel()
        await asyncio.wait([reader])
        rig.door.let_go()
        await until(near.path(blob.sha256).exists)
        await until(lambda: open_files() == before)


async def test_a_blob_that_was_spoiled_on_its_way_is_fetched_again(rig: Rig) -> None:
    data = os.urandom(1_500_000)
    blob = await put(rig.far, data)
    rig.door.spoil(times=1)
    async with rig.near() as near:
        assert await read(near, blob.sha256) == data
    assert rig.door.reads() == [blob.sha256] * 2


@pytest.mark.parametrize("size", [10, 1_500_000])
async def test_a_corrupt_blob_is_never_served(rig: Rig, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(fetches, "FAILED_S", 0.05)
    data = os.urandom(size)
    blob = await put(rig.far, data)
    rig.door.spoil()
    async with rig.near() as near:
        for _ in range(2):
            with pytest.raises(DamagedError, match="are damaged"):
                await read(near, blob.sha256)
        assert len(rig.door.reads()) == 2  # the first answer counts for the next ones, for a moment
        assert not near.path(blob.sha256).exists()
        assert rig.temporary() == []
        rig.door.spoil(times=0)
        assert await until_read(near, blob.sha256) == data


async def test_a_blob_that_is_nowhere_is_not_found_and_may_come_later(rig: Rig) -> None:
    async with rig.near() as near:
        for _ in range(2):
            with pytest.raises(NotFoundError):
                await read(near, ABSENT)
        with pytest.raises(NotFoundError):
            await read(near, blob_of(b"late").sha256)
        await put(rig.far, b"late")
        assert await read(near, blob_of(b"late").sha256) == b"late"


async def test_a_cold_blob_of_a_store_that_is_away_is_unreachable_until_it_is_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetches, "FAILED_S", 0.05)
    blob = await put(rig.far, b"cold")
    async with rig.near() as near:
        rig.door.shut()
        with pytest.raises(UnreachableError):
            await read(near, blob.sha256)
        rig.door.open()
        assert await until_read(near, blob.sha256) == b"cold"


async def test_a_store_that_gives_nothing_is_not_waited_for_for_ever(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_store, "STALL_S", 0.1)
    blob = await put(rig.far, b"slow")
    rig.door.hold()
    async with rig.near() as near:
        async with asyncio.timeout(5):
            with pytest.raises(UnreachableError, match="gave no bytes"):
                await read(near, blob.sha256)
        assert rig.temporary() == []


async def test_a_store_that_is_too_slow_makes_no_endless_queue(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetches, "MOST_WAITING", 3)
    blobs = [await put(rig.far, bytes([number])) for number in range(4)]
    rig.door.hold()
    async with rig.near() as near:
        readers = [asyncio.create_task(read(near, blob.sha256)) for blob in blobs[:3]]
        await until(lambda: len(rig.door.reads()) == 3)
        with pytest.raises(UnreachableError, match="more slowly"):
            await read(near, blobs[3].sha256)
        rig.door.let_go()
        assert await asyncio.gather(*readers) == [b"\0", b"\1", b"\2"]


async def test_what_is_put_goes_to_the_store_and_small_things_lie_here_too(rig: Rig) -> None:
    small, large = os.urandom(900_000), os.urandom(1_200_000)
    async with rig.near() as near:
        for data in (small, large):
            await put(near, data)
            assert await read(rig.far, blob_of(data).sha256) == data
        assert rig.cached() == {blob_of(small).sha256}
        rig.door.shut()
        assert await read(near, blob_of(small).sha256) == small
        with pytest.raises(UnreachableError):
            await put(near, b"not now")


async def test_what_is_deleted_is_gone_here_too(rig: Rig) -> None:
    async with rig.near() as near:
        blob = await put(near, b"soon gone")
        await near.delete([blob.sha256])
        assert rig.cached() == set()
        with pytest.raises(NotFoundError):
            await read(near, blob.sha256)


async def test_what_was_not_used_for_longest_makes_room(rig: Rig) -> None:
    """By what was used before a restart, and by what is in memory alone."""
    blobs = [await put(rig.far, os.urandom(300_000)) for _ in range(4)]
    async with rig.near() as near:
        for age, blob in enumerate(blobs):
            await read(near, blob.sha256)
            used_at(near, blob.sha256, hours_ago=10 - age)
    async with rig.near(capacity_bytes=1_100_000) as near:
        await near.tend()
        assert rig.cached() == {blob.sha256 for blob in blobs[1:]}
        near.path(blobs[1].sha256)
        near.ask(lambda: [blobs[2].sha256])
        await near.touch()
        await put(near, os.urandom(300_000))
        await near.tend()
        assert rig.cached() >= {blobs[1].sha256, blobs[2].sha256}
        assert blobs[3].sha256 not in rig.cached()


async def test_the_cap_holds_while_other_processes_fill_the_cache(rig: Rig) -> None:
    async with (
        rig.near(capacity_bytes=2 * MIB) as keeper,
        rig.near(capacity_bytes=2 * MIB, is_keeper=False) as other,
    ):
        await keeper.tend()
        for _ in range(12):
            await read(other, (await put(rig.far, os.urandom(300_000))).sha256)
        await until(lambda: len(rig.cached()) * 300_000 <= 2 * MIB)
        assert len(rig.cached()) >= 4


async def test_it_gives_way_to_others_on_its_disk_down_to_a_floor(rig: Rig) -> None:
    """Here to others who want all of the disk."""
    blobs = [await put(rig.far, os.urandom(300_000)) for _ in range(8)]
    async with rig.near(capacity_bytes=16 * MIB) as near:
        for age, blob in enumerate(blobs):
            await read(near, blob.sha256)
            used_at(near, blob.sha256, hours_ago=10 - age)
        await near.tend()
        assert rig.cached() == {blob.sha256 for blob in blobs}
        assert near.used_bytes() >= 8 * 300_000
    async with rig.near(capacity_bytes=16 * MIB, spare=1.0) as near:
        await near.tend()
        await near.tend()
        assert rig.cached() == {blob.sha256 for blob in blobs[5:]}  # of 16 MiB one


async def test_a_blob_that_is_being_read_may_be_thrown_away(rig: Rig) -> None:
    data = os.urandom(2_000_000)
    blob = await put(rig.far, data)
    async with rig.near() as near:
        await read(near, blob.sha256)
        async with aclosing(near.read(blob.sha256)) as chunks:
            got = await anext(chunks)
            near.path(blob.sha256).unlink()
            assert got + b"".join([chunk async for chunk in chunks]) == data


async def test_a_blob_larger_than_the_whole_cache_is_served_and_forgotten(rig: Rig) -> None:
    data = os.urandom(1_500_000)
    blob = await put(rig.far, data)
    async with rig.near(capacity_bytes=MIB) as near:
        before = open_files()
        assert await asyncio.gather(*(read(near, blob.sha256) for _ in range(5))) == [data] * 5
        assert (rig.cached(), rig.temporary(), open_files()) == (set(), [], before)
    assert rig.door.reads() == [blob.sha256]


async def test_two_processes_fetch_a_blob_once(rig: Rig) -> None:
    blob = await put(rig.far, os.urandom(5_000_000))
    rig.door.hold()
    words = (sys.executable, "-m", "tests.contracts.fetching", str(rig.home / "far"), str(rig.home / "cache"))
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    programs = [
        await asyncio.create_subprocess_exec(*words, blob.sha256, stdout=asyncio.subprocess.PIPE, env=environ, cwd=ROOT)
        for _ in range(3)
    ]
    async with asyncio.timeout(30):
        for program in programs:
            assert program.stdout is not None
            assert await program.stdout.readline() == b"begins\n"
        await until(lambda: len(rig.temporary()) + len(rig.door.reads()) > 0)
        rig.door.let_go()
        assert [(await program.communicate())[0] for program in programs] == [b"5000000\n"] * 3
    assert rig.door.reads() == [blob.sha256]


async def test_a_process_that_dies_fetching_leaves_the_blob_to_others_and_nothing_else(rig: Rig) -> None:
    data = os.urandom(5_000_000)
    blob = await put(rig.far, data)
    rig.door.hold()
    words = (sys.executable, "-m", "tests.contracts.fetching", str(rig.home / "far"), str(rig.home / "cache"))
    program = await asyncio.create_subprocess_exec(
        *words, blob.sha256, stdout=asyncio.subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT
    )
    await until(lambda: rig.door.reads() == [blob.sha256], 20)
    async with rig.near(is_keeper=False) as near:
        reader = asyncio.create_task(read(near, blob.sha256))
        program.kill()
        await program.wait()
        rig.door.let_go()
        async with asyncio.timeout(10):
            assert await reader == data
    assert len(list((rig.home / "cache" / "tmp").iterdir())) == 1
    async with rig.near():
        assert len(list((rig.home / "cache" / "tmp").iterdir())) == 1  # its own
    assert list((rig.home / "cache" / "tmp").iterdir()) == []


async def test_temporary_files_of_a_living_process_stay(rig: Rig) -> None:
    async with rig.near(is_keeper=False) as near:
        (mine,) = (rig.home / "cache" / "tmp").iterdir()
        (mine / "half").touch()
        async with rig.near():
            assert rig.temporary() == [mine / "half"]
        assert near.path(ABSENT).parent.is_dir()


async def test_it_is_direct_where_the_store_is_and_only_there(rig: Rig) -> None:
    async with rig.near() as near:
        assert isinstance(near, LocalFiles)
        assert not isinstance(near, Direct)
    async with (
        FarDirectStore.open(FarConfig(path=rig.home / "direct")) as far,
        open_near(far, rig.home / "other", MIB, is_keeper=True) as near,
    ):
        assert isinstance(near, LocalFiles)
        assert isinstance(near, Direct)
        assert (await near.download_url(ABSENT)).url.endswith(ABSENT)
        assert await near.upload_urls(A, 1, [blob_of(b"x")]) == [None]


async def test_the_check_tells_of_the_store_and_then_of_the_cache(rig: Rig) -> None:
    async with rig.near() as near:
        found = await near.check()
        assert all(finding.ok for finding in found)
        assert "of at most 1.1 GB of the blobs are cached in" in found[-1].what
        rig.door.shut()
        assert [(finding.ok, finding.may_pass) for finding in await near.check()] == [(False, True)]


FULL = """
import asyncio, logging, os, shutil
from pathlib import Path
from scalemesh.services.cached_store import open_near
from scalemesh.errors import UnreachableError
from tests.contracts.test_stores import blob_of, put, read
from tests.rigs.far_store import FarConfig, FarStore

async def main():
    room = Path("{room}")
    async with FarStore.open(FarConfig(path=Path("{far}"))) as far:
        blobs = [await put(far, os.urandom(900_000)) for _ in range(6)]
        big = await put(far, os.urandom(6_000_000))
        async with open_near(far, room / "cache", 1 << 30, is_keeper=False) as near:
            right = [blob_of(await read(near, blob.sha256)) == blob for blob in blobs]
            print(right == [True] * 6, 0 < sum(near.path(blob.sha256).exists() for blob in blobs) < 6)
            for blob in blobs:
                near.path(blob.sha256).unlink(missing_ok=True)
            (room / "filler").write_bytes(b"x" * (shutil.disk_usage(room).free - 100_000))
            right = blob_of(await read(near, blobs[0].sha256)) == blobs[0]
            print(right, near.path(blobs[0].sha256).exists())
            try:
                await read(near, big.sha256)
            except UnreachableError as error:
                print(error.why)
            print([path for path in (room / "cache" / "tmp").glob("*/*")])

asyncio.run(main())
"""


def test_a_full_disk_costs_the_oldest_and_then_no_visitor_of_small_files(tmp_path: Path) -> None:
    """The cache gives way to what is asked for now; where it has nothing to give, small blobs pass through memory."""
    room, far = tmp_path / "room", tmp_path / "far"
    room.mkdir()
    program = FULL.format(room=room, far=far)
    mount = f"mount -t tmpfs -o size=4m none {room} && exec {sys.executable} -c '{program}'"
    done = run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True True", "True False", "[Errno 28] No space left on device", "[]"]


async def test_a_cache_folder_that_cannot_be_made_is_one_clear_error(rig: Rig) -> None:
    (rig.home / "cache").write_text("a file stands here")
    with pytest.raises(UnreachableError, match="cannot be used"):
        async with rig.near():
            pass


def used_at(near: CachedStore, sha256: Digest, *, hours_ago: int) -> None:
    path = near.path(sha256)
    at = path.stat().st_mtime - hours_ago * 3600
    near._used.clear()
    os.utime(path, (at, at))


async def until_read(near: CachedStore, sha256: Digest) -> bytes:
    """The blob, once it can be had."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await read(near, sha256)
            except UnreachableError:
                await asyncio.sleep(0.01)
