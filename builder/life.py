"""Whether this build may go on: its time limit, cancelling, and the programs that die when it may not."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from builder.errors import BuildFailed, GivenUp


class Life:
    """Shared by all threads. The first cause to end it wins; whatever program runs then is killed."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._over = threading.Event()
        self._failed: BuildFailed | None = None
        self._given_up: GivenUp | None = None
        self._running: set[int] = set()
        self._started = now()
        self._time_s: int | None = None

    def limit(self, time_s: int) -> None:
        """Give the whole build *time_s* seconds, counted from its start."""
        self._time_s = time_s

    def end(self, cause: BuildFailed | GivenUp) -> None:
        """End the build because of *cause* and kill what runs; a later cause of the same kind changes nothing."""
        with self._lock:
            if isinstance(cause, GivenUp):
                self._given_up = self._given_up or cause
                self._over.set()
            else:
                self._failed = self._failed or cause
            self._ended.set()
            for group in self._running:
                kill_group(group)

    def tick(self) -> None:
        """End the build if its time is up. To be called about once a second while something runs."""
        if self.left_s() <= 0 and not self._ended.is_set():
            self.end(self._timed_out())

    def check(self) -> None:
        """Raise what ended the build, if anything did; having been given up goes before all."""
        self.tick()
        if self._given_up is not None:
            raise self._given_up
        if self._failed is not None:
            raise self._failed

    def wait(self, seconds: float) -> bool:
        """Sleep up to *seconds*; true as soon as the build has ended."""
        return self._ended.wait(seconds)

    def rest(self, seconds: float) -> None:
        """Sleep *seconds* between two tries of a call, also of a build that failed: the daemon must hear of it.

        Raises:
            GivenUp: nobody wants to hear of it any more.
        """
        if self._over.wait(seconds) and self._given_up is not None:
            raise self._given_up

    def left_s(self) -> float:
        """Seconds until the time limit, never below zero; endless while there is none."""
        if self._time_s is None:
            return float("inf")
        return max(0.0, self._started + self._time_s - self._now())

    @contextmanager
    def killing(self, group: int) -> Iterator[None]:
        """While inside, the process group *group* is killed when the build ends."""
        with self._lock:
            self._running.add(group)
            if self._ended.is_set():
                kill_group(group)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(group)

    def _timed_out(self) -> BuildFailed:
        return BuildFailed(
            "timed_out",
            f"The build was stopped after {self._time_s} s, its time limit. "
            "Make the build faster, or have the time limit of builds raised.",
            {"time_s": self._time_s or 0},
        )


def kill_group(group: int) -> None:
    """Kill a process group; one that is gone is no error."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
