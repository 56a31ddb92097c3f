"""Which of many blobs are there, in few requests."""

from collections.abc import Collection, Sequence
from itertools import chain
from typing import Final

from plugins.stores.buckets.bucket import Bucket
from plugins.stores.buckets.keys import Keys
from plugins.stores.buckets.threads import Threads, chunked

_WORTH_A_LIST: Final = 12  #: keys that a page of a list must settle: it costs as much as so many single questions
_LANES: Final = 16


class Presence:
    """Asks for single keys, or lists where what is asked for lies close enough together."""

    def __init__(self, bucket: Bucket, keys: Keys, threads: Threads) -> None:
        self._bucket, self._keys, self._threads = bucket, keys, threads

    async def absent(self, keys: Collection[str]) -> set[str]:
        """Those of *keys* (of blobs) that are not there."""
        if not keys:
            return set()
        ordered = sorted(keys)
        size = -(-len(ordered) // _LANES)  # neighbours go together
        return set(chain.from_iterable(await self._threads.each(self._look, chunked(ordered, size))))

    def _look(self, keys: Sequence[str]) -> list[str]:
        absent, left = [], list(keys)
        while len(left) >= _WORTH_A_LIST:
            page = self._bucket.page(self._keys.blobs, after=left[0][:-1])
            there = {found.key for found in page.objects}
            last = page.objects[-1].key if page.more and page.objects else ""
            settled = [key for key in left if not last or key <= last]
            absent += [key for key in settled if key not in there]
            left = left[len(settled) :]
            if len(settled) < _WORTH_A_LIST:
                break
        return absent + [key for key in left if not self._bucket.head(key)]
