"""What whoever has a signed URL can do with it, and cannot."""

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.auth
import pytest
import urllib3

from plugins.stores.buckets.store import BucketStore
from plugins.stores.minio.signing import MinioSigner
from scalemesh.errors import NotFoundError, UnreachableError
from scalemesh.ports import Direct
from scalemesh.values import Blob, Digest
from tests.contracts.buckets.senders import LED, TRUSTING, VOUCHING, Behind, blob_of, once, put, read, sent, signed
from tests.contracts.crash_store import A, B
from tests.contracts.openers import BUCKETS, everything

STRICT = ("s3-weed", "minio-weed")  #: that look at every signature


def set_clock(monkeypatch: pytest.MonkeyPatch, *, off_by: timedelta) -> None:
    """Let what signs take it to be earlier or later than it is."""
    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda *_: (datetime.now(UTC) + off_by).replace(tzinfo=None)
    )
    made = MinioSigner.__init__

    def make(self: MinioSigner, config: Any) -> None:
        made(self, config, lambda: datetime.now(UTC) + off_by)

    monkeypatch.setattr(MinioSigner, "__init__", make)


async def test_what_a_url_allows_is_received_and_adopted(store: BucketStore) -> None:
    assert isinstance(store, Direct)
    data = os.urandom(70_000)
    request = await signed(store, data)
    assert {name.lower(): value for name, value in request.headers.items()}[
        "content-type"
    ] == "application/octet-stream"
    assert await sent(request, data) == 200
    assert await store.received(A, 1) == {blob_of(data).sha256: 70_000}
    assert await store.received(B, 1) == {}
    await store.adopt(A, 1, [blob_of(data).sha256])
    assert await read(store, blob_of(data).sha256) == data


@pytest.mark.parametrize("kind", VOUCHING, indirect=True)
async def test_a_store_that_vouches_refuses_all_but_the_bytes_that_were_signed(store: BucketStore) -> None:
    data = os.urandom(1000)
    request = await signed(store, data)
    digest = {"x-amz-checksum-sha256": "", "x-amz-content-sha256": blob_of(data[::-1]).sha256}
    assert await sent(request, data[::-1]) in {400, 403}
    assert await sent(request, data[::-1], digest) in {400, 403}
    assert await sent(request, data + b"!", {"content-length": "1001"}) in {400, 403}
    assert await sent(request, data[:-1], {"content-length": "999"}) in {400, 403}
    assert await store.received(A, 1) == {}
    assert await store.uploads.vouched()
    assert await sent(request, data) == 200
    assert await sent(request, data) == 412
    assert await store.received(A, 1) == {blob_of(data).sha256: 1000}


@pytest.mark.parametrize("kind", TRUSTING, indirect=True)
async def test_a_store_that_takes_anything_is_found_out_and_its_uploads_are_hashed(
    kind: str, store: BucketStore, behind: Behind, tmp_path: Path
) -> None:
    right, wrong = os.urandom(1000), os.urandom(1000)
    assert await sent(await signed(store, right), right) == 200
    checksum = {"x-amz-checksum-sha256": "", "x-amz-content-sha256": blob_of(os.urandom(1000)[::-1]).sha256}
    lied = {name: value for name, value in checksum.items() if value}
    request = await signed(store, wrong)
    bare = {name: value for name, value in request.headers.items() if name.lower() != "x-amz-checksum-sha256"}
    forged = type(request)(url=request.url, headers=bare)
    assert await sent(forged, wrong[::-1], lied) == 200, "this server refuses it: it is no example of its sort"
    assert behind.upload(blob_of(wrong).sha256) in everything(kind, tmp_path)
    assert await store.received(A, 1) == {blob_of(right).sha256: 1000}
    assert behind.upload(blob_of(wrong).sha256) not in everything(kind, tmp_path)
    assert not await store.uploads.vouched()
    with pytest.raises(NotFoundError):
        await store.adopt(A, 1, [blob_of(wrong).sha256])


async def test_what_was_exchanged_after_it_was_verified_is_not_adopted(store: BucketStore, behind: Behind) -> None:
    data, other = os.urandom(1000), os.urandom(1000)
    assert await sent(await signed(store, data), data) == 200
    await store.receive(A, 1, blob_of(other), once(other))
    assert await store.received(A, 1) == {blob_of(data).sha256: 1000, blob_of(other).sha256: 1000}
    for each in (data, other):
        behind.put(behind.upload(blob_of(each).sha256), each[::-1])
    for each in (data, other):
        with pytest.raises(NotFoundError):
            await store.adopt(A, 1, [blob_of(each).sha256])
    assert len(await store.missing([blob_of(data).sha256, blob_of(other).sha256])) == 2


async def test_what_was_sent_once_more_after_it_was_verified_is_adopted(store: BucketStore, behind: Behind) -> None:
    """The same bytes, perhaps under another ETag, as from a builder that missed the answer."""
    data = os.urandom(1000)
    await store.receive(A, 1, blob_of(data), once(data))
    await store.received(A, 1)
    behind.put(behind.upload(blob_of(data).sha256), data)
    await store.adopt(A, 1, [blob_of(data).sha256])
    assert await read(store, blob_of(data).sha256) == data


