"""The contract of BlobStore and Staging, over every kind of store."""

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from scalemesh.errors import InvalidError, NotFoundError, RefusedError, UnreachableError
from scalemesh.ports import Store
from scalemesh.values import Blob, DeploymentId, Digest, Kept
from tests.contracts.crash_store import CONTENTS, A, B
from tests.contracts.openers import STORES, everything

ROOT: Final = Path(__file__).parents[2]
EVERY_SIZE: Final = [0, 1, 65_535, 256 * 1024, 256 * 1024 + 1, 1_000_003]
ABSENT: Final = Digest("0" * 64)


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def store(kind: str, tmp_path: Path) -> AsyncIterator[Store]:
    async with STORES[kind](tmp_path) as opened:
        yield opened


def blob_of(data: bytes) -> Blob:
    return Blob(sha256=Digest(hashlib.sha256(data).hexdigest()), size_bytes=len(data))


async def chunks_of(data: bytes, size: int = 50_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def put(store: Store, data: bytes) -> Blob:
    blob = blob_of(data)
    await store.put(blob, chunks_of(data))
    return blob


async def receive(store: Store, data: bytes, deployment: DeploymentId = A, attempt: int = 1) -> Blob:
    blob = blob_of(data)
    await store.receive(deployment, attempt, blob, chunks_of(data))
    return blob


async def read(store: Store, sha256: Digest, start: int = 0, stop: int | None = None) -> bytes:
    async with aclosing(store.read(sha256, start, stop)) as chunks:
        return b"".join([chunk async for chunk in chunks])


def open_files() -> set[str]:
    """What this process has open, sockets and pipes aside."""
    targets: set[str] = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile, as the one that lists them is
            targets.add(str(link.readlink()))
    return {target for target in targets if target.startswith("/") and not target.startswith("/proc/")}


@pytest.mark.parametrize("size", EVERY_SIZE)
async def test_a_blob_reads_as_it_was_put(store: Store, size: int) -> None:
    data = os.urandom(size)
    blob = await put(store, data)
    assert await read(store, blob.sha256) == data
    assert await store.missing([blob.sha256]) == set()


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 1), (0, 0), (5, 5), (999_999, None), (250_000, 600_000), (7, 10**9), (10**7, None), (10**7, 10**8), (9, 3)],
)
async def test_a_range_is_what_a_slice_would_be(store: Store, start: int, stop: int | None) -> None:
    data = os.urandom(1_000_003)
    blob = await put(store, data)
    assert await read(store, blob.sha256, start, stop) == data[start:stop]


async def test_a_blob_put_twice_is_kept_once(store: Store) -> None:
    """Putting the same digest again, also many times at once, changes nothing and raises nothing."""
    data = os.urandom(300_000)
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(put(store, data))
    blob = await put(store, data)
    assert await read(store, blob.sha256) == data


@pytest.mark.parametrize("sent", [b"", b"hell", b"hellO", b"hello!", b"hello" * 100_000])
async def test_bytes_that_are_not_the_blob_are_refused_and_not_kept(
    kind: str, store: Store, tmp_path: Path, sent: bytes
) -> None:
    blob = blob_of(b"hello")
    await store.missing([ABSENT])  # one in a bucket marks its place when it is first asked something
    before = everything(kind, tmp_path)
    with pytest.raises(RefusedError):
        await store.put(blob, chunks_of(sent))
    with pytest.raises(RefusedError):
        await store.receive(A, 1, blob, chunks_of(sent))
    assert await store.missing([blob.sha256]) == {blob.sha256}
    assert await store.received(A, 1) == {}
    assert everything(kind, tmp_path) == before


async def test_a_refused_put_does_not_harm_the_blob_of_that_name(store: Store) -> None:
    blob = await put(store, b"hello")
    with pytest.raises(RefusedError):
        await store.put(blob, chunks_of(b"jello"))
    assert await read(store, blob.sha256) == b"hello"


