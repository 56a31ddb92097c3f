"""The local cache over a real store behind a door: one fetch, never a wrong byte, and life without the store."""

import asyncio
import os
import sys

import pytest

from scalemesh.errors import DamagedError, NotFoundError, UnreachableError
from scalemesh.ports import Direct, LocalFiles
from scalemesh.services import cached_store, fetches
from scalemesh.services.cached_store import CachedStore, open_near
from scalemesh.values import Digest
from tests.contracts.crash_store import A
from tests.contracts.near import Rig
from tests.contracts.test_stores import ABSENT, ROOT, blob_of, open_files, put, read
from tests.contracts.visitors import until
from tests.rigs.far_store import FarConfig, FarDirectStore

MIB = 1 << 20


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
        await until(lambda: open_files() == before)
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
    monkeypatch.setattr(fetches, "FAILED_S", 60.0)
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
    monkeypatch.setattr(fetches, "FAILED_S", 0.05)
    async with rig.near() as near:
        with pytest.raises(DamagedError, match="are damaged"):
            await read(near, blob.sha256)
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
        async with asyncio.timeout(30):
            with pytest.raises(UnreachableError, match="gave no bytes within 0 s"):
                await read(near, blob.sha256)
        assert rig.temporary() == []


async def test_a_store_that_is_away_is_told_once_and_not_for_each_file(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    blobs = [await put(rig.far, bytes([number])) for number in range(20)]
    rig.door.shut()
    async with rig.near() as near:
        ends = await asyncio.gather(*(read(near, blob.sha256) for blob in blobs), return_exceptions=True)
        assert all(isinstance(end, UnreachableError) for end in ends)
        assert len([record for record in caplog.records if record.name == "scalemesh.services.fetches"]) == 1


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
    await until(lambda: rig.door.reads() == [blob.sha256], 60)
    async with rig.near(is_keeper=False) as near:
        reader = asyncio.create_task(read(near, blob.sha256))
        program.kill()
        await program.wait()
        rig.door.let_go()
        async with asyncio.timeout(30):
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
        assert f"blobs are cached in {rig.home}/cache, up to 1.1 GB" in found[-1].what
        rig.door.shut()
        assert [(finding.ok, finding.may_pass) for finding in await near.check()] == [(False, True)]


async def test_a_cache_folder_that_cannot_be_made_is_one_clear_error(rig: Rig) -> None:
    (rig.home / "cache").write_text("a file stands here")
    with pytest.raises(UnreachableError, match="cannot be used"):
        async with rig.near():
            pass


async def until_read(near: CachedStore, sha256: Digest) -> bytes:
    """The blob, once it can be had."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await read(near, sha256)
            except UnreachableError:
                await asyncio.sleep(0.01)
