"""What the local cache does with files and folders; all of it blocks. Several processes may share one folder.

``blobs/ab/<sha256>`` holds whole blobs that have proven right; ``tmp/`` has a folder for each process that lives;
``locks`` is locked at one byte for each blob that is being fetched; ``grown`` is as many bytes long as blocks were
added since somebody last looked at everything.
"""

import errno
import fcntl
import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from scalemesh.amounts import size
from scalemesh.errors import InvalidError, UnreachableError
from scalemesh.services.disk_room import BACK_PART, FIX, RESERVE_PART, look
from scalemesh.values import Digest

DIGEST: Final = re.compile(r"[0-9a-f]{64}")
BLOCK_BYTES: Final = 4096
AGE_S: Final = 10  #: what was used within so many seconds is of one age
LEFT: Final = 0.9  #: of the cap, after it was reached
SPARE: Final = 1 / 16  #: of the disk, left for others
FLOOR_BYTES: Final = 64 * 1024 * 1024  #: so much is kept all the same: the lists of files of many sites
FLOOR: Final = 1 / 16  #: of the cap, at most
WRITTEN: Final = 2  #: part of the cap, at most, is taken by what is being fetched; one file alone may take more
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_DIGITS: Final = 15  #: of a digest: they number its byte in the file of locks
_EVICTING: Final = 1 << 61  #: the byte of those who make room


