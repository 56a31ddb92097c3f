"""Ends uploads in parts that a dead process of ours left: they take room, and no list of objects shows them."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from scalemesh.errors import ScaleMeshError

if TYPE_CHECKING:
    from plugins.stores.buckets.store import BucketStore

log = logging.getLogger(__name__)
OLD: Final = timedelta(days=1)
_EVERY_S: Final = 6 * 3600


async def sweep_for_ever(store: "BucketStore") -> None:
    """Once the place is known to be ours, and then now and again."""
    await store.is_seen.wait()
    while True:
        try:
            await sweep(store, datetime.now(UTC) - OLD)
        except ScaleMeshError as error:
            log.info("old uploads in parts were not looked for", extra={"why": error.what})
        await asyncio.sleep(_EVERY_S)


async def sweep(store: "BucketStore", before: datetime) -> int:
    """Abort what began before that; how many. Raises UnreachableError as the port says."""
    with store.told():
        found = await store.threads.run(store.bucket.unfinished, store.keys.prefix)
        old = [
            each for each in found if each.at < before and each.key.startswith((store.keys.blobs, store.keys.staging))
        ]
        for each in old:
            await store.threads.run(store.bucket.abort, each.key, each.upload)
    return len(old)
