"""How full the disk is, and what waits for it: first no build starts, at last nothing is taken that needs room.

Measured every few seconds, so that nobody who asks waits for a disk. A ballast file is let go when the disk has become
full all the same: the database can then still note what is deleted.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Final

from scalemesh.amounts import size
from scalemesh.errors import NoRoomError
from scalemesh.keeping import Disk
from scalemesh.ports import Finding

log = logging.getLogger(__name__)
MIB: Final = 1024 * 1024
EVERY_S: Final = 2.0
BACK_PERCENT: Final = 2  #: builds start again so far below the mark, or they would start and stop with every file
RESERVE_PART: Final = 20  #: of a file system, at most, is kept as reserve: a small one could take nothing else
BACK_PART: Final = 4  #: of the reserve, that must be free besides it until all is taken again
MOST_BALLAST: Final = 64 * MIB
FIX: Final = (
    "see what uses it by `scalemesh disk`, delete what is not needed, run `scalemesh gc`, or make the disk larger"
)


class Level(IntEnum):
    ROOMY = 0
    HIGH = 1  #: over the high-water mark
    LAST = 2  #: below the reserve

    @property
    def word(self) -> str:
        return ("roomy", "high", "last")[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One file system that holds something of ours."""

    path: str  #: a folder on it
    total_bytes: int
    free_bytes: int  #: for whoever is not root
    total_files: int = 0  #: 0: it has no such bound
    free_files: int = 0
    is_beside: bool = False  #: only builds and the local cache write there: full, it holds up builds alone

    @property
    def used_percent(self) -> float:
        """Of bytes or of files, whichever is more."""
        parts = ((self.total_bytes, self.free_bytes), (self.total_files, self.free_files))
        return max((100 * (total - free) / total for total, free in parts if total), default=0.0)

    def reserve_bytes(self, limits: Disk) -> int:
        return min(limits.reserve_mib * MIB, self.total_bytes // RESERVE_PART)


def level_of(volumes: Iterable[Volume], limits: Disk, before: Level) -> Level:
    """The level that the fullest of *volumes* asks for; *before* is left only with some room to spare."""
    return max((_level(volume, limits, before) for volume in volumes), default=Level.ROOMY)


def _level(volume: Volume, limits: Disk, before: Level) -> Level:
    reserve, mark = volume.reserve_bytes(limits), float(limits.high_water_percent)
    if before is Level.LAST:
        reserve += reserve // BACK_PART
    if before >= Level.HIGH:
        mark -= BACK_PERCENT
    if volume.free_bytes < reserve or _has_no_files_left(volume, limits):
        return Level.HIGH if volume.is_beside else Level.LAST
    return Level.HIGH if volume.used_percent >= mark and limits.high_water_percent < 100 else Level.ROOMY


def _has_no_files_left(volume: Volume, limits: Disk) -> bool:
    """A file system may run out of names before it runs out of bytes."""
    return bool(limits.reserve_mib) and volume.free_files * 100 < volume.total_files


def look(places: Iterable[Path]) -> list[Volume]:
    """The file systems of *places*, each once; a folder that is not there yet counts for the one that it will be in.

    Raises:
        OSError: one cannot be looked at.
    """
    found: dict[int, Volume] = {}
    for place in places:
        folder = next(path for path in (place, *place.parents) if path.exists())
        device, facts = folder.stat().st_dev, os.statvfs(folder)
        for_all = facts.f_blocks - (facts.f_bfree - facts.f_bavail)  # without what root alone may use
        volume = Volume(
            path=str(place),
            total_bytes=for_all * facts.f_frsize,
            free_bytes=facts.f_bavail * facts.f_frsize,
            total_files=facts.f_files,
            free_files=facts.f_favail,
        )
        found.setdefault(device, volume)
    return list(found.values())


class DiskRoom:
    def __init__(
        self,
        places: Sequence[Path],
        limits: Disk,
        *,
        ballast: Path,
        beside: Sequence[Path] = (),
        look: Callable[[Iterable[Path]], Sequence[Volume]] = look,
    ) -> None:
        """*places* hold what is ours, the first the database and *ballast*; those of one file system count once.

        *beside*: where only builds and the local cache write. An upload, which may end such a build, must not wait for
        room there.
        """
        self.limits: Final = limits
        self.level = Level.ROOMY
        self.volumes: Sequence[Volume] = ()
        self._places, self._ballast, self._look, self._beside = list(places), ballast, look, tuple(beside)
        self._note(self._seen())

    async def serve(self, changed: Callable[[], None] = lambda: None) -> None:
        """Measure until cancelled; *changed* is called after each change of the level."""
        told = self.level
        while True:
            try:
                await self.measure()
                if self.level is not told:  # by this look, or by one that somebody asked for in between
                    told = self.level
                    changed()
            except OSError as error:
                log.warning("the room on the disk is not known", extra={"error": str(error)})
            await asyncio.sleep(EVERY_S)

    async def measure(self) -> bool:
        """Look at the disk now; whether the level has changed.

        Raises:
            OSError: it cannot be looked at.
        """
        before = self.level
        self._note(await asyncio.to_thread(self._seen))
        await asyncio.to_thread(self._trim, self.level)
        return self.level is not before

    async def lacks(self, place: Path) -> str:
        """Why nothing more may be brought to *place*, which is looked at from now on; empty: it may.

        A little more than the reserve stays free: whoever brings more must not be the one that ends everybody else's.

        Raises:
            OSError: it cannot be looked at.
        """
        if place not in self._places:
            self._places.append(place)
        (volume,) = await asyncio.to_thread(self._look, [place])
        if _level(volume, self.limits, Level.LAST) is not Level.LAST:
            return ""
        return f"the disk that holds {place} has {size(volume.free_bytes)} free, and they are kept for serving"

    @property
    def takes_builds(self) -> bool:
        return self.level is Level.ROOMY

    def require(self) -> None:
        """See that there is room for what somebody wants to bring.

        Raises:
            NoRoomError: the disk is at its last reserve.
        """
        if self.level is Level.LAST:
            raise NoRoomError("there is no room on the disk for this", why=self.why(), fix=FIX)

    def why(self) -> str:
        """Which disk is how full, in one sentence without an end."""
        fullest = max(self.volumes, key=lambda one: (_level(one, self.limits, self.level), one.used_percent))
        used, free = fullest.used_percent, size(fullest.free_bytes)
        said = f"the disk that holds {fullest.path} is {used:.0f} % full, {free} are free"
        if self.level is Level.LAST:
            return f"{said}; the last {size(fullest.reserve_bytes(self.limits))} are kept for serving and deleting"
        return said

    async def check(self) -> Sequence[Finding]:
        """What `scalemesh status` says of it."""
        words = {
            Level.ROOMY: "",
            Level.HIGH: "; no build starts",
            Level.LAST: "; no build starts, and nothing is taken that needs room",
        }
        return [
            Finding(ok=self.takes_builds, what=self.why() + words[self.level], fix="" if self.takes_builds else FIX)
        ]

    def _seen(self) -> list[Volume]:
        beside = {str(place) for place in self._beside}
        volumes = self._look([*self._places, *self._beside])
        return [replace(volume, is_beside=True) if volume.path in beside else volume for volume in volumes]

    def _note(self, volumes: Sequence[Volume]) -> None:
        before, self.volumes = self.level, volumes
        self.level = level_of(volumes, self.limits, before)
        if self.level > before:
            log.error("the disk is getting full", extra={"level": self.level.word, "why": self.why()})
        elif self.level < before:
            log.warning("the disk has room again", extra={"level": self.level.word, "why": self.why()})

    def _trim(self, level: Level) -> None:
        """Hold the ballast while there is room for it, and let go of it when there is none for anything."""
        home = self.volumes[0]
        wanted = min(MOST_BALLAST, home.reserve_bytes(self.limits) // 2)
        has = self._ballast.exists()
        if level is Level.LAST and has and home.free_bytes < wanted:
            self._ballast.unlink(missing_ok=True)
            log.error("the disk is full: its ballast is let go", extra={"bytes": wanted})
        elif level is not Level.LAST and wanted and not has and home.free_bytes > 4 * wanted:
            _allocate(self._ballast, wanted)


def _allocate(path: Path, size_bytes: int) -> None:
    """A file that really takes its room; none where that cannot be had."""
    fresh = path.with_suffix(".new")
    try:
        with fresh.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        log.warning("the disk's ballast cannot be made", extra={"error": str(error)})
