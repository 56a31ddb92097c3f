"""Sends to signed URLs as builders do, and looks behind the back of a store."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import urllib3

from plugins.stores.buckets.store import BucketStore
from scalemesh.ports import Store
from scalemesh.values import Blob, DeploymentId, Digest, SignedRequest
from tests.contracts.crash_store import A
from tests.contracts.openers import in_bucket, server_of
from tests.rigs import s3_servers

#: that refuse wrong bytes of a signed request, as services tell and the stores must find out
VOUCHING: Final = ("s3-weed", "minio-weed", "s3-ministack")
#: that copies what a header says which nobody signed
LED: Final = "s3-moto"
TRUSTING: Final = ("s3-moto", "minio-ministack")


def blob_of(data: bytes) -> Blob:
    return Blob(sha256=Digest(hashlib.sha256(data).hexdigest()), size_bytes=len(data))


async def once(data: bytes, size: int = 1_000_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def put(store: Store, data: bytes) -> Blob:
    blob = blob_of(data)
    await store.put(blob, once(data))
    return blob


async def read(store: Store, sha256: Digest) -> bytes:
    async with aclosing(store.read(sha256)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def signed(store: BucketStore, data: bytes, deployment: DeploymentId = A) -> SignedRequest:
    """For an upload of *data*; also where the store gives nobody a URL by now, as one that was given before."""
    (request,) = await store.upload_urls(deployment, 1, [blob_of(data)])
    if request is None:
        assert (await store.uploads.verdict()).danger
        return await asyncio.to_thread(
            store.bucket.upload, f"{store.keys.room(deployment, 1)}{blob_of(data).sha256}", blob_of(data)
        )
    return request


async def sent(request: SignedRequest, data: bytes, headers: Mapping[str, str] | None = None) -> int:
    """The status of what the store answers."""

    def send() -> int:
        with urllib3.PoolManager(retries=False) as http:
            used = {**request.headers, **(headers or {})}
            return http.request("PUT", request.url, body=data, headers=used, timeout=10).status

    return await asyncio.to_thread(send)


class Behind:
    """The bucket itself, for whoever has all rights in it."""

    def __init__(self, kind: str, where: Path) -> None:
        settings = in_bucket(server_of(kind), where)
        self.bucket, self.prefix = settings["bucket"], f"{settings['prefix']}/"
        self.client: Any = s3_servers.client(settings["endpoint"])

    def upload(self, sha256: Digest, deployment: DeploymentId = A) -> str:
        return f"{self.prefix}staging/{deployment}/1/{sha256}"

    def blob(self, sha256: Digest) -> str:
        return f"{self.prefix}blobs/{sha256[:2]}/{sha256}"

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)
