"""What the janitor throws away, part by part, in the order in which one makes work for the next."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from scalemesh.errors import UnreachableError
from scalemesh.services.caches import Caches
from scalemesh.services.collector import Collector
from scalemesh.services.janitor import Freed, Part
from scalemesh.services.left_caches import LeftCaches
from scalemesh.services.leftovers import Leftovers
from scalemesh.services.retention import ROUND, Expiry, Preview

DEPLOYMENTS: Final = "deployments"
TIGHT_UNUSED: Final = timedelta(days=1)  #: of build caches on this machine, while there is little room
PREVIEW_S: Final = 5.0  #: a person waits for it, so a store that takes longer is told of
TIGHT_GRACE: Final = timedelta(minutes=5)  #: of blobs that nobody holds, while there is little room


def local_caches(left: LeftCaches) -> Part:
    """Caches on this machine of stores that the blobs have moved away from."""

    async def run(_is_tight: bool) -> Freed:
        return Freed(await left.remove())

    async def preview(_is_tight: bool) -> Freed:
        return Freed(len(await left.find()))

    return Part("local_cache", run, preview)


def deployments(expiry: Expiry) -> Part:
    """Deployments that no rule keeps. Their bytes are freed with their blobs."""

    async def run(_is_tight: bool) -> Freed:
        return Freed(await _to_the_end(expiry.run))

    async def preview(_is_tight: bool) -> Freed:
        return freed_by(await expiry.preview())

    return Part(DEPLOYMENTS, run, preview)


def freed_by(found: Preview) -> Freed:
    """What the part DEPLOYMENTS would throw away, by what was found."""
    return Freed(len(found.over), found.size_bytes)


def logs(expiry: Expiry) -> Part:
    """Logs whose time is over before that of their deployments."""

    async def run(_is_tight: bool) -> Freed:
        return Freed(await _to_the_end(expiry.run_logs))

    async def preview(_is_tight: bool) -> Freed:
        return Freed(await expiry.logs_over())

    return Part("logs", run, preview)


def uploads(leftovers: Leftovers) -> Part:
    """Uploads that nobody waits for, and logs of what is deleted."""

    async def run(_is_tight: bool) -> Freed:
        return Freed(await leftovers.run())

    async def preview(_is_tight: bool) -> Freed:
        try:
            async with asyncio.timeout(PREVIEW_S):
                return Freed(len(await leftovers.orphans()))
        except TimeoutError as cause:
            raise UnreachableError(f"the store has not answered within {PREVIEW_S:g} s") from cause

    return Part("uploads", run, preview)


def caches(kept: Caches, are_here: Callable[[], bool]) -> Part:
    """What builds keep for later ones and none has used for long. Its bytes are freed with its blobs.

    *are_here*: their blobs lie on this machine. Then those that were not used for a day go while there is little room.
    """

    def unused(is_tight: bool) -> timedelta | None:
        return TIGHT_UNUSED if is_tight and are_here() else None

    async def run(is_tight: bool) -> Freed:
        return Freed((await kept.expire(unused(is_tight))).count)

    async def preview(is_tight: bool) -> Freed:
        amount = await kept.expirable(unused(is_tight))
        return Freed(amount.count, amount.size_bytes)

    return Part("caches", run, preview)


def blobs(collector: Collector) -> Part:
    """Blobs that nobody holds; they go after a grace period, which is short while there is little room."""

    async def run(is_tight: bool) -> Freed:
        amount = await collector.run(TIGHT_GRACE if is_tight else None)
        return Freed(amount.count, amount.size_bytes)

    async def preview(_is_tight: bool) -> Freed:
        amount = await collector.preview()
        return Freed(amount.count, amount.size_bytes)

    return Part("blobs", run, preview)


async def _to_the_end(work: Callable[[], Awaitable[int]]) -> int:
    """Do it round by round; others get their turn between two."""
    total = 0
    while done := await work():
        total += done
        if done < ROUND:
            break
    return total
