"""A daemon on a disk that is small enough to be filled."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.whole.daemon import RunningDaemon

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="mounts a small file system in a namespace of its own: run as root"
)


@asynccontextmanager
async def on_a_small_disk(home: Path, size: str, tables: str = "") -> AsyncIterator[RunningDaemon]:
    """A daemon whose data lie on a file system of that size, which it alone sees; builds work elsewhere."""
    mount = f'mkdir -p "$0" && mount -t tmpfs -o size={size} none "$0" && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-ec", mount, str(home / "data"))
    work_dir = f'work_dir = "{home}/jobs"'
    daemon = RunningDaemon(home, prefix=prefix, is_mounted_apart=True, executor=work_dir, tables=tables)
    try:
        await daemon.start()
        yield daemon
        await daemon.stop()
    finally:
        daemon.kill_all()


def fill(path: Path) -> None:
    """Write to *path* until not a byte more fits."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 20)):
            pass
    with path.with_suffix(".rest").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(512)):
            pass
