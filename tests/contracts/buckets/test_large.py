"""What is large, and what is many: uploads in parts, copies in parts, lists of several pages."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from plugins.stores.buckets import presence
from plugins.stores.buckets.sending import MIB, Sizes
from plugins.stores.buckets.store import BucketStore
from plugins.stores.buckets.sweep import sweep
from plugins.stores.minio import MinioConfig, MinioStore
from plugins.stores.s3 import S3Config, S3Store
from scalemesh.errors import RefusedError
from scalemesh.values import Digest
from tests.contracts.buckets.senders import Behind, blob_of, once, put, read
from tests.contracts.crash_store import A
from tests.contracts.openers import BUCKETS, everything, in_bucket
from tests.rigs.s3_relay import Relay

REAL: Final = ("s3-weed", "minio-weed", "s3-ministack")
SMALL: Final = Sizes(whole_bytes=5 * MIB, part_bytes=5 * MIB, copied_whole_bytes=5 * MIB, copied_part_bytes=5 * MIB)


@pytest.fixture
async def in_parts(kind: str, tmp_path: Path) -> AsyncIterator[BucketStore]:
    """A store to which 5 MiB are much."""
    library, _, server = kind.partition("-")
    settings = in_bucket(server, tmp_path)
    opened = (
        S3Store.open(S3Config(**settings), SMALL)
        if library == "s3"
        else MinioStore.open(MinioConfig(**settings), SMALL)
    )
    async with opened as store:
        yield store


@pytest.mark.parametrize("kind", REAL, indirect=True)
async def test_70_mib_come_back_as_they_were(kind: str, store: BucketStore, tmp_path: Path) -> None:
    data = os.urandom(7 * MIB) * 10
    blob = await put(store, data)
    await store.put(blob, once(data))
    digest = hashlib.sha256()
    async with aclosing(store.read(blob.sha256)) as chunks:
        async for chunk in chunks:
            digest.update(chunk)
    assert digest.hexdigest() == blob.sha256
    async with aclosing(store.read(blob.sha256, 69 * MIB + 5)) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == data[69 * MIB + 5 :]
    assert len(everything(kind, tmp_path)) == 2  # the marker and the blob: no upload is unfinished


@pytest.mark.parametrize("kind", REAL, indirect=True)
async def test_large_uploads_are_received_and_adopted_in_parts(
    kind: str, in_parts: BucketStore, tmp_path: Path
) -> None:
    data = os.urandom(12 * MIB)
    blob = blob_of(data)
    for _ in range(2):
        await in_parts.receive(A, 1, blob, once(data))
        assert await in_parts.received(A, 1) == {blob.sha256: 12 * MIB}
        await in_parts.adopt(A, 1, [blob.sha256])
    await in_parts.clear(A)
    assert await read(in_parts, blob.sha256) == data
    assert len(everything(kind, tmp_path)) == 2


@pytest.mark.parametrize("kind", REAL, indirect=True)
@pytest.mark.parametrize("change", ["last byte", "one more", "one less", "broken off"])
async def test_large_bytes_that_are_not_the_blob_leave_nothing(
    kind: str, in_parts: BucketStore, tmp_path: Path, change: str
) -> None:
    data = os.urandom(11 * MIB)
    wrong = {"last byte": data[:-1] + bytes([data[-1] ^ 1]), "one more": data + b"!", "one less": data[:-1]}

    async def chunks() -> AsyncIterator[bytes]:
        async for chunk in once(wrong.get(change, data[: 9 * MIB])):
            yield chunk
        if change not in wrong:
            raise ConnectionResetError

    await in_parts.missing([Digest("0" * 64)])
    before = everything(kind, tmp_path)
    with pytest.raises(RefusedError if change in wrong else ConnectionResetError):
        await in_parts.put(blob_of(data), chunks())
    with pytest.raises(RefusedError if change in wrong else ConnectionResetError):
        await in_parts.receive(A, 1, blob_of(data), chunks())
    assert everything(kind, tmp_path) == before


@pytest.mark.parametrize("kind", REAL, indirect=True)
async def test_a_large_put_that_is_cancelled_leaves_nothing(
    kind: str, in_parts: BucketStore, behind: Behind, tmp_path: Path
) -> None:
    data = os.urandom(20 * MIB)
    half_sent = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        async for chunk in once(data[: 15 * MIB]):
            yield chunk
        half_sent.set()
        await asyncio.Event().wait()

    await in_parts.missing([Digest("0" * 64)])
    before = everything(kind, tmp_path)
    task = asyncio.create_task(in_parts.put(blob_of(data), endless()))
    async with asyncio.timeout(30):
        await half_sent.wait()
        unfinished = behind.client.list_multipart_uploads(Bucket=behind.bucket, Prefix=behind.prefix)
        assert unfinished.get("Uploads")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert everything(kind, tmp_path) == before


async def test_uploads_in_parts_of_a_dead_process_are_aborted_and_those_of_others_are_not(
    kind: str, store: BucketStore, behind: Behind, tmp_path: Path
) -> None:
    if kind.endswith("moto"):
        pytest.skip("moto tells no prefix apart in its list of unfinished uploads")
    await store.missing([Digest("0" * 64)])
    ours, other = behind.blob(Digest("0" * 64)), f"other{behind.prefix}blobs/00/{'0' * 64}"
    ids = [behind.client.create_multipart_upload(Bucket=behind.bucket, Key=key)["UploadId"] for key in (ours, other)]
    assert await sweep(store, datetime.now(UTC) - timedelta(hours=1)) == 0
    assert ids[0] in everything(kind, tmp_path)
    assert await sweep(store, datetime.now(UTC) + timedelta(hours=1)) == 1
    assert ids[0] not in everything(kind, tmp_path)
    left = behind.client.list_multipart_uploads(Bucket=behind.bucket, Prefix=f"other{behind.prefix}")["Uploads"]
    assert [upload["UploadId"] for upload in left] == [ids[1]]


async def fill(store: BucketStore, count: int) -> list[Digest]:
    """So many blobs and uploads, sorted."""
    contents = [b"%d" % number for number in range(count)]

    async def both(data: bytes) -> None:
        await put(store, data)
        await store.receive(A, 1, blob_of(data), once(data))

    for start in range(0, count, 200):
        await asyncio.gather(*map(both, contents[start : start + 200]))
    return sorted(blob_of(data).sha256 for data in contents)


@pytest.mark.parametrize("kind", ["s3-weed", "s3-ministack"], indirect=True)
async def test_more_than_a_thousand_are_listed_found_and_cleared(kind: str, store: BucketStore, tmp_path: Path) -> None:
    digests = await fill(store, 1203)
    async with aclosing(store.blobs()) as pages:
        told = [[kept.sha256 for kept in page] async for page in pages]
    assert [len(page) for page in told] == [1000, 203]
    assert [sha256 for page in told for sha256 in page] == digests
    assert sorted(await store.received(A, 1)) == digests
    await store.clear(A)
    assert await store.received(A, 1) == {}
    absent = [Digest(hashlib.sha256(b"absent %d" % number).hexdigest()) for number in range(1000)]
    server = in_bucket(kind.partition("-")[2], tmp_path)["endpoint"]
    async with Relay.open(server) as relay, BUCKETS[kind](tmp_path, endpoint=relay.url) as near:
        assert await near.missing([*digests, *absent]) == set(absent)
    assert len(relay.asked) < 60  # lists of what lies close together, instead of 2,203 questions
    assert relay.most_under_way <= 16


@pytest.mark.parametrize("kind", ["s3-weed", "minio-ministack"], indirect=True)
async def test_a_thousand_digests_that_lie_far_apart_are_asked_for_with_16_at_a_time(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = in_bucket(kind.partition("-")[2], tmp_path)["endpoint"]
    async with BUCKETS[kind](tmp_path) as store:
        kept = await put(store, b"kept")
    monkeypatch.setattr(presence, "_WORTH_A_LIST", 1001)  # as if a page of a list settled few of them
    async with Relay.open(server) as relay, BUCKETS[kind](tmp_path, endpoint=relay.url) as store:
        asked = [Digest(f"{number:064x}") for number in range(999)]
        assert await store.missing([*asked, kept.sha256]) == set(asked)
    assert 1000 < len(relay.asked) < 1010
    assert relay.most_under_way <= 16
