"""The kind ``minio``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from plugins.stores.buckets.sending import Sizes
from plugins.stores.buckets.store import BucketStore, open_store
from plugins.stores.buckets.wire import Wire
from plugins.stores.minio.config import MinioConfig
from plugins.stores.minio.signing import MinioSigner


class MinioStore(BucketStore):
    """A store in a bucket of a MinIO server, or of one that speaks as it does."""

    Config = MinioConfig

    @classmethod
    @asynccontextmanager
    async def open(cls, config: MinioConfig, sizes: Sizes | None = None) -> AsyncIterator[Self]:
        """Yield the store; the server is first asked when something is first asked of the store."""
        signer = MinioSigner(config)
        wire = Wire(config, signer)
        store = cls("minio", config, signer, wire, sizes or Sizes())
        async with open_store(store, wire):
            yield store
