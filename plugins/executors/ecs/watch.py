"""Waits for tasks: one look at all that are waited for, again and again, however many they are."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Self

from plugins.executors.ecs.tasks import NEVER_RAN, TIME_IS_UP, Task, Tasks
from scalemesh.errors import ScaleMeshError

log = logging.getLogger(__name__)
_SLOWEST_S: Final = 30.0
_MISSES: Final = 4  #: looks in a row that miss a task until it is gone
#: ECS may not tell of a task yet that it has just started. One that nobody has seen is not gone before.
UNSEEN_S: Final = 60.0


@dataclass(eq=False, slots=True)
class _Wait:
    arn: str
    end: asyncio.Future[Task | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    began: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    missed: int = 0
    was_seen: bool = False

    def is_over(self, task: Task | None, unseen_s: float) -> bool:
        """Whether *task*, what the last look told, is the end; None: ECS did not tell of it."""
        self.was_seen = self.was_seen or task is not None
        self.missed = self.missed + 1 if task is None else 0
        if task is not None:
            return task.is_stopped
        waited_s = asyncio.get_running_loop().time() - self.began
        return self.missed >= _MISSES and (self.was_seen or waited_s >= unseen_s)


class Watch:
    """The one poller. Looks every *interval_s* while something is waited for, more seldom while AWS is in trouble."""

    def __init__(
        self,
        tasks: Tasks,
        *,
        interval_s: float,
        start_s: float,
        now: Callable[[], datetime],
        unseen_s: float = UNSEEN_S,
    ) -> None:
        self._tasks = tasks
        self._interval_s = interval_s
        self._start_s = start_s
        self._now = now
        self._unseen_s = unseen_s
        self._waits: set[_Wait] = set()
        self._wanted = asyncio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """Look while open."""
        looking = asyncio.create_task(self._serve())
        try:
            yield self
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking

    async def ended(self, arn: str) -> Task | None:
        """The task once it has stopped; None if ECS does not know it. An outage of AWS is waited through."""
        wait = _Wait(arn)
        self._waits.add(wait)
        self._wanted.set()
        try:
            return await wait.end
        finally:
            self._waits.discard(wait)

    async def _serve(self) -> None:
        pause_s = self._interval_s
        while True:
            await self._wanted.wait()
            try:
                await self._look()
                pause_s = self._interval_s
            except ScaleMeshError as error:
                pause_s = min(pause_s * 2, _SLOWEST_S)
                log.warning("tasks cannot be looked at", extra={"error": str(error), "again_in_s": pause_s})
            except Exception:
                pause_s = _SLOWEST_S
                log.exception("a bug: tasks cannot be looked at")
            if not self._waits:
                self._wanted.clear()
                continue
            await asyncio.sleep(pause_s)

    async def _look(self) -> None:
        waits = list(self._waits)
        found = await self._tasks.describe(wait.arn for wait in waits)
        for wait in waits:
            task = found.get(wait.arn)
            if wait.is_over(task, self._unseen_s) and not wait.end.done():
                wait.end.set_result(task)
        overdue = [(task.arn, reason) for task in found.values() if (reason := self._overdue(task))]
        await asyncio.gather(*(self._tasks.stop(arn, reason) for arn, reason in overdue))

    def _overdue(self, task: Task) -> str | None:
        if not task.is_wanted or task.label is None:
            return None
        if task.started_at is not None:
            return TIME_IS_UP if self._age_s(task.started_at) > task.label.limit_s else None
        if task.created_at is not None and self._age_s(task.created_at) > self._start_s:
            return NEVER_RAN
        return None

    def _age_s(self, since: datetime) -> float:
        return (self._now() - since).total_seconds()