async def test_another_process_adopts_what_was_uploaded_before_it_began(kind: str, tmp_path: Path) -> None:
    data = os.urandom(1000)
    async with BUCKETS[kind](tmp_path) as store:
        assert await sent(await signed(store, data), data) == 200
    async with BUCKETS[kind](tmp_path) as store:
        await store.adopt(A, 1, [blob_of(data).sha256])
        assert await read(store, blob_of(data).sha256) == data


@pytest.mark.parametrize("kind", STRICT, indirect=True)
async def test_a_url_is_good_for_15_minutes(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(1000)
    for minutes, expected in ((-16, 403), (-14, 200)):
        with monkeypatch.context() as patch:
            async with BUCKETS[kind](tmp_path) as store:
                await store.missing([blob_of(data).sha256])
                set_clock(patch, off_by=timedelta(minutes=minutes))
            async with BUCKETS[kind](tmp_path, owner="") as signer:
                request = await asyncio.to_thread(signer.bucket.upload, f"{signer.keys.room(A, 1)}x", blob_of(data))
            assert await sent(request, data) == expected


async def test_a_url_to_download_gives_the_blob_and_no_other(store: BucketStore) -> None:
    data = os.urandom(1000)
    request = await store.download_url((await put(store, data)).sha256)

    def get(url: str) -> tuple[int, bytes]:
        with urllib3.PoolManager(retries=False) as http:
            answer = http.request("GET", url, headers=request.headers)
            return answer.status, answer.data

    assert await asyncio.to_thread(get, request.url) == (200, data)
    absent = await store.download_url(blob_of(b"absent").sha256)
    assert (await asyncio.to_thread(get, absent.url))[0] == 404


@pytest.mark.parametrize("kind", [LED], indirect=True)
async def test_of_a_store_that_copies_what_was_not_signed_nobody_gets_a_url(store: BucketStore, behind: Behind) -> None:
    data, secret = os.urandom(1000), os.urandom(1000)
    behind.put(behind.blob(blob_of(secret).sha256), secret)
    led = {"x-amz-copy-source": f"/{behind.bucket}/{behind.blob(blob_of(secret).sha256)}"}
    assert await sent(await signed(store, data), data, led) == 200
    stolen = behind.client.get_object(Bucket=behind.bucket, Key=behind.upload(blob_of(data).sha256))
    assert stolen["Body"].read() == secret, "this server refuses it: it is no example of its sort"
    assert await store.upload_urls(A, 1, [blob_of(data)]) == [None]
    assert not await store.uploads.vouched()
    assert await store.received(A, 1) == {}
    told = (await store.check())[-1]
    assert "copy any object" in told.what
    assert "update the server" in told.fix


@pytest.mark.parametrize("kind", [each for each in BUCKETS if each != LED], indirect=True)
async def test_a_url_copies_nothing_from_elsewhere_where_others_get_one(store: BucketStore, behind: Behind) -> None:
    data, secret = os.urandom(1000), os.urandom(1000)
    behind.put(behind.blob(blob_of(secret).sha256), secret)
    led = {"x-amz-copy-source": f"/{behind.bucket}/{behind.blob(blob_of(secret).sha256)}"}
    (request,) = await store.upload_urls(A, 1, [blob_of(data)])
    assert request is not None
    assert await sent(request, data, led) in {400, 403}
    assert await sent(request, b"", {**led, "content-length": "0"}) in {400, 403}
    assert await store.received(A, 1) == {}


@pytest.mark.parametrize("kind", [each for each in BUCKETS if each != LED], indirect=True)
async def test_what_is_too_large_for_one_request_has_no_url(store: BucketStore) -> None:
    largest = 5 * 1024**3
    blobs = [Blob(sha256=blob_of(b"x").sha256, size_bytes=size) for size in (largest, largest + 1)]
    assert [request is None for request in await store.upload_urls(A, 1, blobs)] == [False, True]


async def test_a_store_that_is_not_direct_gives_no_urls(kind: str, tmp_path: Path) -> None:
    async with BUCKETS[kind](tmp_path, direct=False) as store:
        assert await store.upload_urls(A, 1, [blob_of(b"x")]) == [None]


@pytest.mark.parametrize("kind", [each for each in BUCKETS if each != LED], indirect=True)
async def test_signing_a_thousand_urls_does_not_hold_up_the_loop(store: BucketStore) -> None:
    blobs = [Blob(sha256=Digest(f"{number:064x}"), size_bytes=number) for number in range(1000)]
    await store.upload_urls(A, 1, blobs[:1])
    shortest = 1.0
    for _ in range(5):  # the interpreter itself may be busy for a moment
        signing = asyncio.create_task(store.upload_urls(A, 1, blobs))
        longest, before = 0.0, time.thread_time()
        while not signing.done():
            await asyncio.sleep(0)
            longest, before = max(longest, time.thread_time() - before), time.thread_time()
        assert len({request.url for request in await signing if request}) == 1000
        shortest = min(shortest, longest)
    assert shortest < 0.05


@pytest.mark.parametrize("kind", STRICT, indirect=True)
async def test_clocks_that_are_apart_are_named_with_how_far(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, off_by=timedelta(minutes=-40))
    async with BUCKETS[kind](tmp_path) as store:
        with pytest.raises(UnreachableError, match="the clocks of this machine and of the store are") as caught:
            await put(store, b"x")
        assert caught.value.fix == "set the clock"
