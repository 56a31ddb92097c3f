"""Watch how much disk a build uses, where nobody watches it from outside.

The local executor does (SCALEMESH_DISK_WATCHED): it begins before the fetch, looks behind folders that a build closed
or nested too deeply for us, and no command of the build shares its limits. Two that count differently would make the
reason of an end a matter of luck, so there we leave it to the executor.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from builder.container import is_container
from builder.counters import LimitWatch
from builder.errors import BuildFailed
from builder.life import Life
from builder.tree import open_folder

GLANCE_S: Final = 0.5  #: between looks at the free space of the file system, which cost nothing
SHARE: Final = 20  #: the full count may take a twentieth of the time
ENTRY_BYTES: Final = 512  #: what an empty file or folder counts


@contextmanager
def watching(
    work: Path, environ: Mapping[str, str], disk_bytes: int, life: Life
) -> Iterator[Callable[[], BuildFailed | None]]:
    """Hold the build to the limits that its executor leaves to us, while inside.

    Yields what tells why the kernel ended or hindered a command, None where it did not or cannot be asked.
    """
    with ExitStack() as opened:
        if not environ.get("SCALEMESH_DISK_WATCHED"):
            opened.enter_context(DiskWatch(work, disk_bytes, life))
        yield opened.enter_context(LimitWatch(life)).cause if is_container(environ) else lambda: None


class DiskWatch:
    """Counts the files in the work folder from time to time; at once when the file system fills fast."""

    def __init__(self, folder: Path, limit_bytes: int, life: Life) -> None:
        self._folder, self._limit, self._life = folder, limit_bytes, life
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="disk watch", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _serve(self) -> None:
        used = self._measured()
        pause, counted_at, free = 2.0, time.monotonic(), _free(self._folder)
        while not self._stop.wait(GLANCE_S):
            grown = free - _free(self._folder)
            due = time.monotonic() - counted_at >= pause
            if due or grown > max(self._limit - used, 0) / 2 + ENTRY_BYTES:
                began = time.monotonic()
                used = self._measured()
                counted_at, free = time.monotonic(), _free(self._folder)
                pause = max(2.0, (counted_at - began) * SHARE)

    def _measured(self) -> int:
        used = measure(self._folder, self._limit)
        if used > self._limit:
            self._life.end(
                BuildFailed(
                    "disk_full",
                    f"The build uses more than {self._limit / 1e6:,.0f} MB of disk, its limit. Write less, or have "
                    "the limit disk_bytes raised.",
                    {"disk_bytes": used},
                )
            )
        return used


def measure(folder: Path, enough: int) -> int:
    """Bytes that the files below *folder* take on disk; counting stops soon after *enough*."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return _measure(opened, enough)
        finally:
            os.close(opened)
    return 0


def _measure(folder: int, enough: int) -> int:
    used = 0
    with suppress(OSError, RecursionError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                used += ENTRY_BYTES + os.stat(entry.name, dir_fd=folder, follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    inner = open_folder(folder, entry.name)
                    try:
                        used += _measure(inner, enough - used)
                    finally:
                        os.close(inner)
            if used > enough:
                break
    return used


def _free(folder: Path) -> int:
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize
