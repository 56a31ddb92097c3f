"""The kind ``s3``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from plugins.stores.buckets.sending import Sizes
from plugins.stores.buckets.store import BucketStore, open_store
from plugins.stores.buckets.wire import Wire
from plugins.stores.s3.config import S3Config
from plugins.stores.s3.signing import S3Signer


class S3Store(BucketStore):
    """A store in a bucket of Amazon S3, or of a server that speaks as it does."""

    Config = S3Config

    @classmethod
    @asynccontextmanager
    async def open(cls, config: S3Config, sizes: Sizes | None = None) -> AsyncIterator[Self]:
        """Yield the store; the server is first asked when something is first asked of the store."""
        signer = S3Signer(config)
        wire = Wire(config, signer)
        store = cls("s3", config, signer, wire, sizes or Sizes())
        async with open_store(store, wire):
            yield store
