"""How much disk a build uses, and whether that is too much. Stdlib only.

Local jobs are looked at from outside of their sandbox, by their supervisor: so all of a job is seen, and it goes on
when the job has no memory or no process left. In a container the builder itself looks.
"""

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILES_PER_GIB: Final = 250_000  #: inodes come out of the disk limit: a million empty files are not free
_RESCAN: Final = 10  # a scan may take at most a tenth of the time, unless the file system filled up


@dataclass(frozen=True, slots=True)
class DiskUse:
    """What lies in a folder."""

    size_bytes: int  #: blocks really used
    files: int
    largest_bytes: int  #: of one file, holes included
    too_deep: bool = False  #: a path is longer than the kernel takes, so not all was counted

    def passes(self, limit_bytes: int) -> str:
        """Which bound is passed, as a sentence; empty: none."""
        most = max(10_000, limit_bytes * FILES_PER_GIB >> 30)
        if self.size_bytes >= limit_bytes or self.largest_bytes >= limit_bytes:
            used = max(self.size_bytes, self.largest_bytes)
            return f"the build's files take {used >> 20} MiB and may take {limit_bytes >> 20} MiB"
        if self.files > most:
            return f"the build made {self.files} files and may make {most}"
        return "a folder is nested too deeply" if self.too_deep else ""


class DiskWatch:
    """Looks at folders often enough to catch a flood, and seldom enough to cost nothing; all have one limit."""

    def __init__(self, folders: Sequence[Path], limit_bytes: int) -> None:
        """None of *folders* lies in another."""
        self._folders = folders
        self._limit = limit_bytes
        self._next = time.monotonic() + 2.0
        self._earliest = 0.0
        self._free = [_free(folder) for folder in folders]
        self._room = limit_bytes
        self.use = DiskUse(0, 0, 0)  #: as it was last seen
        self._room_files = max(10_000, limit_bytes * FILES_PER_GIB >> 30)

    def look(self) -> str:
        """Which bound is passed, as a sentence; empty: none, or too early to look again."""
        now = time.monotonic()
        if now < self._earliest or (now < self._next and not any(map(self._is_filled, self._folders, self._free))):
            return ""
        return self.scan()

    def scan(self) -> str:
        """Look now."""
        begun = time.monotonic()
        self.use = use = _together([disk_use(folder) for folder in self._folders])
        took = time.monotonic() - begun
        self._free = [_free(folder) for folder in self._folders]
        self._room = max(1 << 20, self._limit - use.size_bytes)
        self._room_files = max(1000, (self._limit * FILES_PER_GIB >> 30) - use.files)
        self._earliest = begun + took * 3
        self._next = begun + max(2.0, took * _RESCAN)
        return use.passes(self._limit)

    def _is_filled(self, folder: Path, before: tuple[int, int]) -> bool:
        """Whether so much of its file system is gone that the limit may be passed."""
        free_bytes, free_files = _free(folder)
        return before[0] - free_bytes >= self._room or before[1] - free_files >= self._room_files


def disk_use(folder: Path) -> DiskUse:
    """Count *folder* and all below it on the same file system; names that vanish meanwhile do not matter."""
    size = files = largest = 0
    too_deep = False
    seen: set[int] = set()
    todo = [str(folder)]
    while todo:
        try:
            with _scan(todo.pop()) as entries:
                for entry in entries:
                    stat = _lstat(entry)
                    if stat is None or (stat.st_nlink > 1 and not _is_new(stat, seen)):
                        continue
                    files += 1
                    size += stat.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    else:
                        largest = max(largest, stat.st_size)
        except OSError as error:
            too_deep = too_deep or error.errno == errno.ENAMETOOLONG
    return DiskUse(size, files, largest, too_deep)


def _together(uses: Sequence[DiskUse]) -> DiskUse:
    return DiskUse(
        size_bytes=sum(use.size_bytes for use in uses),
        files=sum(use.files for use in uses),
        largest_bytes=max(use.largest_bytes for use in uses),
        too_deep=any(use.too_deep for use in uses),
    )


def _scan(folder: str) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
    """List *folder*, also one that was closed to its owner to hide what it holds."""
    try:
        return os.scandir(folder)
    except PermissionError:
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            Path(f"/proc/self/fd/{fd}").chmod(0o700)
        finally:
            os.close(fd)
        return os.scandir(folder)


def _lstat(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:  # gone meanwhile
        return None


def _is_new(stat: os.stat_result, seen: set[int]) -> bool:
    if stat.st_ino in seen and not _is_folder(stat):
        return False
    seen.add(stat.st_ino)
    return True


def _is_folder(stat: os.stat_result) -> bool:
    return stat.st_mode & 0o170000 == 0o040000


def _free(folder: Path) -> tuple[int, int]:
    found = os.statvfs(folder)
    return found.f_bfree * found.f_frsize, found.f_ffree
