"""A store that is busy, slow, cut off, or gone for a while."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from subprocess import run
from typing import Final

import pytest

from plugins.stores.buckets import findings
from plugins.stores.buckets.store import BucketStore
from scalemesh.errors import UnreachableError
from scalemesh.ports import Store
from scalemesh.values import Blob
from tests.contracts.buckets.senders import blob_of, once, put, read
from tests.contracts.crash_store import A
from tests.contracts.openers import BUCKETS, server_of
from tests.contracts.origins import until
from tests.rigs import s3_servers
from tests.rigs.s3_relay import Relay, Rule

ROOT: Final = Path(__file__).parents[3]
BOTH: Final = ("s3-weed", "minio-weed")
TRIES: Final = 3

pytestmark = pytest.mark.parametrize("kind", BOTH, indirect=True)


@pytest.fixture
async def relay(kind: str) -> AsyncIterator[Relay]:
    async with Relay.open(s3_servers.url_of(kind.partition("-")[2])) as opened:
        yield opened


@pytest.fixture
async def far(kind: str, relay: Relay, tmp_path: Path) -> AsyncIterator[BucketStore]:
    """A store behind the relay, with little patience."""
    more = {"endpoint": relay.url, "tries": TRIES, "connect_timeout_s": 2.0, "read_timeout_s": 5.0}
    async with BUCKETS[kind](tmp_path, **more) as store:
        await store.missing([blob_of(b"").sha256])
        # Its look for uploads in parts, below two places, begins with that and must not be counted.
        await until(lambda: sum("uploads" in asked.path for asked in relay.asked) == 2)
        relay.asked.clear()
        yield store


@pytest.fixture
async def patient(kind: str, relay: Relay, tmp_path: Path) -> AsyncIterator[BucketStore]:
    """A store behind the relay that would wait a minute for an answer."""
    async with BUCKETS[kind](tmp_path, endpoint=relay.url, read_timeout_s=60.0) as store:
        yield store


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, "TooManyRequests")])
async def test_a_store_that_is_busy_for_a_moment_is_asked_again(
    far: BucketStore, relay: Relay, status: int, code: str
) -> None:
    relay.refuse(TRIES - 1, "PUT", status=status, code=code)
    blob = await put(far, b"in the end")
    assert [asked.method for asked in relay.asked] == ["PUT"] * TRIES
    relay.refuse(TRIES - 1, "GET", status=status, code=code)
    assert await read(far, blob.sha256) == b"in the end"


async def test_an_error_in_what_began_as_a_success_is_one(far: BucketStore, relay: Relay) -> None:
    """S3 answers a copy at once, and may have to say in the body that it came to nothing."""
    blob = blob_of(b"copied")
    await far.receive(A, 1, blob, once(b"copied"))
    rule = Rule(lambda asked: "x-amz-copy-source" in asked.headers, 1, "answer", status=200, code="InternalError")
    relay.rules.append(rule)
    await far.adopt(A, 1, [blob.sha256])
    assert await read(far, blob.sha256) == b"copied"
    other = blob_of(b"never copied")
    await far.receive(A, 1, other, once(b"never copied"))
    rule.times = 100
    with pytest.raises(UnreachableError, match="busy or failing"):
        await far.adopt(A, 1, [other.sha256])
    assert await far.missing([other.sha256]) == {other.sha256}


async def test_a_large_file_is_sent_whole_again(far: BucketStore, relay: Relay) -> None:
    """One that lies in a temporary file, which was read to its end."""
    data = os.urandom(3_000_000)
    relay.refuse(1, "PUT")
    assert await read(far, (await put(far, data)).sha256) == data


async def test_a_store_that_stays_busy_is_told_as_that_after_a_bounded_number_of_tries(
    far: BucketStore, relay: Relay
) -> None:
    relay.refuse(100)
    with pytest.raises(UnreachableError, match="is busy or failing") as caught:
        await put(far, b"never")
    assert "SlowDown" in caught.value.why
    assert len(relay.asked) == TRIES
    with pytest.raises(UnreachableError):
        await far.missing([blob_of(b"never").sha256])
    with pytest.raises(UnreachableError):
        await far.received(A, 1)


async def test_a_store_that_says_nothing_is_given_up_in_time(kind: str, tmp_path: Path, relay: Relay) -> None:
    relay.stall(100)
    async with BUCKETS[kind](tmp_path, endpoint=relay.url, tries=2, read_timeout_s=0.3) as store:
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="does not answer in time"):
            await read(store, blob_of(b"x").sha256)
        assert time.monotonic() - began < 20


async def test_a_body_that_is_cut_is_read_on_from_there(far: BucketStore, relay: Relay) -> None:
    data = os.urandom(2_000_000)
    blob = await put(far, data)
    relay.cut(3, 500_000)
    assert await read(far, blob.sha256) == data
    ranges = [asked.headers.get("range") for asked in relay.asked if asked.method == "GET"]
    assert ranges[0] is None
    assert len(ranges) == 4
    assert all(str(each).startswith("bytes=") for each in ranges[1:])


async def test_a_body_that_is_cut_again_and_again_is_an_outage(far: BucketStore, relay: Relay) -> None:
    blob = await put(far, os.urandom(2_000_000))
    relay.cut(100, 50_000)
    with pytest.raises(UnreachableError):
        await read(far, blob.sha256)


async def test_a_store_that_is_not_there_is_opened_all_the_same_and_told_when_it_is_asked(
    kind: str, tmp_path: Path
) -> None:
    more = {"endpoint": "http://127.0.0.1:9", "tries": 2}
    async with BUCKETS[kind](tmp_path, **more) as store:
        x = blob_of(b"x").sha256
        calls: list[Callable[[], Awaitable[object]]] = [
            store.staged,
            partial(store.missing, [x]),
            partial(put, store, b"x"),
            partial(store.received, A, 1),
        ]
        for call in calls:
            with pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:9 cannot be reached") as caught:
                await call()
            assert "endpoint" in caught.value.fix
        (finding,) = await store.check()
        assert not finding.ok


async def test_the_check_ends_in_time_where_nothing_answers(
    kind: str, tmp_path: Path, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert findings._WITHIN_S < 10, "what is promised of a check"
    monkeypatch.setattr(findings, "_WITHIN_S", 2.0)
    if kind != "s3-weed":
        pytest.skip("the check is the same for all: once is enough of so long a wait")
    relay.stall(100)
    async with BUCKETS[kind](tmp_path, endpoint=relay.url, read_timeout_s=60.0) as store:
        began = time.monotonic()
        (finding,) = await store.check()
        assert not finding.ok
        assert "within 2 s" in finding.what
        assert time.monotonic() - began < 30


async def test_a_reader_that_leaves_gives_its_connection_up(far: BucketStore, relay: Relay) -> None:
    blob = await put(far, os.urandom(8_000_000))
    async with aclosing(far.read(blob.sha256)) as chunks:
        await anext(chunks)
        assert relay.under_way == 1
    async with asyncio.timeout(30):
        while relay.under_way:
            await asyncio.sleep(0.01)


async def test_a_call_that_is_cancelled_returns_at_once(patient: BucketStore, relay: Relay) -> None:
    relay.stall(100)
    x = blob_of(b"x").sha256
    for call in (patient.missing([x]), patient.received(A, 1), read(patient, x)):
        task = asyncio.create_task(call)
        async with asyncio.timeout(30):
            while not relay.under_way:
                await asyncio.sleep(0.01)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 10


async def test_many_readers_that_leave_a_store_that_hangs_do_not_wait_for_each_other(
    patient: BucketStore, relay: Relay
) -> None:
    relay.stall(100)
    reading = [asyncio.create_task(read(patient, blob_of(b"%d" % number).sha256)) for number in range(20)]
    async with asyncio.timeout(30):
        while not relay.under_way:
            await asyncio.sleep(0.01)
    began = time.monotonic()
    for task in reading:
        task.cancel()
    await asyncio.wait(reading)
    assert time.monotonic() - began < 10


HANGING = """
import asyncio, sys
from pathlib import Path
from tests.contracts.openers import BUCKETS, server_of
from tests.contracts.origins import until

