"""Throws away what nothing keeps: every hour, when the disk becomes full, and when somebody asks.

Each part does its own work and is repeatable; one that fails is told of and holds up no other.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Final

from scalemesh.errors import ScaleMeshError

log = logging.getLogger(__name__)
EVERY_S: Final = 3600.0
TIGHT_EVERY_S: Final = 300.0  #: while there is little room: what had to wait may go by then


@dataclass(frozen=True, slots=True)
class Freed:
    """How much a part has thrown away, or would."""

    count: int = 0
    size_bytes: int | None = None  #: None: it frees none by itself, or that is not known


NOTHING: Final[Mapping[str, Freed]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of thing that is thrown away."""

    name: str
    run: Callable[[bool], Awaitable[Freed]]  #: told whether room is short
    preview: Callable[[bool], Awaitable[Freed]]  #: likewise


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a part."""

    name: str
    freed: Freed
    error: str = ""  #: why it could not be done


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round, under way or over."""

    number: int = 0
    now: str | None = None  #: the part that is under way
    parts: Sequence[Done] = field(default_factory=tuple)  #: those that are over
    began_at: datetime | None = None
    ended_at: datetime | None = None


class Janitor:
    def __init__(self, parts: Sequence[Part], *, is_tight: Callable[[], bool], now: Callable[[], datetime]) -> None:
        """*is_tight* says whether room is short: then parts may go further, and rounds come oftener."""
        self._parts, self._is_tight, self._now = parts, is_tight, now
        self._woken, self._ended = asyncio.Event(), asyncio.Event()
        self._wanted = 0  #: number of the round that somebody waits for
        self.round = Round()  #: the last one, or the one under way

    def wake(self) -> int:
        """Begin a round, after the one that may be under way; its number."""
        self._wanted = self.round.number + 1
        self._woken.set()
        return self._wanted

    async def serve(self) -> None:
        """Do rounds until cancelled. The first comes a little after the start, when more urgent things are done."""
        pause_s = TIGHT_EVERY_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TIGHT_EVERY_S if self._is_tight() else pause_s):
                    await self._woken.wait()
            self._woken.clear()
            await self._do_round()
            pause_s = EVERY_S

    async def ended(self, number: int, timeout_s: float) -> Round:
        """The round of that number or a later one once it is over, or as far as it is after *timeout_s*."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.round.number < number or self.round.ended_at is None:
                    ended = self._ended
                    await ended.wait()
        return self.round

    async def preview(self, known: Mapping[str, Freed] = NOTHING) -> Sequence[Done]:
        """What a round would throw away now. A part may let go of more than it says, where another comes before it.

        *known*: what the caller has found out by itself of parts, by their names; they are not asked again.
        """
        return [
            Done(part.name, known[part.name])
            if part.name in known
            else await _told(part.name, partial(part.preview, self._is_tight()))
            for part in self._parts
        ]

    async def _do_round(self) -> None:
        self.round = Round(number=self.round.number + 1, began_at=self._now())
        for part in self._parts:
            self.round = replace(self.round, now=part.name)
            done = await _told(part.name, partial(part.run, self._is_tight()))
            self.round = replace(self.round, now=None, parts=(*self.round.parts, done))
        self.round = replace(self.round, ended_at=self._now())
        self._ended.set()
        self._ended = asyncio.Event()
        counts = {done.name: done.freed.count for done in self.round.parts if done.freed.count}
        if counts:
            log.info("thrown away", extra=counts)


async def _told(name: str, work: Callable[[], Awaitable[Freed]]) -> Done:
    try:
        return Done(name, await work())
    except (ScaleMeshError, OSError) as error:
        log.warning("not all that may go could be thrown away", extra={"part": name, "error": str(error)})
        return Done(name, Freed(), str(error).partition("\n")[0])
    except Exception:
        log.exception("a bug: a part of the janitor's failed", extra={"part": name})
        return Done(name, Freed(), "a mistake in Scale Mesh; the daemon's log tells more")
