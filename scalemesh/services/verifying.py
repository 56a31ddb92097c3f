"""Reads everything in the store and tells what is damaged, what is missing, and what nobody knows.

It goes through store and database side by side, a page at a time. What looks wrong is looked at once more before it is
told: blobs come and go meanwhile. Reading stands back while the daemon is busy.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from scalemesh.db import blobs
from scalemesh.db.blobs import STORED
from scalemesh.db.database import Database
from scalemesh.db.expected import ExpectedRows
from scalemesh.db.homes import HomeRows
from scalemesh.errors import NotFoundError, UnreachableError
from scalemesh.services.chores import MOST_ERRORS, Progress, Result, Wanted
from scalemesh.services.copying import is_damaged
from scalemesh.services.hashing import Hashing
from scalemesh.services.home_store import HomeStore
from scalemesh.services.lanes import in_lanes
from scalemesh.values import Blob, Digest, Kept

log = logging.getLogger(__name__)

LANES: Final = 4  #: blobs that are read at a time
PAGE: Final = 1000
HOLDERS: Final = 5  #: told of one blob
BUSY_S: Final = 0.01  #: the event loop takes so long for one round: visits come first
REST_S: Final = 0.1
PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  #: before a store that does not answer is asked again
FIRST: Final = Digest("")
LAST: Final = Digest("f" * 64)


@dataclass(slots=True)
class Found:
    """Some blobs of one sort: all are counted, the first ones told."""

    count: int = 0
    size_bytes: int = 0
    first: list[dict[str, Any]] = field(default_factory=list)

    def add(self, size_bytes: int, facts: dict[str, Any]) -> None:
        self.count, self.size_bytes = self.count + 1, self.size_bytes + size_bytes
        if self.tells_more:
            self.first.append(facts)

    @property
    def tells_more(self) -> bool:
        return len(self.first) < MOST_ERRORS


@dataclass(slots=True)
class Report:
    """What was found so far."""

    damaged: Found = field(default_factory=Found)
    missing: Found = field(default_factory=Found)
    unknown: Found = field(default_factory=Found)
    restored: int = 0  #: of the damaged and the missing ones: they are whole again


class Verifying:
    def __init__(self, database: Database, home: HomeStore, *, pauses_s: Sequence[float] = PAUSES_S) -> None:
        self._db, self._rows, self._homes = database, ExpectedRows(database), HomeRows(database)
        self._home, self._pauses_s = home, pauses_s

    async def run(self, wanted: Wanted, progress: Progress) -> Result:
        """Read all; with ``wanted.mend`` put back what this machine's cache has, and take away what else is damaged.

        What is taken away, or was missing, the next deployment of those projects brings anew.

        Raises:
            Stopped: somebody wants that.
            UnreachableError: the database does not answer.
        """
        everything, kind, report = await self._homes.amount(), self._home.home.kind, Report()
        progress.begin("reading", everything.count, everything.size_bytes)
        with Hashing() as hashing:
            look = _Look(self, hashing, progress, report, is_mending=wanted.mend)
            after = FIRST
            async with aclosing(self._pages(progress)) as pages:
                async for page in pages:
                    await progress.unless_stopped(look.at_page(after, page))
                    after = page[-1].sha256
            await look.at_gap(after, LAST, ())
        return {
            "well": report.damaged.count + report.missing.count == report.restored,
            "store": kind,
            "is_mended": wanted.mend,
            "restored": report.restored,
            "blobs": progress.done,
            "size_bytes": progress.done_bytes,
            **{name: asdict(found) for name, found in (("damaged", report.damaged), ("missing", report.missing))},
            "unknown": asdict(report.unknown),
        }

    async def _pages(self, progress: Progress) -> AsyncGenerator[Sequence[Kept]]:
        """All pages that have something, also over times in which the store does not answer."""
        after, tries, is_over = None, 0, False
        while not is_over:
            try:
                async with aclosing(self._home.home.raw.blobs(after)) as pages:
                    async for page in pages:
                        progress.may_go_on()
                        if page:
                            yield page
                            after, tries = page[-1].sha256, 0
                is_over = True
            except UnreachableError as error:
                await self._wait(progress, error, tries)
                tries += 1

    async def _wait(self, progress: Progress, error: UnreachableError, tries: int) -> None:
        progress.words = f"waiting: {error.what}"
        log.warning("verifying waits", extra={"error": str(error)})
        await progress.pause(self._pauses_s[min(tries, len(self._pauses_s) - 1)])

    async def absent(self, digests: Collection[Digest], progress: Progress) -> set[Digest]:
        """Those that the store has not got, whenever it answers."""
        for tries in range(1 << 30):
            try:
                return await self._home.home.raw.missing(digests)
            except UnreachableError as error:
                await self._wait(progress, error, tries)
        return set()

    async def is_damaged(self, kept: Kept, hashing: Hashing, progress: Progress) -> bool:
        """Whether it reads twice as something else than its name says; one that is gone is not."""
        blob, tries, times = Blob(sha256=kept.sha256, size_bytes=kept.size_bytes), 0, 0
        while times < 2:
            progress.may_go_on()
            try:
                if not await is_damaged(self._home.home.raw, blob, hashing):
                    return False
            except NotFoundError:
                return False
            except UnreachableError as error:
                await self._wait(progress, error, tries)
                tries += 1
                continue
            times += 1
        return True

    async def restored(self, sha256: Digest, progress: Progress) -> bool:
        """Whether it is whole again, put back from this machine's cache."""
        for tries in range(1 << 30):
            try:
                return await self._home.restore(sha256)
            except UnreachableError as error:
                await self._wait(progress, error, tries)
        return False

    async def mend(self, damaged: Collection[Digest], gone: Collection[Digest]) -> None:
        """Remove *damaged* ones; note all as lost, so that whoever has the bytes brings them again."""
        if damaged:
            await self._home.delete(damaged)  # first: a deployment that brings one must not find the damaged one there
        async with self._db.transaction() as tx:
            await blobs.lost(tx, [*damaged, *gone])

    async def held_by(self, sha256: Digest) -> list[dict[str, Any]]:
        return [asdict(holder) for holder in await self._rows.holders(sha256, HOLDERS)]

    async def expected(self, after: Digest, last: Digest) -> list[Digest]:
        return await self._rows.between(after, last, PAGE)

    async def states(self, digests: Collection[Digest]) -> dict[Digest, int]:
        return await self._rows.states(digests)


