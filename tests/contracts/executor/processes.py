"""What the kernel tells of the processes of jobs."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from scalemesh.values import JobRef


def processes_of(ref: JobRef) -> list[int]:
    """The descendants of the job's supervisor."""
    found = list(_children(int(ref.where.split(":")[0])))
    for pid in found:
        found += _children(pid)
    return found


def runs(ref: JobRef) -> bool:
    """Whether the job's own program has begun: from here on all that lies below the supervisor dies with it."""
    tree = [_words(pid) for pid in processes_of(ref)]
    return any(words[-1:] == ["/opt/scalemesh"] and "python" in words[0] for words in tree)


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return []


def _children(pid: int) -> Iterator[int]:
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a process may end at any time
            yield from map(int, path.read_text().split())


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


async def eventually(holds: Callable[[], Awaitable[bool]], within_s: float = 90) -> None:
    """The same for what must be asked for; a place may be slow to answer."""
    async with asyncio.timeout(within_s):
        while not await holds():
            await asyncio.sleep(0.05)


def groups_of(jobs: Path) -> list[Path]:
    """The control groups of the jobs in the folder, those of checks included, with any controller."""
    ours = f"scalemesh-{sha256(str(jobs).encode()).hexdigest()[:8]}-*"
    return [path for depth in ("", "*/", "*/*/", "*/*/*/") for path in Path("/sys/fs/cgroup").glob(depth + ours)]
