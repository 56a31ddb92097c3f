"""Moves all blobs to another store, in the order of their digests, while sites are served and published.

Copied is what was there before; what is written meanwhile goes to both (``HomeStore``). Then all of it is compared,
until one look finds nothing that the target lacks. The switch is one transaction, then one assignment, here and in
every serving process. Stopped or killed at any point, the same chore goes on where it was; the old store stays whole.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from scalemesh.db import blobs, homes
from scalemesh.db.database import Database
from scalemesh.db.homes import Home, HomeRows, Move
from scalemesh.errors import (
    ConfigError,
    ConflictError,
    InvalidError,
    NotFoundError,
    RefusedError,
    ScaleMeshError,
    UnreachableError,
)
from scalemesh.faults import fault
from scalemesh.ports import LocalFiles, Located
from scalemesh.services.chores import MOST_ERRORS, Progress, Result, Wanted
from scalemesh.services.copying import Copied
from scalemesh.services.hashing import Hashing
from scalemesh.services.home_store import HomeStore, Place
from scalemesh.services.lanes import in_lanes
from scalemesh.services.openings import Openings
from scalemesh.values import Blob, Digest, Kept

log = logging.getLogger(__name__)

LANES: Final = 8  #: blobs on their way at a time
NOTE_S: Final = 1.0  #: how much work a restart may do again
PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  #: before a store that does not answer is asked again
LOOK_S: Final = 60.0
MOST_DAMAGED: Final = 10_000  #: then it is the disk
LAST: Final = Digest("f" * 64)


@dataclass(frozen=True, slots=True)
class State:
    """Where the blobs live."""

    configured: str  #: the kind that the config names
    home: Home
    move: Move | None
    where: str  #: for people; empty: the store does not tell
    others: Sequence[str]  #: kinds that have settings, and could be moved to


async def _lacks_nothing(_place: Path) -> str:
    return ""


class Moving:
    def __init__(
        self,
        database: Database,
        home: HomeStore,
        stores: Openings,
        *,
        configured: str,
        others: Sequence[str] = (),
        tell: Callable[[str], Awaitable[None]],
        now: Callable[[], datetime],
        lacks: Callable[[Path], Awaitable[str]] = _lacks_nothing,
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        """*configured*: the kind that the config names; *others* have a table there.

        *tell* returns when all who serve read from the new home. *lacks* says why there is no room for more in a folder
        of this machine; empty: there is.
        """
        self._db, self._rows, self._home, self._stores = database, HomeRows(database), home, stores
        self._configured, self._tell, self._now, self._pauses_s = configured, tell, now, pauses_s
        self._known, self._lacks = dict.fromkeys((configured, *others)), lacks

    async def unfinished(self) -> Wanted | None:
        """The move that a daemon before this one was at."""
        move = await self._rows.move()
        if move is None or move.is_stopped:
            return None
        return Wanted(kind="migrate", to=move.target, despite_damage=move.despite_damage)

    async def state(self) -> State:
        """Where the blobs live, what the config says, and a move that is under way or was stopped."""
        home = await self._rows.home()
        if home is None:
            raise RuntimeError("the daemon did not note where the blobs live")
        store = self._home.home.raw
        return State(
            configured=self._configured,
            home=home,
            move=await self._rows.move(),
            where=store.where if isinstance(store, Located) else "",
            others=[kind for kind in self._known if kind != home.kind],
        )

    async def run(self, wanted: Wanted, progress: Progress) -> Result:
        """Move to the store of the kind ``wanted.to``, or go on with that.

        Raises:
            InvalidError, ConfigError: the blobs live there already, or there is no such store.
            ConflictError: uploads from before the last move are still in use.
            RefusedError, UnreachableError: the target does not work, found out before anything was begun.
            Stopped: somebody wants that; the same call goes on later.
        """
        if wanted.to == self._home.home.kind:
            raise InvalidError(f"the blobs live in {wanted.to} already")
        await self.look_at_leftovers()
        if (former := self._home.former) is not None:
            raise ConflictError(
                f"uploads from before the last move may still lie in {former.kind}",
                why="the deployments that they may belong to have not come to their end",
                fix="wait for them, or cancel them; then run it again",
            )
        try:
            target = await self._stores.open(wanted.to)
        except (ConfigError, InvalidError):  # its table was taken out of the config: or every start would fail at it
            await self._stop_row()
            raise
        try:
            move = await self._begun(target, wanted, progress)
            await self._home.begin(target)
            with Hashing() as hashing:
                return await self._moved(_Run(target, move, progress, hashing))
        except asyncio.CancelledError:
            raise  # the daemon ends, and the next one goes on
        except BaseException:
            await self._give_up(target)
            raise

    async def tidy(self) -> None:
        """Until cancelled: let go of the former store once nobody goes on who may have sent something there."""
        while True:
            try:
                await self.look_at_leftovers()
            except ScaleMeshError as error:
                log.warning("who needs the former store is not known", extra={"error": str(error)})
            except Exception:
                log.exception("a bug: who needs the former store is not known")
            await asyncio.sleep(LOOK_S)

    async def look_at_leftovers(self) -> None:
        """Note who may still have uploads in the former store; with nobody left, it is needed no more.

        Not what lies there is looked at: a signed URL is used later than it was given, and that store may be gone.
        """
        former, home = self._home.former, await self._rows.home()
        if former is None or home is None:
            return
        if senders := await self._rows.senders(home.since_at):
            self._home.expect_of_former(senders)
            return
        async with self._db.transaction() as tx:
            await homes.no_leftovers(tx)
        self._home.forget_former()  # not closed: visits that began before may still read there
        log.info("the former store is needed no more", extra={"kind": former.kind})

    async def _begun(self, target: Place, wanted: Wanted, progress: Progress) -> Move:
        """The move's row. A target that does not work begins none; one that goes away later is waited for."""
        progress.begin("checking")
        known = await self._rows.move()
        if known is None or known.is_stopped or known.target != target.kind:
            for finding in await target.raw.check():
                if not finding.ok:
                    raise RefusedError(f"store.{target.kind}: {finding.what}", fix=finding.fix)
        async with self._db.transaction() as tx:
            await homes.begin_move(tx, target.kind, self._now(), despite_damage=wanted.despite_damage)
        fault("move.after_begin")
        found = await self._rows.move()
        if found is None:
            raise RuntimeError("the move is not in the database")
        return found

    async def _moved(self, run: "_Run") -> Result:
        source, move, progress = self._home.home, run.move, run.progress
        copied = await self._rows.amount(move.copied_to)
        progress.begin("copying", copied.count, copied.size_bytes)
        await self._pass(run, move.copied_to, is_noted=True)
        while True:
            missed, everything = self._home.missed, await self._rows.amount()
            progress.begin("comparing", everything.count, everything.size_bytes)
            run.damaged.clear()
            await self._pass(run, None, is_noted=False)
            if run.damaged and not move.despite_damage:
                await self._give_up(run.target)
                return run.result(source, is_moved=False)
            self._home.demand_both()
            if self._home.missed == missed:  # nothing waits between these lines: whatever comes later reaches both
                break
            self._home.relax()
            await progress.pause(self._pauses_s[0])
        await self._switch(source, run)
        return run.result(source, is_moved=True)

    async def _pass(self, run: "_Run", after: Digest | None, *, is_noted: bool) -> None:
        """Bring every blob above *after* that the target lacks. Whatever does not answer is asked until it does."""
        loop = asyncio.get_running_loop()
        noted_at, tries = loop.time(), 0
        while True:
            try:
                async with aclosing(self._home.blobs(after)) as pages:
                    async for page in pages:
                        await run.progress.unless_stopped(self._bring(run, page, is_first=is_noted))
                        after, tries = page[-1].sha256 if page else after, 0
                        if is_noted and after and loop.time() - noted_at >= NOTE_S:
                            await self._note(after)
                            noted_at = loop.time()
                break
            except UnreachableError as error:
                run.progress.words = f"waiting: {error.what}{f' ({error.why})' if error.why else ''}"
                log.warning("the move waits", extra={"to": run.target.kind, "error": str(error)})
                await run.progress.pause(self._pauses_s[min(tries, len(self._pauses_s) - 1)])
                tries += 1
        if is_noted:
            await self._note(LAST)

    async def _note(self, after: Digest) -> None:
        async with self._db.transaction() as tx:
            await homes.copied_to(tx, after)
        fault("move.after_note")

    async def _bring(self, run: "_Run", page: Sequence[Kept], *, is_first: bool) -> None:
        """*is_first*: what the target has is there from before the move, and may have rotted: it is read."""
        progress = run.progress
        done, done_bytes = progress.done, progress.done_bytes
        progress.may_go_on()
        lacking = await run.target.raw.missing([kept.sha256 for kept in page])
        there = [] if is_first else [kept for kept in page if kept.sha256 not in lacking]
        progress.words = ""
        progress.advance(len(there), sum(kept.size_bytes for kept in there))

        async def bring(kept: Kept) -> None:
            progress.may_go_on()
            blob = Blob(sha256=kept.sha256, size_bytes=kept.size_bytes)
            if kept.sha256 in lacking or not await self._is_right(run, blob):
                await self._need_room(run.target)
                copied = await self._home.bring(blob, run.hashing)
                fault("move.after_copy")
                if copied is Copied.DAMAGED:
                    run.note_damage(kept)
            progress.advance(1, kept.size_bytes)

        try:
            await in_lanes(bring, [kept for kept in page if is_first or kept.sha256 in lacking], lanes=LANES)
        except UnreachableError:
            progress.done, progress.done_bytes = done, done_bytes  # the page is looked at again
            raise

    async def _need_room(self, target: Place) -> None:
        """Raise UnreachableError where the target lies on a disk of this machine that is full: it is waited for."""
        if not isinstance(target.raw, LocalFiles):
            return
        try:
            why = await self._lacks(target.raw.path(LAST).parent)
        except OSError as error:
            why = str(error)
        if why:
            raise UnreachableError("there is no room for more blobs", why=why, fix="free some, or stop the move")

    async def _is_right(self, run: "_Run", blob: Blob) -> bool:
        try:
            return await self._home.prove(blob, run.hashing)
        except NotFoundError:  # it was removed just now
            return False

    async def _switch(self, source: Place, run: "_Run") -> None:
        """From here on the target is the home: in the database, in memory, in every serving process."""
        target = run.target
        fault("move.before_switch")
        former = self._configured if self._configured != target.kind else None
        home = Home(kind=target.kind, since_at=self._now(), former=former, leftovers=source.kind)
        async with self._db.transaction() as tx:
            await homes.set_home(tx, home)
            await homes.end_move(tx)
            await blobs.lost(tx, run.damaged)
        fault("move.after_switch")
        self._home.switch()
        log.warning(
            "the blobs live in %s now",
            target.kind,
            extra={"former": source.kind, "fix": f'set store.kind = "{target.kind}" in the config'},
        )
        await self._tell(target.kind)
        await self._home.end()

    async def _give_up(self, target: Place) -> None:
        """Write to the home alone again; the move goes on when a person says so."""
        if self._home.home.kind == target.kind:
            return  # it is done; what failed came after that
        await self._home.end()
        await self._stop_row()
        await self._stores.close(target.kind)

    async def _stop_row(self) -> None:
        if await self._rows.move() is not None:
            async with self._db.transaction() as tx:
                await homes.stop_move(tx)


@dataclass(slots=True)
class _Run:
    """One run of a move."""

    target: Place
    move: Move
    progress: Progress
    hashing: Hashing
    damaged: dict[Digest, int] = field(default_factory=dict)  #: with their sizes in bytes; the target lacks them

    def note_damage(self, kept: Kept) -> None:
        if kept.sha256 not in self.damaged:
            log.error("a blob is damaged", extra={"blob": kept.sha256})
        self.damaged[kept.sha256] = kept.size_bytes
        if len(self.damaged) > MOST_DAMAGED:
            raise RefusedError(f"more than {MOST_DAMAGED} blobs are damaged", fix="look at the disk; restore a backup")

    def result(self, source: Place, *, is_moved: bool) -> Result:
        damaged: list[dict[str, Any]] = [
            {"sha256": digest, "size_bytes": size_bytes} for digest, size_bytes in self.damaged.items()
        ]
        return {
            "well": is_moved and not damaged,
            "is_moved": is_moved,
            "from": source.kind,
            "to": self.target.kind,
            "blobs": self.progress.done,
            "size_bytes": self.progress.done_bytes,
            "damaged": {"count": len(damaged), "first": damaged[:MOST_ERRORS]},
        }
