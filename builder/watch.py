"""Holds a build to the limits that its executor leaves to the builder: disk, and the processes of a container.

The local executor holds its jobs to their disk limit itself (SCALEMESH_DISK_WATCHED). Two that look at different
moments would make the reason of an end a matter of luck, so there we leave it to the executor.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from builder.container import Container, is_container
from builder.counters import LimitWatch
from builder.disk import DiskWatch
from builder.errors import BuildFailed
from builder.job import Limits
from builder.life import Life

TMP: Final = Path("/tmp")  # noqa: S108 -- of the container, where nobody else is
MOUNTS: Final = Path("/proc/self/mounts")
GLANCE_S: Final = 0.2  #: between looks at the free space of the file system, which cost nothing


@contextmanager
def watching(
    work: Path, environ: Mapping[str, str], limits: Limits, life: Life
) -> Iterator[Callable[[], BuildFailed | None]]:
    """Hold the build to them, while inside.

    Yields what tells why the kernel ended or hindered a command, None where it did not or cannot be asked.
    """
    with ExitStack() as opened:
        if not environ.get("SCALEMESH_DISK_WATCHED"):
            folders = [work, *_elsewhere(work)] if is_container(environ) else [work]
            opened.enter_context(_watching_disk(DiskWatch(folders, limits.disk_bytes), life))
        if not is_container(environ):
            yield lambda: None
            return
        yield opened.enter_context(LimitWatch(life, limits.pids, Container(work).end_all)).cause


def _elsewhere(work: Path, tmp: Path = TMP, mounts: Path = MOUNTS) -> list[Path]:
    """Where else a build in a container may fill a disk: *tmp*, unless it lies in memory or below *work*."""
    if not tmp.is_dir() or tmp.resolve().is_relative_to(work.resolve()):
        return []
    kind = ""
    for line in mounts.read_text().splitlines():
        _, place, kind_there, *_ = line.split(" ")
        if place == str(tmp):
            kind = kind_there  # the last one lies over those before
    return [] if kind == "tmpfs" else [tmp]


@contextmanager
def _watching_disk(watch: DiskWatch, life: Life) -> Iterator[None]:
    over = threading.Event()
    threading.Thread(target=_watch_disk, args=(watch, life, over), name="disk watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch_disk(watch: DiskWatch, life: Life, over: threading.Event) -> None:
    while not over.wait(GLANCE_S):
        if passed := watch.look():
            text = f"{passed[0].upper()}{passed[1:]}. Write less, or raise builds.disk_mib."
            life.end(BuildFailed("disk_full", text, {"disk_bytes": watch.use.size_bytes}))
            return
