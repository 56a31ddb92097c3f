"""Who may act on a blob at the same time, and which writes are under way."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager

from scalemesh.values import Digest


class Turns:
    """Writes of one blob go on together; removing it needs a turn alone. Blobs do not wait for each other."""

    def __init__(self) -> None:
        self._together: Counter[Digest] = Counter()
        self._alone: set[Digest] = set()
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def together(self, digests: Collection[Digest]) -> AsyncIterator[None]:
        """Hold a turn for all of *digests*, beside others who hold one so."""
        own = set(digests)
        await self._until(lambda: self._alone.isdisjoint(own))
        self._together.update(own)
        try:
            yield
        finally:
            self._together.subtract(own)
            for digest in own:
                if not self._together[digest]:
                    del self._together[digest]
            self._wake()

    @asynccontextmanager
    async def alone(self, digests: Collection[Digest]) -> AsyncIterator[None]:
        """Hold the only turn for each of *digests*."""
        own = set(digests)
        await self._until(lambda: self._alone.isdisjoint(own) and not any(digest in self._together for digest in own))
        self._alone |= own
        try:
            yield
        finally:
            self._alone -= own
            self._wake()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            changed = self._changed
            await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class InFlight:
    """Counts what is under way, so that all of it can be waited for without stopping what comes."""

    def __init__(self) -> None:
        self._now = _Group()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Something that is under way for as long as the block lasts."""
        group = self._now
        group.count += 1
        try:
            yield
        finally:
            group.count -= 1
            if not group.count:
                group.is_empty.set()

    async def drained(self) -> None:
        """Return once all that is under way now has ended."""
        group, self._now = self._now, _Group()
        if group.count:
            group.is_empty.clear()
            await group.is_empty.wait()


class _Group:
    def __init__(self) -> None:
        self.count, self.is_empty = 0, asyncio.Event()
