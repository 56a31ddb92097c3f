"""Long pieces of work inside the daemon, one at a time: started, looked at, stopped; none of them in a visit's way."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from scalemesh.errors import ConflictError, InvalidError, ScaleMeshError

log = logging.getLogger(__name__)

VERBS: Final = {"migrate": "store migrate", "verify": "store verify"}  #: kind -> what the command calls it
MOST_ERRORS: Final = 100  #: kept in words; what comes after them is counted only
RATE_S: Final = 10.0  #: the rate is that of the last seconds
SAMPLE_S: Final = 0.5


class End(StrEnum):
    """What became of a chore."""

    DONE = "done"  #: it came to its end; its result says what it found
    STOPPED = "stopped"  #: a person stopped it
    FAILED = "failed"  #: it could not go on; its errors say why


class Stopped(Exception):  # noqa: N818 -- no error: somebody asked for it
    """A chore was asked to stop, and comes to a point where it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A chore that somebody asks for."""

    kind: str
    to: str = ""  #: migrate: the kind of store
    despite_damage: bool = False  #: migrate: leave damaged blobs behind
    mend: bool = False  #: verify: take away what is damaged


class Progress:
    """How far a chore is. Written by the chore, read by whoever looks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.phase, self.words = "", ""
        self.done = self.done_bytes = 0
        self.total: int | None = None
        self.total_bytes: int | None = None
        self.errors: list[str] = []
        self.error_count = 0
        self._stop = asyncio.Event()
        self._samples: deque[tuple[float, int, int]] = deque()

    def begin(self, phase: str, total: int | None = None, total_bytes: int | None = None) -> None:
        """A new phase, counted from nothing."""
        self.phase, self.words, self.total, self.total_bytes = phase, "", total, total_bytes
        self.done = self.done_bytes = 0
        self._samples.clear()

    def advance(self, items: int, size_bytes: int) -> None:
        """So much more is done."""
        self.done, self.done_bytes = self.done + items, self.done_bytes + size_bytes
        now = self._clock()
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_S:
            self._samples.append((now, self.done, self.done_bytes))
            while now - self._samples[0][0] > RATE_S:
                self._samples.popleft()

    def fail(self, words: str) -> None:
        """Note something that went wrong; it goes on."""
        self.error_count += 1
        if len(self.errors) < MOST_ERRORS:
            self.errors.append(words)

    @property
    def rates(self) -> tuple[float, float]:
        """Items and bytes a second, lately."""
        if not self._samples:
            return 0.0, 0.0
        at, done, done_bytes = self._samples[0]
        seconds = self._clock() - at
        return ((self.done - done) / seconds, (self.done_bytes - done_bytes) / seconds) if seconds > 0 else (0.0, 0.0)

    def ask_to_stop(self) -> None:
        self._stop.set()

    def may_go_on(self) -> None:
        """Raise Stopped if somebody wants that."""
        if self._stop.is_set():
            raise Stopped

    async def unless_stopped(self, work: Coroutine[None, None, None]) -> None:
        """Do *work*, which may be waiting for something that is away; cancel it and raise Stopped if that is wanted."""
        working, stopping = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Stopped
            working.result()
        finally:
            working.cancel()
            stopping.cancel()
            await asyncio.wait([working, stopping])

    async def pause(self, seconds: float) -> None:
        """Wait; raise Stopped as soon as somebody wants that."""
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return
        raise Stopped


Result = Mapping[str, Any]  #: JSON; ``well`` says whether all is
Work = Callable[[Wanted, Progress], Awaitable[Result]]


@dataclass(slots=True, kw_only=True)
class Chore:
    """One that runs, or the last one."""

    wanted: Wanted
    progress: Progress
    started_at: datetime
    ended_at: datetime | None = None
    end: End | None = None  #: None: it runs
    result: Result = field(default_factory=dict)


class Chores:
    """Runs them. What they were asked for is lost with the daemon, unless ``unfinished`` knows of it."""

    def __init__(
        self,
        works: Mapping[str, Work],
        unfinished: Callable[[], Awaitable[Wanted | None]],
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*works* by kind; *unfinished* is asked once, at the start: what a daemon before this one was at."""
        self._works, self._unfinished, self._now, self._clock = works, unfinished, now, clock
        self._begun: asyncio.Queue[Chore] = asyncio.Queue()
        self.current: Chore | None = None  #: the one that runs, or the last one; None: none since the start
        self.ended: dict[str, Chore] = {}  #: by kind, the last one that came to an end

    def start(self, wanted: Wanted) -> Chore:
        """Begin it, or find it running: the same wish twice is one chore.

        Raises:
            InvalidError: there is no such kind.
            ConflictError: another one runs.
        """
        if wanted.kind not in self._works:
            raise InvalidError(f"{wanted.kind[:40]!r} is no chore", fix=f"choose one of {', '.join(self._works)}")
        running = self.current
        if running is not None and running.end is None:
            if running.wanted == wanted:
                return running
            raise ConflictError(
                f"{told(running.wanted)} is under way",
                fix="wait for its end, or stop it; one such work goes on at a time",
            )
        chore = self.current = Chore(wanted=wanted, progress=Progress(self._clock), started_at=self._now())
        self._begun.put_nowait(chore)
        return chore

    def stop(self) -> Chore:
        """Ask the one that runs to stop; it does so within seconds.

        Raises:
            ConflictError: none runs.
        """
        if self.current is None or self.current.end is not None:
            raise ConflictError("nothing is under way")
        self.current.progress.ask_to_stop()
        return self.current

    async def serve(self) -> None:
        """Do what is asked for until cancelled; first what a daemon before this one was at."""
        try:
            if (wanted := await self._unfinished()) is not None and self.current is None:
                self.start(wanted)
        except ScaleMeshError as error:
            log.warning("what an earlier daemon was at is not known", extra={"error": str(error)})
        while True:
            await self._do(await self._begun.get())

    async def _do(self, chore: Chore) -> None:
        log.info("a chore begins", extra={"chore": told(chore.wanted)})
        end = End.FAILED
        try:
            chore.result = await self._works[chore.wanted.kind](chore.wanted, chore.progress)
            end = End.DONE
        except Stopped:
            end = End.STOPPED
        except ScaleMeshError as error:
            chore.progress.fail(str(error))
        except Exception:
            log.exception("a bug: a chore failed", extra={"chore": told(chore.wanted)})
            chore.progress.fail("a bug in the daemon; see its log")
        chore.ended_at, chore.end = self._now(), end
        self.ended[chore.wanted.kind] = chore
        log.info("a chore ended", extra={"chore": told(chore.wanted), "end": end.value})


def told(wanted: Wanted) -> str:
    """*wanted* as the command's words."""
    return f"`scalemesh {VERBS.get(wanted.kind, wanted.kind)}{f' --to {wanted.to}' if wanted.to else ''}`"
