"""Holds one running job to its limits and says which one it passed. Stdlib only."""

import os
import resource
import select
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from builder.disk import DiskWatch
from plugins.executors.local.cgroups import JobGroup
from plugins.executors.local.measures import tree_use

GRACE_S: Final = 30.0  #: the builder keeps the exact time limit; we end a builder that does not


@dataclass(frozen=True, slots=True)
class Hit:
    """A limit that was passed."""

    cause: str  #: a value of EndCause
    detail: str


class Watch:
    """Looks at one job: by the control group's events where there is one, else by measuring its tree."""

    def __init__(self, spec: dict[str, Any], work: Path, group: JobGroup | None, left_out: set[int]) -> None:
        self._limits = spec["limits"]
        self._group = group
        self._left_out = left_out
        self._disk = DiskWatch([work], self._limits["disk_bytes"])
        self._ends_at = time.monotonic() + self._limits["time_s"] + spec["grace_s"]
        self._events: list[int] = []
        self._oom_event: int | None = None
        self._peak_memory: int | None = None
        self._peak_pids: int | None = None

    def event_fds(self) -> list[tuple[int, int]]:
        """Descriptors, and what to poll them for, that wake the watcher when the kernel held a limit."""
        if self._group is None:
            return []
        self._events = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in self._group.event_files()]
        if self._group.version == 1:
            self._oom_event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            with suppress(OSError):
                self._group.notify_oom(self._oom_event)
        found = [(fd, select.POLLPRI) for fd in self._events]  # for POLLIN, files are always ready
        return found if self._oom_event is None else [*found, (self._oom_event, select.POLLIN)]

    def look(self, *, is_event: bool) -> Hit | None:
        """The limit that is passed now, if any; an event asks for the kernel's counts alone."""
        if is_event and self._read_events():
            return self._oom()
        hit = self._processes()
        if hit is not None or is_event:
            return hit
        if time.monotonic() > self._ends_at:
            return Hit("timeout", f"the build did not end within {self._limits['time_s']} s")
        passed = self._disk.look()
        return Hit("disk", passed) if passed else None

    def _read_events(self) -> bool:
        """Read what woke us, so that only news wakes us again; True: memory ran out this moment (v1)."""
        for fd in self._events:
            os.pread(fd, 4096, 0)
        if self._oom_event is not None:
            with suppress(BlockingIOError):
                return os.eventfd_read(self._oom_event) > 0
        return False

    def _oom(self) -> Hit:
        return Hit("oom", f"the build used more than {self._limits['memory_bytes'] >> 20} MiB of memory")

    def end(self, hit: Hit | None, exit_code: int | None) -> dict[str, Any]:
        """How the job ended, given the limit that ended it or its exit code."""
        self._measure()
        hit = hit or self._hit_behind(exit_code)
        return {
            "cause": hit.cause if hit else "ok" if exit_code == 0 else "failed",
            "exit_code": exit_code,
            "peak_memory_bytes": self._peak_memory,
            "peak_pids": self._peak_pids,
            "detail": hit.detail if hit else "",
        }

    def _hit_behind(self, exit_code: int | None) -> Hit | None:
        """A job that failed by itself may have failed because of a limit."""
        if exit_code == 0:
            return None
        if self._group is None:  # the largest process that anybody waited for
            largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
            self._peak_memory = max(self._peak_memory or 0, largest)
        hit = self._processes()
        if hit is not None:
            return hit
        passed = self._disk.scan()
        return Hit("disk", passed) if passed else None

    def _processes(self) -> Hit | None:
        self._measure()
        memory, pids = self._limits["memory_bytes"], self._limits["pids"]
        if self._group is not None:
            too_much, too_many = self._group.oom_kills() > 0, self._group.refused_forks() > 0
        else:
            too_much, too_many = (self._peak_memory or 0) > memory, (self._peak_pids or 0) >= pids
        if too_many:
            return Hit("pids", f"the build made more than {pids} processes and threads")
        if too_much:
            return self._oom()
        return None

    def _measure(self) -> None:
        if self._group is not None:
            memory, pids = self._group.peak_memory(), self._group.pids_now()
        else:
            use = tree_use(os.getpid(), self._left_out)
            memory, pids = use.resident_bytes, use.threads
        self._peak_memory = max(self._peak_memory or 0, memory or 0) or None
        self._peak_pids = max(self._peak_pids or 0, pids or 0) or None