async def test_a_sender_that_breaks_off_leaves_nothing(kind: str, store: Store, tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    await store.missing([ABSENT])
    before = everything(kind, tmp_path)

    async def broken() -> AsyncIterator[bytes]:
        yield data[:600_000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.put(blob_of(data), broken())
    assert await store.missing([blob_of(data).sha256]) == {blob_of(data).sha256}
    assert everything(kind, tmp_path) == before


async def test_a_cancelled_put_leaves_nothing(kind: str, store: Store, tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    await store.missing([ABSENT])
    before = everything(kind, tmp_path)
    half_sent = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield data[:600_000]
        half_sent.set()
        await asyncio.Event().wait()
        yield b""

    task = asyncio.create_task(store.put(blob_of(data), endless()))
    async with asyncio.timeout(30):
        await half_sent.wait()
        assert kind != "disk" or everything(kind, tmp_path) != before
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert everything(kind, tmp_path) == before


async def test_an_absent_blob_is_not_found_and_deleting_it_is_no_error(store: Store) -> None:
    with pytest.raises(NotFoundError):
        await read(store, ABSENT)
    await store.delete([ABSENT])
    blob = await put(store, b"soon gone")
    await store.delete([blob.sha256])
    await store.delete([blob.sha256])
    with pytest.raises(NotFoundError):
        await read(store, blob.sha256)


async def test_missing_names_exactly_the_absent_ones(store: Store) -> None:
    kept = [(await put(store, bytes([number]))).sha256 for number in range(5)]
    assert await store.missing([*kept, ABSENT]) == {ABSENT}
    assert await store.missing([]) == set()


@pytest.mark.parametrize("name", ["", "ab", "A" * 64, "0" * 63 + "\n", "../" * 21 + "x", "/etc/passwd", "0" * 65])
async def test_a_name_that_is_no_digest_is_refused(store: Store, name: str) -> None:
    bad = Digest(name)
    with pytest.raises(InvalidError):
        await read(store, bad)
    with pytest.raises(InvalidError):
        await store.missing([bad])
    with pytest.raises(InvalidError):
        await store.delete([bad])
    for call in (store.put, lambda blob, chunks: store.receive(A, 1, blob, chunks)):
        with pytest.raises(InvalidError):
            await call(Blob(sha256=bad, size_bytes=1), chunks_of(b"x"))


@pytest.mark.parametrize("name", ["", "dpl_", "..", "dpl_../../x", "dpl_a/b", "dpl_A", "dpl_a\n", "prj_a"])
async def test_a_name_that_is_no_deployment_is_refused(store: Store, name: str) -> None:
    bad = DeploymentId(name)
    with pytest.raises(InvalidError):
        await receive(store, b"x", bad)
    with pytest.raises(InvalidError):
        await store.received(bad, 1)
    with pytest.raises(InvalidError):
        await store.adopt(bad, 1, [])
    with pytest.raises(InvalidError):
        await store.clear(bad)


async def test_an_abandoned_read_leaves_no_file_open(store: Store) -> None:
    blob = await put(store, os.urandom(2_000_000))
    before = open_files()
    for _ in range(10):
        async with aclosing(store.read(blob.sha256)) as chunks:
            await anext(chunks)
    assert open_files() == before


async def test_an_upload_is_seen_by_its_own_attempt_alone_and_is_no_blob_yet(store: Store) -> None:
    blob = await receive(store, b"mine")
    assert await store.received(A, 1) == {blob.sha256: 4}
    assert await store.received(A, 2) == {}
    assert await store.received(B, 1) == {}
    assert await store.missing([blob.sha256]) == {blob.sha256}
    with pytest.raises(NotFoundError):
        await read(store, blob.sha256)
    with pytest.raises(NotFoundError):
        await store.adopt(B, 1, [blob.sha256])


async def test_an_upload_received_twice_is_there_once(store: Store) -> None:
    """Before and after the listing, and many at once."""
    for _ in range(2):
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(receive(store, b"again"))
        assert await store.received(A, 1) == {blob_of(b"again").sha256: 5}


async def test_adopting_makes_the_named_uploads_blobs_and_is_repeatable(store: Store) -> None:
    one, two = await receive(store, b"one"), await receive(store, b"two")
    for _ in range(2):
        await store.adopt(A, 1, [one.sha256])
        assert await read(store, one.sha256) == b"one"
        assert await store.missing([two.sha256]) == {two.sha256}
    await store.clear(A)
    await store.clear(A)
    assert await store.received(A, 1) == {}
    await store.adopt(A, 1, [one.sha256])
    with pytest.raises(NotFoundError):
        await store.adopt(A, 1, [one.sha256, two.sha256])
    assert await read(store, one.sha256) == b"one"


async def test_adopting_what_another_deployment_uploaded_too_is_fine(store: Store) -> None:
    for deployment in (A, B):
        await receive(store, b"shared", deployment)
    async with asyncio.TaskGroup() as group:
        for deployment in (A, B):
            group.create_task(store.adopt(deployment, 1, [blob_of(b"shared").sha256]))
    await store.clear(A)
    assert await store.received(B, 1) == {blob_of(b"shared").sha256: 6}
    assert await read(store, blob_of(b"shared").sha256) == b"shared"


async def test_listings_and_uploads_at_the_same_time_agree_in_the_end(store: Store) -> None:
    blobs = {blob_of(bytes([number])).sha256: 1 for number in range(60)}
    async with asyncio.TaskGroup() as group:
        for number in range(60):
            group.create_task(receive(store, bytes([number])))
            group.create_task(store.received(A, 1))
    assert await store.received(A, 1) == blobs
    await store.adopt(A, 1, blobs)
    assert await store.missing(blobs) == set()


async def test_uploads_that_come_while_all_are_cleared_break_nothing(kind: str, store: Store) -> None:
    async def send(number: int) -> None:
        with suppress(UnreachableError):  # its folder went from under it: the sender tries again, if it still may
            await receive(store, b"%d" % number)

    await asyncio.gather(*(send(n) if n % 5 else store.clear(A) for n in range(1, 1000 if kind == "disk" else 150)))
    await store.clear(A)
    assert await store.received(A, 1) == {}


async def test_what_was_kept_is_there_after_opening_again(kind: str, tmp_path: Path) -> None:
    async with STORES[kind](tmp_path) as store:
        await put(store, b"kept")
        await receive(store, b"listed")
        await store.received(A, 1)
        await receive(store, b"fresh")
    async with STORES[kind](tmp_path) as store:
        assert await read(store, blob_of(b"kept").sha256) == b"kept"
        assert await store.received(A, 1) == {blob_of(b"listed").sha256: 6, blob_of(b"fresh").sha256: 5}


async def test_the_check_proves_it_and_leaves_nothing(kind: str, store: Store, tmp_path: Path) -> None:
    await store.missing([ABSENT])
    before = everything(kind, tmp_path)
    findings = await store.check()
    assert findings
    assert all(finding.ok for finding in findings)
    assert everything(kind, tmp_path) == before


async def run_until_killed(kind: str, where: Path, fault: str) -> int:
    """Let the crash program upload, adopt and put until it reaches *fault*; its exit status."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.contracts.crash_store", kind, str(where)),
        env={**os.environ, "SCALEMESH_FAULT": fault, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    async with asyncio.timeout(90):
        return await process.wait()


@pytest.mark.parametrize(
    "point", [f"store.{name}:{hit}" for name in ("staged_written", "before_link", "after_link") for hit in (1, 3)]
)
async def test_a_store_killed_at_a_write_is_right_afterwards(kind: str, tmp_path: Path, point: str) -> None:
    """Nothing torn is ever seen, and the same program run again comes to its end."""
    assert await run_until_killed(kind, tmp_path, point) == -signal.SIGKILL
    async with STORES[kind](tmp_path) as store:
        staged = await store.received(A, 1)
        by_digest = {blob_of(data).sha256: data for data in CONTENTS}
        assert all(len(by_digest[digest]) == size for digest, size in staged.items())
        for digest in set(by_digest) - await store.missing(by_digest):
            assert await read(store, digest) == by_digest[digest]
        await store.adopt(A, 1, staged)
    assert await run_until_killed(kind, tmp_path, "") == 0
    async with STORES[kind](tmp_path) as store:
        assert await store.missing(by_digest) == set()
        for digest, data in by_digest.items():
            assert await read(store, digest) == data
        assert await store.received(A, 1) == {}


async def test_the_inventory_tells_every_blob_once_and_in_order(store: Store) -> None:
    kept = sorted([(await put(store, os.urandom(9))).sha256 for _ in range(300)])
    assert [found.sha256 for found in await told(store)] == kept
    assert [found.sha256 for found in await told(store, kept[149])] == kept[150:]
    assert await told(store, kept[-1]) == []
    assert {found.size_bytes for found in await told(store)} == {9}


async def test_the_inventory_tells_when_a_blob_came(store: Store) -> None:
    before = datetime.now(UTC)
    await put(store, b"new")
    (found,) = await told(store)
    assert abs(found.at - before) < timedelta(minutes=1)


async def test_the_inventory_tells_whose_uploads_are_staged(store: Store) -> None:
    assert await store.staged() == []
    await receive(store, b"mine", A)
    await receive(store, b"too", A, 2)
    await receive(store, b"yours", B)
    assert sorted(await store.staged()) == sorted([A, B])
    await store.clear(A)
    assert await store.staged() == [B]


async def told(store: Store, after: Digest | None = None) -> list[Kept]:
    async with aclosing(store.blobs(after)) as pages:
        return [found async for page in pages for found in page]


async def test_many_blobs_are_deleted_at_once_and_no_others(store: Store) -> None:
    kept, gone = [[(await put(store, os.urandom(9))).sha256 for _ in range(30)] for _ in range(2)]
    await store.delete([*gone, ABSENT])
    assert await store.missing([*kept, *gone]) == set(gone)
    await store.delete([])
