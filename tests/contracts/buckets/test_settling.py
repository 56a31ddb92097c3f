"""Adoptions that are a list in the bucket at first, and are copied later."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from plugins.stores.buckets.adoptions import MOST_BYTES, MOST_LISTED, Adoption, decoded
from plugins.stores.buckets.answers import Found
from plugins.stores.buckets.store import BucketStore
from scalemesh.errors import NotFoundError
from scalemesh.values import Digest
from tests.contracts.buckets.adopting import (
    DIGESTS,
    FILES,
    KINDS,
    SOON,
    adopt,
    below,
    receive,
    until_settled,
)
from tests.contracts.buckets.senders import blob_of, once, read, sent, signed
from tests.contracts.crash_store import A, B
from tests.contracts.openers import BUCKETS, LATE, server_of
from tests.contracts.test_stores import told
from tests.rigs import s3_servers
from tests.rigs.s3_relay import Relay

pytestmark = pytest.mark.parametrize("kind", KINDS, indirect=True)


@pytest.fixture
async def store(kind: str, tmp_path: Path) -> AsyncIterator[BucketStore]:
    async with LATE[kind](tmp_path) as opened:
        yield opened


async def test_what_is_adopted_is_one_list_and_is_read_where_it_lies(
    kind: str, store: BucketStore, tmp_path: Path
) -> None:
    await adopt(store)
    assert [len(below(kind, tmp_path, each)) for each in ("adopted", "staging", "blobs")] == [1, len(FILES), 0]
    assert await store.missing([*DIGESTS, blob_of(b"absent").sha256]) == {blob_of(b"absent").sha256}
    assert [await read(store, digest) for digest in DIGESTS] == FILES
    assert await store.received(A, 1) == {blob_of(data).sha256: len(data) for data in FILES}
    assert [kept.sha256 for kept in await told(store)] == sorted(DIGESTS)  # which copies
    assert [len(below(kind, tmp_path, each)) for each in ("adopted", "staging", "blobs")] == [0, len(FILES), len(FILES)]
    await store.clear(A)
    assert below(kind, tmp_path, "staging") == []
    assert [await read(store, digest) for digest in DIGESTS] == FILES


async def test_it_is_copied_by_and_by_although_nobody_asks(kind: str, tmp_path: Path) -> None:
    async with BUCKETS[kind.removesuffix("-late")](tmp_path, sizes=SOON) as store:
        await adopt(store)
        await store.clear(A)
        await until_settled(kind, tmp_path)
        assert below(kind, tmp_path, "staging") == []
        assert [await read(store, digest) for digest in DIGESTS] == FILES


async def test_few_files_are_copied_at_once(kind: str, tmp_path: Path) -> None:
    async with BUCKETS[kind.removesuffix("-late")](tmp_path) as store:
        await adopt(store, FILES[:32])
        assert [len(below(kind, tmp_path, each)) for each in ("adopted", "blobs")] == [0, 32]


async def test_a_store_that_vouches_for_nothing_copies_at_once(kind: str, tmp_path: Path) -> None:
    async with BUCKETS["s3-moto"](tmp_path, sizes=SOON) as store:
        await adopt(store)
        assert [len(below("s3-moto", tmp_path, each)) for each in ("adopted", "blobs")] == [0, len(FILES)]


async def test_the_next_process_goes_on_with_what_was_left(kind: str, tmp_path: Path) -> None:
    async with LATE[kind](tmp_path) as store:
        await adopt(store)
        await store.clear(A)
    async with BUCKETS[kind.removesuffix("-late")](tmp_path, sizes=SOON) as store:
        assert await store.received(A, 1) == {}
        await until_settled(kind, tmp_path)
        assert below(kind, tmp_path, "staging") == []
        assert [await read(store, digest) for digest in DIGESTS] == FILES


@pytest.mark.parametrize("more", [{"is_keeper": False}, {"owner": ""}])
async def test_a_process_that_only_reads_finds_what_another_adopts(
    kind: str, store: BucketStore, tmp_path: Path, more: dict[str, object]
) -> None:
    absent = blob_of(b"absent").sha256
    async with BUCKETS[kind.removesuffix("-late")](tmp_path, **more) as reader:
        with pytest.raises(NotFoundError):
            await read(reader, DIGESTS[0])
        await adopt(store)  # just after the other has looked
        assert await reader.missing([*DIGESTS, absent]) == {absent}
        assert await asyncio.gather(*(read(reader, digest) for digest in DIGESTS)) == FILES
        await store.clear(A)
        await told(store)
        assert below(kind, tmp_path, "staging") == []
        assert await asyncio.gather(*(read(reader, digest) for digest in DIGESTS)) == FILES
        with pytest.raises(NotFoundError):
            await read(reader, absent)
        assert await reader.missing([*DIGESTS, absent]) == {absent}


async def test_many_readers_that_miss_something_look_together(kind: str, store: BucketStore, tmp_path: Path) -> None:
    await adopt(store)
    async with Relay.open(s3_servers.url_of(server_of(kind))) as relay:
        plain = BUCKETS[kind.removesuffix("-late")]
        async with plain(tmp_path, endpoint=relay.url, owner="") as reader:
            assert await asyncio.gather(*(read(reader, digest) for digest in DIGESTS)) == FILES
    assert sum("adopted" in asked.path for asked in relay.asked) <= 3 * 2  # a list of lists, and the list


async def test_a_range_of_what_is_not_copied_is_what_a_slice_would_be(store: BucketStore) -> None:
    data = os.urandom(700_000)
    await adopt(store, [data])
    for start, stop in ((0, 0), (5, 5), (100_000, 500_000), (600_000, None), (10**7, None)):
        got = [chunk async for chunk in store.read(blob_of(data).sha256, start, stop)]
        assert b"".join(got) == data[start:stop]


async def test_what_is_copied_and_cleared_during_a_read_is_read_on_to_its_end(
    kind: str, store: BucketStore, tmp_path: Path
) -> None:
    data = os.urandom(2_000_000)
    await adopt(store, [data])
    async with Relay.open(s3_servers.url_of(server_of(kind))) as relay:
        relay.cut(1, 700_000, path="/staging/")
        plain = BUCKETS[kind.removesuffix("-late")]
        async with plain(tmp_path, endpoint=relay.url, is_keeper=False) as reader:
            chunks = reader.read(blob_of(data).sha256)
            got = [await anext(chunks)]
            await store.clear(A)
            await told(store)
            got += [chunk async for chunk in chunks]
    assert b"".join(got) == data


async def test_clearing_leaves_what_is_not_copied_and_shows_it_no_more(
    kind: str, store: BucketStore, tmp_path: Path
) -> None:
    await receive(store, [*FILES, b"not adopted"])
    await receive(store, [b"of another attempt"], attempt=2)
    await store.adopt(A, 1, DIGESTS)
    for _ in range(3):  # as whoever looks for leftovers does
        await store.clear(A)
        assert (await store.received(A, 1), await store.received(A, 2)) == ({}, {})
        assert await store.staged() == [A]
        assert len(below(kind, tmp_path, "staging")) == len(FILES)
    with pytest.raises(NotFoundError):
        await store.adopt(A, 1, [blob_of(b"not adopted").sha256])
    assert [await read(store, digest) for digest in DIGESTS] == FILES
    await told(store)
    assert await store.staged() == []
    assert [await read(store, digest) for digest in DIGESTS] == FILES


async def test_what_is_sent_again_after_clearing_is_an_upload_again(store: BucketStore) -> None:
    """By way of the daemon, and by a signed URL."""
    for send in (False, True):
        await adopt(store)
        await store.clear(A)
        if send:
            assert await sent(await signed(store, FILES[0]), FILES[0]) == 200
        else:
            await receive(store, FILES[:1])
        assert await store.received(A, 1) == {DIGESTS[0]: len(FILES[0])}
        await store.adopt(A, 1, DIGESTS[:1])
        await store.clear(A)
        await store.delete(DIGESTS)


async def test_two_deployments_with_the_same_files_settle_both(kind: str, store: BucketStore, tmp_path: Path) -> None:
    await adopt(store)
    for data in FILES:
        await store.receive(B, 1, blob_of(data), once(data))
    await store.adopt(B, 1, DIGESTS)
    await store.clear(A)
    assert len(await store.received(B, 1)) == len(FILES)
    await store.delete(DIGESTS[:1])
    assert below(kind, tmp_path, "adopted") == []
    assert [kept.sha256 for kept in await told(store)] == sorted(DIGESTS[1:])


async def test_a_list_of_the_largest_size_reads_as_it_was_written(kind: str) -> None:
    del kind  # is the same for all
    room = f"{'p' * 200}/staging/{A}/1/"
    digests = [Digest(f"{number:064x}") for number in range(MOST_LISTED)]
    uploads = {each: Found(f"{room}{each}", 10**12, each, datetime.now(UTC)) for each in digests}
    adoption = Adoption(room, uploads)
    again = decoded(room, adoption.encoded())
    assert len(adoption.encoded()) < MOST_BYTES
    assert [(f.key, f.size_bytes, f.etag) for f in again.uploads.values()] == [
        (f.key, f.size_bytes, f.etag) for f in uploads.values()
    ]
    assert again.name == adoption.name
