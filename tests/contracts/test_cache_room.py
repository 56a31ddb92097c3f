"""What the local cache takes of the disk: a cap, the least recently used first, and room for others."""

import asyncio
import os
import sys
from contextlib import aclosing
from pathlib import Path
from subprocess import run

from scalemesh.errors import UnreachableError
from scalemesh.services.cached_store import CachedStore
from scalemesh.values import Digest
from tests.contracts.near import Rig
from tests.contracts.test_stores import ROOT, blob_of, open_files, put, read
from tests.contracts.visitors import front_of, until
from tests.contracts.visits import FILES, Site

MIB = 1 << 20


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


async def test_visits_name_what_they_read_from_memory(quick_site: Site) -> None:
    """Small files, large ones whose answers are ready, and the tables of the site."""
    for _ in range(3):
        for target in ("/about", "/film.mp4"):
            assert (await quick_site.get(target)).status == 200
    route = quick_site.routes.find("shop.localhost")
    assert route is not None
    wanted = {blob_of(FILES[name]).sha256 for name in ("about.html", "film.mp4")}
    assert front_of(quick_site).quick.in_memory() == wanted | {route.manifest}


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
        await until(lambda: (rig.cached(), rig.temporary(), open_files()) == (set(), [], before))
    assert rig.door.reads() == [blob.sha256]


async def test_large_files_that_are_fetched_at_once_take_half_of_the_cap_at_most(rig: Rig) -> None:
    blobs = [await put(rig.far, os.urandom(6 * MIB)) for _ in range(8)]
    async with rig.near(capacity_bytes=32 * MIB) as near:
        rig.door.hold()
        reads = [asyncio.create_task(read(near, blob.sha256)) for blob in blobs]
        await until(lambda: len(rig.door.reads()) == 8)
        rig.door.let_go()
        most, ends = 0, asyncio.gather(*reads, return_exceptions=True)
        while not ends.done():
            most = max(most, sum(size_of(path) for path in rig.temporary()))
            await asyncio.sleep(0)
        refused = [end for end in await ends if isinstance(end, UnreachableError)]
        assert 1 <= len(refused) <= 7
        assert {error.what for error in refused} == {"too many large files are fetched at once"}
        assert most <= 16 * MIB + 6 * MIB  # and what four threads write at the same moment
        assert rig.temporary() == []
        sizes = [len(await until_given(near, blob.sha256)) for blob in blobs]
        assert sizes == [6 * MIB] * 8


async def test_what_is_being_fetched_counts_for_the_cap(rig: Rig) -> None:
    kept = [await put(rig.far, os.urandom(MIB)) for _ in range(12)]
    large = await put(rig.far, os.urandom(6 * MIB))
    async with rig.near(capacity_bytes=16 * MIB) as near:
        for blob in kept:
            await read(near, blob.sha256)
        await near.tend()
        assert len(rig.cached()) == 12
        (rig.temporary_folder() / "fetched").write_bytes(b"x" * large.size_bytes)
        await near.tend()
        assert len(rig.cached()) * MIB + large.size_bytes <= 16 * MIB


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
    assert in_small_room(tmp_path, FULL, "4m") == [
        "True True",
        "True False",
        "[Errno 28] No space left on device",
        "[]",
    ]


RESERVE = """
import asyncio, os, shutil
from pathlib import Path
from scalemesh.services.cached_store import open_near
from scalemesh.errors import UnreachableError
from tests.contracts.test_stores import blob_of, put, read
from tests.rigs.far_store import FarConfig, FarStore

async def main():
    room = Path("{room}")
    async with FarStore.open(FarConfig(path=Path("{far}"))) as far:
        small, large = [await put(far, os.urandom(size)) for size in (900_000, 6_000_000)]
        async with open_near(far, room / "cache", 1 << 30, is_keeper=False, reserve_bytes=1 << 30) as near:
            (room / "filler").write_bytes(b"x" * (shutil.disk_usage(room).free - 9_000_000))
            try:
                await read(near, large.sha256)
            except UnreachableError as error:
                print(error.what)
            print(blob_of(await read(near, small.sha256)) == small)
            (room / "filler").unlink()
        async with open_near(far, room / "cache", 1 << 30, is_keeper=False, reserve_bytes=1 << 30) as near:
            print(blob_of(await read(near, large.sha256)) == large)

asyncio.run(main())
"""


def test_large_files_leave_the_last_reserve_of_the_disk(tmp_path: Path) -> None:
    assert in_small_room(tmp_path, RESERVE, "100m") == ["there is no room to fetch a large file", "True", "True"]


def used_at(near: CachedStore, sha256: Digest, *, hours_ago: int) -> None:
    path = near.path(sha256)
    at = path.stat().st_mtime - hours_ago * 3600
    near._used.clear()
    os.utime(path, (at, at))


def in_small_room(home: Path, program: str, size: str) -> list[str]:
    """What *program* says, run with a disk of that *size* for its room."""
    room, far = home / "room", home / "far"
    room.mkdir()
    words = program.format(room=room, far=far)
    mount = f"mount -t tmpfs -o size={size} none {room} && exec {sys.executable} -c '{words}'"
    done = run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


async def until_given(near: CachedStore, sha256: Digest) -> bytes:
    """The blob, by a visitor who comes again as he is told."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await read(near, sha256)
            except UnreachableError:
                await asyncio.sleep(0.1)
