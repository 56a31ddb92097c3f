"""Adopts files of the tests in a bucket, and tells how far their copies are."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from plugins.stores.buckets.sending import Sizes
from plugins.stores.buckets.store import BucketStore
from tests.contracts.buckets.senders import blob_of, once
from tests.contracts.crash_store import A
from tests.contracts.openers import everything
from tests.rigs.s3_relay import Asked, Relay, Rule

SOON: Final = Sizes(listed_uploads=1, settled_after_s=0.0)
FILES: Final = [b"file %d" % number for number in range(60)]
DIGESTS: Final = [blob_of(data).sha256 for data in FILES]
KINDS: Final = ("s3-weed-late", "minio-weed-late")


async def receive(store: BucketStore, files: Sequence[bytes] = FILES, attempt: int = 1) -> None:
    for data in files:
        await store.receive(A, attempt, blob_of(data), once(data))


async def adopt(store: BucketStore, files: Sequence[bytes] = FILES) -> None:
    await receive(store, files)
    await store.adopt(A, 1, [blob_of(data).sha256 for data in files])


def below(kind: str, where: Path, folder: str) -> list[str]:
    """The objects in that folder of the store's place."""
    return [key for key in everything(kind, where) if f"/{folder}/" in key]


async def until_settled(kind: str, where: Path) -> None:
    async with asyncio.timeout(60):
        while await asyncio.to_thread(below, kind, where, "adopted"):
            await asyncio.sleep(0.05)


def is_copy(asked: Asked) -> bool:
    return "x-amz-copy-source" in asked.headers and "/staging/proof-" not in asked.path


async def until_carried(relay: Relay) -> None:
    async with asyncio.timeout(60):
        while relay.under_way:
            await asyncio.sleep(0.01)


async def until_held(rule: Rule) -> None:
    async with asyncio.timeout(60):
        while rule.times:
            await asyncio.sleep(0)
