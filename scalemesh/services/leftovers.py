"""What deployments have left outside of the database: logs of those that are deleted, uploads that nobody waits for.

A deletion is one transaction and then its effects; what a crash kept from happening is done here. Somebody who was away
may still send something after that, so a deployment is remembered for an hour after it is gone.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from scalemesh.db import retention as rows
from scalemesh.db.database import Database
from scalemesh.db.retention import RetentionRows
from scalemesh.faults import fault
from scalemesh.ports import LogStore, Store
from scalemesh.values import DeploymentId

GRACE: Final = timedelta(hours=1)  #: a URL that allows an upload is good for a quarter of it


class Leftovers:
    def __init__(self, database: Database, store: Store, logs: LogStore, *, now: Callable[[], datetime]) -> None:
        self._db, self._rows = database, RetentionRows(database)
        self._store, self._logs, self._now = store, logs, now

    async def run(self) -> int:
        """Drop what is left of deployments that are gone or over; of how many there were uploads. Repeatable.

        Raises:
            UnreachableError: a store or the database does not answer.
        """
        now = self._now()
        async with self._db.transaction() as tx:
            await rows.note_gone(tx, now)
        async for page in self._rows.gone():
            for deployment in page:
                await self._logs.drop(deployment)
        fault("leftovers.after_logs")
        orphans = await self.orphans()
        for deployment in orphans:
            await self._store.clear(deployment)
        async with self._db.transaction() as tx:
            await rows.forget_gone(tx, before=now - GRACE)
        return len(orphans)

    async def orphans(self) -> list[DeploymentId]:
        """Deployments whose uploads nobody waits for: they ended an hour ago, or there are none of that name."""
        staged = await self._store.staged()
        return await self._rows.over(staged, self._now() - GRACE)