class CacheFiles:
    """The folder of one cache, as one process uses it."""

    def __init__(
        self, root: Path, capacity_bytes: int, *, is_keeper: bool, spare: float = SPARE, reserve_bytes: int = 0
    ) -> None:
        """*spare* is the part of the disk that others should find free; a keeper sees to that, and to the capacity.

        *reserve_bytes* of the disk, or the part of it that is kept at most, are not taken by large blobs at all.
        """
        self.root, self.capacity_bytes, self._spare, self._is_keeper = root, capacity_bytes, spare, is_keeper
        self._reserve_bytes = reserve_bytes
        _lay_out(root)
        self._own, self._own_lock = _own_folder(root / "tmp")
        self._locks = os.open(root / "locks", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._grown = os.open(root / "grown", os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._evicting = threading.Lock()  # the locks of a file are the process's, not the thread's
        self._known_bytes: int | None = None  #: what lay there when it was last looked at

    def close(self) -> None:
        """Let go of everything. What is written by then has come to its end."""
        shutil.rmtree(self._own, ignore_errors=True)
        for descriptor in (self._own_lock, self._locks, self._grown):
            os.close(descriptor)

    def path(self, sha256: Digest) -> Path:
        """Where the blob lies, if it is here."""
        if not DIGEST.fullmatch(sha256):
            raise InvalidError(f"{sha256!r} is no SHA-256 in 64 lower-case hex digits")
        return self.root / "blobs" / sha256[:2] / sha256

    def open(self, sha256: Digest) -> int | None:
        """A descriptor of the blob; None if it is not here."""
        try:
            return os.open(self.path(sha256), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None

    def fresh(self) -> Path:
        """A name for a file of this process alone; it is removed with the process, however that ends."""
        return self._own / uuid4().hex

    def place(self, written: Path, sha256: Digest, size_bytes: int) -> None:
        """Give a file that holds the blob, durably, its name."""
        written.rename(self.path(sha256))
        with suppress(OSError):  # no room even for that: whoever makes some looks at everything
            os.write(self._grown, b"." * (_on_disk(size_bytes) // BLOCK_BYTES))

    def remove(self, digests: Iterable[Digest]) -> None:
        for sha256 in digests:
            self.path(sha256).unlink(missing_ok=True)

    # One process for each blob

    def lock(self, sha256: Digest) -> bool:
        """Whether this process may fetch the blob now; if so, until ``unlock`` or its end no other may."""
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(sha256[:_DIGITS], 16))
        except OSError as error:
            return error.errno not in {errno.EAGAIN, errno.EACCES}  # a file system without locks: fetched twice then
        return True

    def unlock(self, sha256: Digest) -> None:
        with suppress(OSError):
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, int(sha256[:_DIGITS], 16))

    # Room

    def touch(self, digests: Iterable[Digest]) -> None:
        """Note that they are in use."""
        for sha256 in digests:
            with suppress(OSError):  # gone meanwhile
                os.utime(self.path(sha256))

    def tend(self) -> None:
        """Keep to the cap, and leave the disk some room for others."""
        used_bytes, floor_bytes = self.used_bytes(), min(FLOOR_BYTES, int(self.capacity_bytes * FLOOR))
        lacking_bytes = self.lacking_bytes() if used_bytes > floor_bytes else 0
        most_bytes = self.capacity_bytes - min(self.written_bytes(), self.capacity_bytes // WRITTEN)
        if self._known_bytes is None:
            self._shrink(most_bytes, 0)
        elif used_bytes > most_bytes:
            self._shrink(int(most_bytes * LEFT), lacking_bytes)
        elif lacking_bytes:
            self._shrink(most_bytes, min(lacking_bytes, used_bytes - floor_bytes))

    def make_room(self, wanted_bytes: int) -> bool:
        """Remove so much, and some more, of what was not used for longest; whether anything was removed."""
        return self._shrink(self.capacity_bytes, max(wanted_bytes, self.capacity_bytes // 20)) > 0

    def lacking_bytes(self) -> int:
        """How much less is free on the disk than others should find there."""
        (disk,) = look([self.root])
        return max(0, int(disk.total_bytes * self._spare) - disk.free_bytes)

    def written_bytes(self) -> int:
        """What is being fetched takes, in all processes that share the folder, also of one that is dead."""
        with os.scandir(self.root / "tmp") as folders:
            return sum(_bytes_in(folder.path) for folder in folders)

    def need_room(self, has_bytes: int, more_bytes: int) -> None:
        """See that a file that is being fetched, and *has_bytes* by now, may get *more_bytes*.

        Visitors may ask for any number of large files at once: what they ask for must neither take more than the cache
        may have, nor the last of the disk.

        Raises:
            UnreachableError: there is no room for it now.
            OSError: the disk cannot be looked at.
        """
        others_bytes = self.written_bytes() - has_bytes
        if others_bytes > 0 and others_bytes + has_bytes + more_bytes > self.capacity_bytes // WRITTEN:
            why = f"{size(others_bytes)} of the cache are taken by others that are fetched"
            raise UnreachableError("too many large files are fetched at once", why=why, fix="raise cache.blobs_mib")
        (disk,) = look([self.root])
        reserve_bytes = min(self._reserve_bytes, disk.total_bytes // RESERVE_PART)
        if disk.free_bytes - more_bytes < reserve_bytes + reserve_bytes // BACK_PART:
            why = f"the disk that holds {self.root} has {size(disk.free_bytes)} free, and they are kept for serving"
            raise UnreachableError("there is no room to fetch a large file", why=why, fix=FIX)

    def used_bytes(self) -> int:
        """What lies here, about, without what is being fetched."""
        return (self._known_bytes or 0) + os.fstat(self._grown).st_size * BLOCK_BYTES

    def _shrink(self, most_bytes: int, freed_bytes: int) -> int:
        """Remove the longest unused until at most *most_bytes* are left, and at least *freed_bytes*; what was removed.

        Two looks at everything instead of a list of it: a million files take no memory.
        """
        with self._evicting, self._alone():
            if self._is_keeper:  # it alone counts on; before the look: what is added meanwhile counts twice, not never
                os.ftruncate(self._grown, 0)
            ages: Counter[int] = Counter()
            for _, age, size_bytes in self._all():
                ages[age] += size_bytes
            total_bytes = ages.total()
            excess_bytes = max(total_bytes - most_bytes, freed_bytes)
            removed_bytes = self._remove_up_to(_last_age(ages, excess_bytes), excess_bytes) if excess_bytes > 0 else 0
            self._known_bytes = total_bytes - removed_bytes
            return removed_bytes

    def _remove_up_to(self, last_age: int, excess_bytes: int) -> int:
        """Remove all that is older than *last_age*, and of that age as much as is needed."""
        older_bytes = newer_bytes = 0
        for path, age, size_bytes in self._all():
            if age < last_age:
                path.unlink(missing_ok=True)
                older_bytes += size_bytes
        for path, age, size_bytes in self._all():
            if older_bytes + newer_bytes >= excess_bytes:
                break
            if age == last_age:
                path.unlink(missing_ok=True)
                newer_bytes += size_bytes
        return older_bytes + newer_bytes

    def _all(self) -> Iterator[tuple[Path, int, int]]:
        """Each blob: its file, its age (greater is newer), and what it takes of the disk in bytes."""
        for number in range(256):
            with os.scandir(self.root / "blobs" / f"{number:02x}") as found:
                for file in found:
                    with suppress(FileNotFoundError):
                        facts = file.stat(follow_symlinks=False)
                        yield Path(file.path), int(facts.st_mtime) // AGE_S, _on_disk(facts.st_size)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time makes room."""
        fcntl.lockf(self._locks, fcntl.LOCK_EX, 1, _EVICTING)
        try:
            yield
        finally:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, _EVICTING)


def clear_leftovers(root: Path) -> None:
    """Remove the temporary files of processes that are dead."""
    for folder in (root / "tmp").glob("*"):
        with suppress(OSError):  # it lives, or another has been quicker
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)


def _lay_out(root: Path) -> None:
    root.parent.mkdir(parents=True, exist_ok=True)
    shards = [root / "blobs" / f"{number:02x}" for number in range(256)]
    for folder in [root, root / "tmp", root / "blobs", *shards]:  # parents=True ignores the mode
        folder.mkdir(mode=0o700, exist_ok=True)


def _own_folder(place: Path) -> tuple[Path, int]:
    """A folder of this process, and what holds its lock."""
    while True:
        folder = place / uuid4().hex
        folder.mkdir(mode=0o700)
        with suppress(FileNotFoundError):  # taken for a leftover just now
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _last_age(ages: Counter[int], excess_bytes: int) -> int:
    """The age up to which *excess_bytes* lie there."""
    found_bytes = 0
    for age in sorted(ages):
        found_bytes += ages[age]
        if found_bytes >= excess_bytes:
            return age
    return max(ages, default=0)


def _bytes_in(folder: str) -> int:
    found_bytes = 0
    with suppress(FileNotFoundError), os.scandir(folder) as files:  # that process ended just now
        for file in files:
            with suppress(FileNotFoundError):  # placed or discarded just now
                found_bytes += file.stat(follow_symlinks=False).st_size
    return found_bytes


def _on_disk(size_bytes: int) -> int:
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES
