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
            opened.enter_context(_watching_disk(DiskWatch(work, limits.disk_bytes), life))
        if not is_container(environ):
            yield lambda: None
            return
        yield opened.enter_context(LimitWatch(life, limits.pids, Container(work).end_all)).cause


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