async def main():
    async with BUCKETS[sys.argv[1]](Path(sys.argv[2]), endpoint=sys.argv[3], read_timeout_s=500.0) as store:
        asking = [asyncio.create_task(store.missing([f"{number:064x}"])) for number in range(40)]
        await asyncio.wait(asking, timeout=0.5)
        for each in asking:
            each.cancel()

asyncio.run(main())
print("over")
"""


async def test_a_server_that_hangs_does_not_keep_the_process(kind: str, tmp_path: Path, relay: Relay) -> None:
    relay.stall(1000)
    words = [sys.executable, "-c", HANGING, kind, str(tmp_path), relay.url]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = await asyncio.to_thread(run, words, cwd=ROOT, env=environment, timeout=50, capture_output=True, check=False)
    assert (done.stdout, done.returncode) == (b"over\n", 0), done.stderr.decode()


async def read_at_last(store: Store, blob: Blob) -> bytes:
    """The server lists what it has before it can read all of it again."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await read(store, blob.sha256)
            except UnreachableError:
                await asyncio.sleep(0.1)


async def put_until_it_fails(store: Store, taken: list[Blob]) -> None:
    with pytest.raises(UnreachableError):
        while True:
            taken.append(await put(store, os.urandom(100_000)))


async def test_a_server_that_was_killed_has_what_it_took_and_takes_more(kind: str, tmp_path: Path) -> None:
    server = await asyncio.to_thread(s3_servers.fresh, "weed")
    try:
        async with BUCKETS[kind](tmp_path, endpoint=server.url, tries=2) as store:
            kept = await put(store, b"kept")
            taken: list[Blob] = []
            sending = [asyncio.create_task(put_until_it_fails(store, taken)) for _ in range(20)]
            async with asyncio.timeout(30):
                while len(taken) < 20:
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(server.kill)
            await asyncio.gather(*sending)
            with pytest.raises(UnreachableError):
                await read(store, kept.sha256)
            await asyncio.to_thread(server.start)
            assert await read_at_last(store, kept) == b"kept"
            assert await store.missing([blob.sha256 for blob in taken]) == set()
            assert await read(store, (await put(store, b"more")).sha256) == b"more"
    finally:
        await asyncio.to_thread(server.end)


async def test_what_a_move_and_others_read_for_long_holds_up_no_visit(kind: str, tmp_path: Path) -> None:
    """Eight blobs of a move, four that are verified, four archives."""
    async with (
        Relay.open(s3_servers.url_of(server_of(kind))) as relay,
        BUCKETS[kind](tmp_path, endpoint=relay.url) as store,
    ):
        slow, visited = await put(store, b"slow"), await put(store, b"visited")
        held = Rule(lambda asked: asked.method == "GET" and slow.sha256 in asked.path, 16, "hold")
        relay.rules.append(held)
        chores = [asyncio.create_task(read(store, slow.sha256)) for _ in range(16)]
        async with asyncio.timeout(10):
            while held.times:
                await asyncio.sleep(0.01)
            assert await read(store, visited.sha256) == b"visited"
        held.released.set()
        assert await asyncio.gather(*chores) == [b"slow"] * 16
