"""Run one program to its end: its output as it comes, killed when the build ends, nothing of it left alive."""

import os
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.errors import BuildFailed
from builder.life import Life, kill_group

CHUNK_BYTES: Final = 64 * 1024
REAP_S: Final = 0.2  #: how often the dead that nobody else waits for are buried: they count as processes
DRAIN_S: Final = 2.0  #: for output still in the pipes when the program is dead
DEATH_S: Final = 10.0  #: what was killed must be gone after this
PR_SET_CHILD_SUBREAPER: Final = 36

OnOutput = Callable[[str, bytes], None]  #: stream ("out" or "err"), bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str]  #: all of its environment
    stdin: bytes = b""
    stdin_file: int | None = None  #: a descriptor to read from, instead of ``stdin``


def run(program: Program, life: Life, on_output: OnOutput, end_all: Callable[[], None] = lambda: None) -> int:
    """Run it and return its exit code (128 + signal when killed). Returns when its whole tree is dead.

    *end_all* kills what of it may have escaped its process group, where there is a better way than to look for it.

    Raises:
        BuildFailed, GivenUp: the build ended meanwhile; the program was killed.
    """
    before = _children()
    process = _start(program)
    watch = os.pidfd_open(process.pid)
    try:
        with life.killing(process.pid):
            _pump(process, watch, life, on_output)
            kill_group(process.pid)  # before it is reaped: until then the number cannot be somebody else's
            code = process.wait()
        end_all()
        _end_orphans(before)
        _drain(process, on_output)
    finally:
        os.close(watch)
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()
    life.check()
    return code if code >= 0 else 128 - code


def adopt_orphans() -> None:
    """Become the parent of what our programs leave behind, so that it can be found and ended."""
    import ctypes  # noqa: PLC0415  (10 ms that a site without commands does not pay)

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _start(program: Program) -> subprocess.Popen[bytes]:
    stdin = os.memfd_create("stdin")
    try:
        os.write(stdin, program.stdin)
        os.lseek(stdin, 0, os.SEEK_SET)
        stdin_file = stdin if program.stdin_file is None else program.stdin_file
        return subprocess.Popen(
            list(program.argv),
            cwd=program.cwd,
            env=dict(program.env),
            stdin=stdin_file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    finally:
        os.close(stdin)


def _pump(process: subprocess.Popen[bytes], watch: int, life: Life, on_output: OnOutput) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(watch, selectors.EVENT_READ, None)
        for stream, pipe in (("out", process.stdout), ("err", process.stderr)):
            assert pipe is not None  # noqa: S101  (asked for above)
            selector.register(pipe.fileno(), selectors.EVENT_READ, stream)
        alive = True
        while alive:
            life.tick()
            _bury_others(process.pid)
            for key, _ in selector.select(timeout=min(REAP_S, life.left_s())):
                if key.data is None:
                    alive = False
                elif data := os.read(key.fd, CHUNK_BYTES):
                    on_output(key.data, data)
                else:
                    selector.unregister(key.fd)


def _bury_others(pid: int) -> None:
    """Take note of adopted processes that ended, but not of our own *pid*."""
    with suppress(ChildProcessError):
        while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if dead.si_pid == pid:
                return
            os.waitpid(dead.si_pid, 0)


def _drain(process: subprocess.Popen[bytes], on_output: OnOutput) -> None:
    until = time.monotonic() + DRAIN_S
    for stream, pipe in (("out", process.stdout), ("err", process.stderr)):
        if pipe is None:
            continue
        os.set_blocking(pipe.fileno(), False)
        with suppress(BlockingIOError):
            while (data := os.read(pipe.fileno(), CHUNK_BYTES)) and time.monotonic() < until:
                on_output(stream, data)


def _end_orphans(before: set[int]) -> None:
    until = time.monotonic() + DEATH_S
    while orphans := _children() - before:
        for pid in orphans:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, 9)
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > until:
            raise BuildFailed("internal", f"Processes of the build could not be ended: {sorted(orphans)}.")
        time.sleep(0.005)


def _children() -> set[int]:
    """The processes whose parent we are, also those that we adopted."""
    us, found = os.getpid(), set()
    for name in os.listdir("/proc"):  # noqa: PTH208  (a Path for each process is waste)
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                if int(file.read().rpartition(b")")[2].split()[1]) == us:
                    found.add(int(name))
    return found
