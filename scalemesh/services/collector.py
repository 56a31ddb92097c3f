"""Throws away blobs that nobody holds, in two phases, beside publishes that go on.

First it is noted since when a blob has no holder; whoever holds it again takes the note away. After the grace period
it is shut in a transaction (nobody can hold it now), then deleted from the store, then forgotten: whoever brings the
same bytes meanwhile waits for that and begins anew. So no blob is deleted that somebody has been told is there.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from scalemesh.db import blobs
from scalemesh.db.blobs import Amount, BlobRows
from scalemesh.db.database import Database
from scalemesh.errors import UnreachableError
from scalemesh.faults import fault
from scalemesh.ports import BlobStore
from scalemesh.services.holdings import Holdings

log = logging.getLogger(__name__)

LOOKED_AT: Final = 5_000  #: blobs in one transaction: others wait for it, for some milliseconds
REMOVED: Final = 200  #: at a time: whoever wants to hold one of them waits for all of them
RETRY_S: Final = (1.0, 5.0, 30.0, 60.0)
GRACE: Final = timedelta(hours=1)  #: visits that began before a deployment went may still read its blobs


class Collector:
    def __init__(
        self, database: Database, store: BlobStore, holdings: Holdings, *, grace: timedelta, now: Callable[[], datetime]
    ) -> None:
        """*grace* is how long a blob stays that nobody holds."""
        self._db, self._rows, self._store = database, BlobRows(database), store
        self._holdings, self._grace, self._now = holdings, grace, now
        self._removing = asyncio.Lock()
        self._left = asyncio.Event()  # something may be shut and not removed
        self._left.set()  # by the daemon before

    async def serve(self) -> None:
        """Until cancelled, end what a dead daemon or a store that was away has left begun: somebody may wait for it."""
        tries = 0
        while True:
            await self._left.wait()
            try:
                await self.end_removals()
                tries = 0
            except UnreachableError as error:
                log.warning("blobs cannot be removed yet", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1

    async def run(self, grace: timedelta | None = None) -> Amount:
        """Note what is unheld, remove what has been for long enough; return what was removed. Repeatable at any time.

        *grace*: another one, this time.

        Raises:
            UnreachableError: the store or the database does not answer; what was begun is ended by the next run.
        """
        removed = await self.end_removals()
        await self._mark()
        before = self._now() - (self._grace if grace is None else grace)
        while True:
            async with self._db.transaction() as tx:
                doomed = await blobs.doom(tx, before=before, limit=REMOVED)
            if not doomed:
                return removed
            fault("collect.after_doom")
            amount = await self.end_removals()
            removed = Amount(removed.count + amount.count, removed.size_bytes + amount.size_bytes)

    async def preview(self) -> Amount:
        """What nobody holds now; ``run`` removes it after the grace period, unless it is held again."""
        return await self._rows.unheld()

    async def end_removals(self) -> Amount:
        """Remove what is shut already, by this run or by one that was cut off.

        Raises:
            UnreachableError: as ``run``; ``serve`` goes on with it.
        """
        count = size_bytes = 0
        async with self._removing:  # a second one would delete what was brought again after the first
            self._left.set()
            while doomed := await self._rows.doomed(REMOVED):
                await self._store.delete([blob.sha256 for blob in doomed])
                fault("collect.after_delete")
                async with self._db.transaction() as tx:
                    await blobs.forget(tx, [blob.sha256 for blob in doomed])
                self._holdings.removed()
                count, size_bytes = count + len(doomed), size_bytes + sum(blob.size_bytes for blob in doomed)
            self._left.clear()
        return Amount(count, size_bytes)

    async def _mark(self) -> None:
        last = await self._rows.last_id()
        for after in range(0, last, LOOKED_AT):
            async with self._db.transaction() as tx:
                await blobs.mark_unheld(tx, after=after, last=min(after + LOOKED_AT, last), now=self._now())
            await asyncio.sleep(0)  # whoever waits to write comes first
