"""Processes that are not our children: wait for one, signal one, never its pid's next owner."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

from plugins.executors.local.jobs import start_time


async def ended(pid: int, start: int) -> None:
    """Return once the process that began at *start* has ended."""
    fd = _open(pid, start)
    if fd is None:
        return
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(fd, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def kill_quietly(pid: int, start: int | None, number: signal.Signals) -> None:
    """Send a signal to the process that began at *start*; nothing happens where it is gone."""
    fd = _open(pid, start)
    if fd is not None:
        try:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)


def kill_by_argument(program: str, word: str) -> None:
    """Kill every process of ours that runs *program* with *word* as an argument.

    Bubblewrap's first process waits for ever if its parent is killed in the instant before it has asked to die
    with it; without a control group its arguments alone tell whose it is.
    """
    wanted = word.encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if words[0] == program.encode() and wanted in words and path.stat().st_uid == os.getuid():
                os.kill(int(path.parent.name), signal.SIGKILL)


def _open(pid: int, start: int | None) -> int | None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if start is not None and start_time(pid) == start:
        return fd
    os.close(fd)
    return None
