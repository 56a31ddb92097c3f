"""Adoptions by list when something goes wrong: killed, cut off, cancelled, exchanged."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from plugins.stores.buckets.store import BucketStore
from scalemesh.errors import NotFoundError, UnreachableError
from tests.contracts.buckets.adopting import (
    DIGESTS,
    FILES,
    KINDS,
    SOON,
    adopt,
    below,
    is_copy,
    receive,
    until_carried,
    until_held,
    until_settled,
)
from tests.contracts.buckets.senders import Behind, blob_of, put, read
from tests.contracts.crash_store import CONTENTS, A
from tests.contracts.openers import BUCKETS, LATE, everything, server_of
from tests.contracts.test_stores import run_until_killed, told
from tests.rigs import s3_servers
from tests.rigs.s3_relay import Relay, Rule

pytestmark = pytest.mark.parametrize("kind", KINDS, indirect=True)


@pytest.fixture
async def store(kind: str, tmp_path: Path) -> AsyncIterator[BucketStore]:
    async with LATE[kind](tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    "point", ["adopt.after_list", "settle.after_copies", "settle.after_uploads", "settle.after_list"]
)
async def test_killed_at_any_step_it_loses_nothing_and_leaves_nothing(kind: str, tmp_path: Path, point: str) -> None:
    assert await run_until_killed(kind, tmp_path, point) == -signal.SIGKILL
    adopted = CONTENTS[:-1]
    async with LATE[kind](tmp_path) as store:
        assert await store.missing([blob_of(data).sha256 for data in adopted]) == set()
        assert [await read(store, blob_of(data).sha256) for data in adopted] == adopted
        assert len(await store.received(A, 1)) == (len(adopted) if point == "adopt.after_list" else 0)
    assert await run_until_killed(kind, tmp_path, "") == 0
    assert [len(below(kind, tmp_path, each)) for each in ("adopted", "staging")] == [0, 0]
    assert len(everything(kind, tmp_path)) == len(CONTENTS) + 1


async def test_what_is_deleted_while_it_is_copied_does_not_come_back(kind: str, tmp_path: Path) -> None:
    copies = count(1)
    later_copies = Rule(lambda asked: is_copy(asked) and next(copies) > 5, 10_000, "hold")
    async with (
        Relay.open(s3_servers.url_of(server_of(kind))) as relay,
        LATE[kind](tmp_path, endpoint=relay.url) as store,
    ):
        await adopt(store)
        relay.rules.append(later_copies)
        settling = asyncio.create_task(told(store))
        async with asyncio.timeout(60):
            while len(await asyncio.to_thread(below, kind, tmp_path, "blobs")) < 5:
                await asyncio.sleep(0)
        settling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await settling
        later_copies.times = 0
        later_copies.released.set()  # those that are on their way arrive
        await store.delete(DIGESTS)
        assert await store.missing(DIGESTS) == set(DIGESTS)
        assert [below(kind, tmp_path, each) for each in ("adopted", "blobs")] == [[], []]
        await store.clear(A)
    async with BUCKETS[kind.removesuffix("-late")](tmp_path, sizes=SOON) as later:
        assert await told(later) == []


async def test_an_outage_holds_up_copies_and_no_reads(kind: str, tmp_path: Path) -> None:
    async with Relay.open(s3_servers.url_of(server_of(kind))) as relay:
        outage = Rule(is_copy, 10_000, "answer")
        relay.rules.append(outage)
        plain = BUCKETS[kind.removesuffix("-late")]
        async with plain(tmp_path, sizes=SOON, endpoint=relay.url, tries=1) as store:
            await adopt(store)
            with pytest.raises(UnreachableError):
                await told(store)
            with pytest.raises(UnreachableError):
                await store.delete(DIGESTS[:1])
            await store.clear(A)
            assert [await read(store, digest) for digest in DIGESTS] == FILES
            assert await store.missing(DIGESTS) == set()
            outage.times = 0
            await until_settled(kind, tmp_path)
            assert below(kind, tmp_path, "staging") == []
            assert [await read(store, digest) for digest in DIGESTS] == FILES


async def test_where_other_copies_are_under_way_the_list_stays_until_they_have_ended(kind: str, tmp_path: Path) -> None:
    """A conflict says neither that the blob is there nor that it is not."""
    async with Relay.open(s3_servers.url_of(server_of(kind))) as relay:
        others = Rule(is_copy, 10_000, "answer", status=409, code="ConditionalRequestConflict")
        relay.rules.append(others)
        async with LATE[kind](tmp_path, endpoint=relay.url, tries=1) as store:
            await adopt(store, FILES[:1])
            await store.clear(A)
            with pytest.raises(UnreachableError):
                await told(store)
            assert [len(below(kind, tmp_path, each)) for each in ("adopted", "staging")] == [1, 1]
            assert await read(store, DIGESTS[0]) == FILES[0]
            others.times = 2
            assert [kept.sha256 for kept in await told(store)] == DIGESTS[:1]
    assert [below(kind, tmp_path, each) for each in ("adopted", "staging")] == [[], []]


async def test_an_adoption_whose_list_cannot_be_written_fails_and_is_done_again(kind: str, tmp_path: Path) -> None:
    async with (
        Relay.open(s3_servers.url_of(server_of(kind))) as relay,
        LATE[kind](tmp_path, endpoint=relay.url, tries=1) as store,
    ):
        await receive(store)
        relay.rules.append(Rule(lambda asked: asked.method == "PUT" and "/adopted/" in asked.path, 1, "answer"))
        with pytest.raises(UnreachableError):
            await store.adopt(A, 1, DIGESTS)
        assert below(kind, tmp_path, "adopted") == []
        await store.adopt(A, 1, DIGESTS)
        assert len(below(kind, tmp_path, "adopted")) == 1
        await store.clear(A)
        assert [kept.sha256 for kept in await told(store)] == sorted(DIGESTS)
    assert [below(kind, tmp_path, each) for each in ("adopted", "staging")] == [[], []]


async def test_what_somebody_exchanged_behind_our_back_is_told_and_never_read(
    kind: str, store: BucketStore, behind: Behind, caplog: pytest.LogCaptureFixture
) -> None:
    await adopt(store, FILES[:3])
    exchanged, gone, whole = DIGESTS[:3]
    behind.put(behind.upload(exchanged), FILES[0][::-1])
    behind.client.delete_object(Bucket=behind.bucket, Key=behind.upload(gone))
    with pytest.raises(UnreachableError):
        await read(store, exchanged)
    with pytest.raises(NotFoundError):
        await read(store, gone)
    assert await read(store, whole) == FILES[2]
    with caplog.at_level(logging.ERROR):
        assert [kept.sha256 for kept in await told(store)] == [whole]
    assert sorted(record.__dict__["blob"] for record in caplog.records) == sorted([exchanged, gone])
    assert await store.missing(DIGESTS[:3]) == {exchanged, gone}
    for lost in (exchanged, gone):
        with pytest.raises(NotFoundError):
            await read(store, lost)


async def test_the_same_bytes_under_another_etag_are_copied_all_the_same(store: BucketStore, behind: Behind) -> None:
    data = b"the same"
    await adopt(store, [data])
    place = {"Bucket": behind.bucket, "Key": behind.upload(blob_of(data).sha256)}
    upload = behind.client.create_multipart_upload(**place)["UploadId"]
    part = behind.client.upload_part(**place, UploadId=upload, PartNumber=1, Body=data)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    behind.client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload=parts)
    assert [kept.sha256 for kept in await told(store)] == [blob_of(data).sha256]
    assert await read(store, blob_of(data).sha256) == data


async def test_an_adoption_that_is_cancelled_and_cleared_is_whole_all_the_same(kind: str, tmp_path: Path) -> None:
    """Its list may be on its way when the caller leaves."""
    async with Relay.open(s3_servers.url_of(server_of(kind))) as relay, LATE[kind](tmp_path, endpoint=relay.url) as one:
        await receive(one)
        on_its_way = Rule(lambda asked: asked.method == "PUT" and "/adopted/" in asked.path, 1, "hold")
        relay.rules.append(on_its_way)
        adopting = asyncio.create_task(one.adopt(A, 1, DIGESTS))
        await until_held(on_its_way)
        adopting.cancel()
        await asyncio.gather(adopting, return_exceptions=True)
        clearing = asyncio.create_task(one.clear(A))
        await asyncio.wait([clearing], timeout=0.5)
        on_its_way.released.set()
        await clearing
        await until_carried(relay)
    async with LATE[kind](tmp_path) as store:
        assert await store.received(A, 1) == {}
        assert [kept.sha256 for kept in await told(store)] == sorted(DIGESTS)
        assert [await read(store, digest) for digest in DIGESTS] == FILES


async def test_a_copy_that_takes_long_is_waited_for_before_its_blob_is_deleted(kind: str, tmp_path: Path) -> None:
    async with Relay.open(s3_servers.url_of(server_of(kind))) as relay, LATE[kind](tmp_path, endpoint=relay.url) as one:
        await adopt(one)
        slow = Rule(is_copy, 1, "hold")
        relay.rules.append(slow)
        settling = asyncio.create_task(told(one))
        await until_held(slow)
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
        deleting = asyncio.create_task(one.delete(DIGESTS))
        await asyncio.wait([deleting], timeout=0.5)
        slow.released.set()
        await deleting
        await until_carried(relay)
        assert below(kind, tmp_path, "blobs") == []


async def test_after_an_error_no_copy_is_left_on_its_way(kind: str, tmp_path: Path) -> None:
    async with (
        Relay.open(s3_servers.url_of(server_of(kind))) as relay,
        LATE[kind](tmp_path, endpoint=relay.url, tries=1) as store,
    ):
        await adopt(store)
        slow = Rule(is_copy, 1, "hold")
        relay.rules += [slow, Rule(is_copy, 1, "answer")]
        settling = asyncio.create_task(told(store))
        await until_held(slow)
        await asyncio.wait([settling], timeout=0.5)
        assert not settling.done()
        slow.released.set()
        with pytest.raises(UnreachableError):
            await settling
        await store.delete(DIGESTS)
        assert await store.missing(DIGESTS) == set(DIGESTS)


async def test_a_list_that_is_none_is_told_and_holds_nothing_up(
    kind: str, tmp_path: Path, behind: Behind, caplog: pytest.LogCaptureFixture
) -> None:
    behind.put(f"{behind.prefix}adopted/{A}/1/{'0' * 64}", b'{"uploads": [1]}')
    async with LATE[kind](tmp_path) as store:
        await put(store, b"x")
        assert len(await told(store)) == 1
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
        "a list of adopted uploads cannot be read"
    ]
