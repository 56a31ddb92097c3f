"""Keeps each project's asset window in step with its production, without a gap.

The window is made before production moves and named by the very transaction that moves it, so that a page of the old
deployment finds its files at every moment. It follows from the rows alone (what is live, what left and when), and is
made again where they changed meanwhile.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from scalemesh.db import blobs
from scalemesh.db import windows as rows
from scalemesh.db.blobs import BlobKind
from scalemesh.db.database import Transaction
from scalemesh.db.windows import Left, Standing
from scalemesh.errors import InvalidError, NotFoundError, UnreachableError
from scalemesh.faults import fault
from scalemesh.ports import BlobStore
from scalemesh.services import encodings, manifests, windows
from scalemesh.services.encodings import Encodings
from scalemesh.services.holdings import Holdings, of_window
from scalemesh.services.ledger import Ledger
from scalemesh.services.listings import whole
from scalemesh.services.windows import MAX_FORMERS, Former, Window, grown
from scalemesh.values import Deployment, Digest, ProjectId

log = logging.getLogger(__name__)
TRIES: Final = 10
STORE_TIMEOUT_S: Final = 10.0

T = TypeVar("T")


class _Unplanned(Exception):  # noqa: N818  rolls a transaction back, to be tried again
    def __init__(self, wanted: tuple[Left, ...], standing: Standing) -> None:
        super().__init__("the window is not made yet")
        self.wanted, self.standing = wanted, standing


@dataclass(frozen=True, slots=True)
class _Plan:
    wanted: tuple[Left, ...]
    table: Digest | None


class AssetWindows:
    def __init__(
        self, ledger: Ledger, store: BlobStore, holdings: Holdings, *, days: int, now: Callable[[], datetime]
    ) -> None:
        """Files of a deployment answer *days* after it ceased to be production; 0: not at all."""
        self._ledger, self._store, self._holdings, self._now = ledger, store, holdings, now
        self._time = timedelta(days=days)

    async def move(self, project: ProjectId, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run *work* in a transaction of the project; where production moves by it, the window moves along.

        *work* may be run again from a clean state. Raises what it raises.

        Raises:
            UnreachableError: the project does not come to rest, or the database does not answer.
        """
        plan: _Plan | None = None
        for _ in range(TRIES):
            at = _in_ms(self._now())
            try:
                async with self._ledger.change(project) as tx:
                    return await self._moved(tx, project, work, plan, at if plan is None else _time_of(plan, at))
            except _Unplanned as found:
                plan = _Plan(found.wanted, await self._made(project, found.wanted, found.standing))
        raise UnreachableError("the project changes all the time", fix="try again")

    async def delete(self, deployment: Deployment, work: Callable[[Transaction], Awaitable[None]]) -> None:
        """Run *work*, which deletes *deployment*, in a transaction that ends what the window has of it."""
        plan: _Plan | None = None
        for _ in range(TRIES):
            try:
                async with self._ledger.change(deployment.project) as tx:
                    standing = await self._standing(tx, deployment.project, self._now())
                    await work(tx)
                    wanted = tuple(left for left in standing.left if left.deployment != deployment.id)
                    if wanted != standing.left:
                        await _name(tx, deployment.project, _planned(plan, wanted, standing), standing)
            except _Unplanned as found:  # a store that is away must not keep the files of what is deleted
                standing = replace(found.standing, table=None)
                plan = _Plan(found.wanted, await self._made(deployment.project, found.wanted, standing))
            else:
                return
        raise UnreachableError("the project changes all the time", fix="try again")

    async def purge(self, project: ProjectId) -> None:
        """Let no file of a former deployment answer any more, from now on. Repeatable."""
        async with self._ledger.change(project) as tx:
            await rows.forget(tx, project)
            await blobs.release(tx, of_window(project))

    async def _moved(
        self,
        tx: Transaction,
        project: ProjectId,
        work: Callable[[Transaction], Awaitable[T]],
        plan: _Plan | None,
        at: datetime,
    ) -> T:
        before = await self._standing(tx, project, at)
        result = await work(tx)
        after = await self._standing(tx, project, at)
        if before.live is None or after.live is None or after.live.deployment == before.live.deployment:
            return result
        leaving = replace(before.live, at=at)
        wanted = (leaving, *(left for left in before.left if left.deployment != leaving.deployment))[:MAX_FORMERS]
        await _name(tx, project, _planned(plan, wanted, before), before)
        await rows.leave(tx, leaving.deployment, at)
        return result

    async def _standing(self, tx: Transaction, project: ProjectId, at: datetime) -> Standing:
        return await rows.standing(tx, project, since=at - self._time, limit=MAX_FORMERS)

    async def _made(self, project: ProjectId, wanted: tuple[Left, ...], standing: Standing) -> Digest | None:
        """The blob of the window of *wanted*. A store that is away holds nobody up: then the table stays as it is."""
        if not self._time:
            return None
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                window = await self._window(wanted, standing)
                if not window.files:
                    return None
                (kept,) = await self._holdings.put(of_window(project), windows.encode(window), kind=BlobKind.WINDOW)
        except (UnreachableError, TimeoutError) as error:
            log.warning("an asset window cannot be made", extra={"error": str(error)})
            return standing.table
        fault("window.after_blob")
        return kept.sha256

    async def _window(self, wanted: tuple[Left, ...], standing: Standing) -> Window:
        """Grown from the table at hand where only the first of *wanted* is new; else made of all of them."""
        formers = [self._until(left) for left in wanted]
        window, missing = await self._table(standing.table), list(wanted)
        if [(known.deployment, known.until) for known in window.formers] == formers[1:]:
            missing = missing[:1]
        else:
            window = Window()
        for left in reversed(missing):
            window = await self._grown(window, left)
        return window

    async def _grown(self, window: Window, left: Left) -> Window:
        deployment, until = self._until(left)
        try:
            manifest = await asyncio.to_thread(manifests.decode, await whole(self._store, left.manifest))
            known = Encodings()
            if left.encodings is not None:
                known = await asyncio.to_thread(encodings.decode, await whole(self._store, left.encodings))
        except (NotFoundError, InvalidError) as error:
            log.warning("a former deployment is lost", extra={"deployment": deployment, "error": str(error)})
            return window
        former = Former(deployment=left.deployment, created_at=manifest.created_at, until=until)
        return await asyncio.to_thread(grown, window, former, manifest, known)

    async def _table(self, table: Digest | None) -> Window:
        if table is None:
            return Window()
        try:
            return await asyncio.to_thread(windows.decode, await whole(self._store, table))
        except (NotFoundError, InvalidError) as error:
            log.warning("an asset window is lost", extra={"blob": table, "error": str(error)})
            return Window()

    def _until(self, left: Left) -> tuple[str, datetime]:
        return left.deployment, (left.at or self._now()) + self._time


async def _name(tx: Transaction, project: ProjectId, plan: _Plan, standing: Standing) -> None:
    """Let visits go by the planned table, and no other be kept; its files are kept for where they come from."""
    if plan.table is None:
        await blobs.release(tx, of_window(project))
    elif not await blobs.hold_alone(tx, of_window(project), plan.table):  # a purge let it go, and it was collected
        raise _Unplanned(plan.wanted, standing)
    await rows.put(tx, project, plan.table)


def _planned(plan: _Plan | None, wanted: tuple[Left, ...], standing: Standing) -> _Plan:
    if not wanted:
        return _Plan(wanted, None)
    if plan is None or plan.wanted != wanted:
        raise _Unplanned(wanted, standing)
    return plan


def _in_ms(at: datetime) -> datetime:
    """*at* as the database keeps it."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _time_of(plan: _Plan, at: datetime) -> datetime:
    """The time at which the planned move happens: a repeat must follow from the same rows."""
    return plan.wanted[0].at or at
