"""What uses how much room: blobs by project and kind, and what lies beside them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from scalemesh.db.blobs import Amount, BlobKind
from scalemesh.db.database import Database
from scalemesh.db.usage import Kinds, Usage, usage
from scalemesh.services.disk_room import DiskRoom, Volume

FRESH: Final = timedelta(seconds=30)  #: as old as that an answer may be: counting a million blobs takes seconds
NAMES: Final = {
    BlobKind.FILE: "files",
    BlobKind.VARIANT: "variants",
    BlobKind.LIST: "lists",
    BlobKind.WINDOW: "windows",
    BlobKind.CACHE: "caches",
}


@dataclass(frozen=True, slots=True)
class Use:
    """One kind of thing; None: not known."""

    kind: str
    size_bytes: int | None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class ProjectUse:
    """What one project holds; what it shares with others counts whole."""

    project: str
    size_bytes: int
    kinds: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    at: datetime
    volumes: Sequence[Volume]
    kinds: Sequence[Use]  #: of all projects together, each blob once
    projects: Sequence[ProjectUse]  #: the largest first
    shared_bytes: int  #: by how much the projects' sum is more than what there is


Measure = Callable[[], Awaitable[int | None]]


class Usages:
    """Counts when somebody asks, one count at a time."""

    def __init__(
        self, database: Database, disk: DiskRoom, beside: Mapping[str, Measure], *, now: Callable[[], datetime]
    ) -> None:
        """*beside*: kinds that are not the blob store's, and what tells their bytes."""
        self._db, self._disk, self._beside, self._now = database, disk, beside, now
        self._counting = asyncio.Lock()
        self._last: Report | None = None

    async def report(self, *, anew: bool = False) -> Report:
        """As of a few seconds ago, or counted *anew*.

        Raises:
            UnreachableError: the database cannot be read.
        """
        async with self._counting:
            if anew or self._last is None or self._now() - self._last.at >= FRESH:
                counted = await usage(self._db)
                beside = {kind: await measure() for kind, measure in self._beside.items()}
                self._last = _report(counted, beside, self._disk.volumes, self._now())
            return self._last


def _report(counted: Usage, beside: Mapping[str, int | None], volumes: Sequence[Volume], at: datetime) -> Report:
    kinds = [Use(name, amount.size_bytes, amount.count) for name, amount in _named(counted.all).items()]
    kinds += [Use("unheld", counted.nobodys.size_bytes, counted.nobodys.count)]
    kinds += [Use(kind, size) for kind, size in beside.items()]
    projects = [_of_project(name, held) for name, held in counted.projects.items()]
    in_all = sum(amount.size_bytes for amount in counted.all.values())
    return Report(
        at=at,
        volumes=volumes,
        kinds=kinds,
        projects=sorted(projects, key=lambda one: (-one.size_bytes, one.project)),
        shared_bytes=max(0, sum(one.size_bytes for one in projects) - in_all),
    )


def _of_project(name: str, held: Kinds) -> ProjectUse:
    sizes = {kind: amount.size_bytes for kind, amount in _named(held).items()}
    return ProjectUse(name, sum(sizes.values()), sizes)


def _named(kinds: Kinds) -> dict[str, Amount]:
    return {name: kinds.get(kind, Amount()) for kind, name in NAMES.items()}


async def size_of(paths: Iterable[Path]) -> int:
    """The bytes of *paths*, of folders all that is in them; 0 for what is not there. For a few thousand files."""
    return await asyncio.to_thread(lambda: sum(map(_size, paths)))


def _size(path: Path) -> int:
    total = 0
    with suppress(OSError):
        total = path.lstat().st_size
    for file in path.rglob("*") if path.is_dir() else ():
        with suppress(OSError):
            total += file.lstat().st_size
    return total
