"""Ends uploads in parts that a dead process of ours left: they take room, and no list of objects shows them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from scalemesh.errors import ScaleMeshError

if TYPE_CHECKING:
    from plugins.stores.buckets.answers import Unfinished
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
    count = 0
    with store.told():
        for place in (store.keys.blobs, store.keys.staging):  # not below the prefix: it may be empty, and others' too
            async for page in _pages(store, place):
                # Looked at here too: a server may know no prefix in this list.
                for each in [each for each in page if each.at < before and each.key.startswith(place)]:
                    await store.threads.run(store.bucket.abort, each.key, each.upload)
                    count += 1
    return count


async def _pages(store: "BucketStore", place: str) -> "AsyncIterator[list[Unfinished]]":
    more: tuple[str, str] | None = None
    while True:
        page = await store.threads.run(store.bucket.unfinished, place, more)
        yield page.uploads
        if page.more is None or page.more == more:
            return
        more = page.more
