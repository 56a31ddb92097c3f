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
#: ECS may not know a task yet that it has just started: only one that is missed so often is gone.
_MISSES: Final = 4


@dataclass(eq=False, slots=True)
class _Wait:
    arn: str
    end: asyncio.Future[Task | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    missed: int = 0


class Watch:
    """The one poller. Looks every *interval_s* while something is waited for, more seldom while AWS is in trouble."""

    def __init__(self, tasks: Tasks, *, interval_s: float, start_s: float, now: Callable[[], datetime]) -> None:
        self._tasks = tasks
        self._interval_s = interval_s
        self._start_s = start_s
        self._now = now
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
            wait.missed = wait.missed + 1 if task is None else 0
            is_over = wait.missed >= _MISSES if task is None else task.is_stopped
            if is_over and not wait.end.done():
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