class _Look:
    """One run: what is told of a page, and of what should be between two of its blobs."""

    def __init__(
        self, store: Verifying, hashing: Hashing, progress: Progress, report: Report, *, is_mending: bool
    ) -> None:
        self._store, self._hashing, self._progress, self._report = store, hashing, progress, report
        self._is_mending = is_mending

    async def at_page(self, after: Digest, page: Sequence[Kept]) -> None:
        """The blobs of *page*, and what is missing from above *after* up to its last one."""
        present = {kept.sha256: kept for kept in page}
        await self.at_gap(after, page[-1].sha256, present)
        known = await self._store.states(present)
        strangers = [digest for digest in present if digest not in known]
        gone = await self._store.absent(strangers, self._progress) if strangers else set()
        for digest in strangers:
            if digest not in gone:  # else it was removed between the two looks
                size = present[digest].size_bytes
                self._report.unknown.add(size, {"sha256": digest, "size_bytes": size})
        self._progress.words = ""
        await in_lanes(self._read, [kept for kept in page if kept.sha256 in known], lanes=LANES)

    async def at_gap(self, after: Digest, last: Digest, present: Collection[Digest]) -> None:
        """What the database expects above *after* up to *last*, and is not among *present*."""
        while expected := await self._store.expected(after, last):
            after = expected[-1]
            lacking = [digest for digest in expected if digest not in present]
            lost = [digest for digest in sorted(await self._missing(lacking)) if not await self._told_missing(digest)]
            if lost and self._is_mending:  # at once: an empty store has as many as there are blobs
                await self._store.mend((), lost)

    async def _told_missing(self, sha256: Digest) -> bool:
        """Tell of it; whether it was put back."""
        facts = {"sha256": sha256, "held_by": await self._holders(self._report.missing, sha256)}
        restored = await self._restored(sha256)
        self._report.missing.add(0, {**facts, **restored})
        return restored.get("restored", False)

    async def _missing(self, digests: Sequence[Digest]) -> set[Digest]:
        """Those that are missing and expected at the same time: blobs are put and removed meanwhile."""
        gone = await self._store.absent(digests, self._progress) if digests else set()
        if not gone:
            return gone
        states = await self._store.states(gone)
        still = [digest for digest in gone if states.get(digest) == STORED]
        return await self._store.absent(still, self._progress) if still else set()

    async def _read(self, kept: Kept) -> None:
        await _stand_back()
        if await self._store.is_damaged(kept, self._hashing, self._progress):
            log.error("a blob is damaged", extra={"blob": kept.sha256})
            held_by = await self._holders(self._report.damaged, kept.sha256)
            facts = {"sha256": kept.sha256, "size_bytes": kept.size_bytes, "held_by": held_by}
            restored = await self._restored(kept.sha256)
            if restored == {"restored": False}:  # at once: until the page is read somebody may have brought it anew
                await self._store.mend([kept.sha256], ())
            self._report.damaged.add(kept.size_bytes, {**facts, **restored})
        self._progress.advance(1, kept.size_bytes)

    async def _holders(self, found: Found, sha256: Digest) -> list[dict[str, Any]]:
        """Of those that are told; of the others nobody asks."""
        return await self._store.held_by(sha256) if found.tells_more else []

    async def _restored(self, sha256: Digest) -> dict[str, bool]:
        """Put it back, if that is wanted; say whether it was."""
        if not self._is_mending:
            return {}
        is_restored = await self._store.restored(sha256, self._progress)
        self._report.restored += is_restored
        return {"restored": is_restored}


async def _stand_back() -> None:
    """Wait a little while the event loop has much to do."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await asyncio.sleep(0)
    if loop.time() - begun > BUSY_S:
        await asyncio.sleep(REST_S)
