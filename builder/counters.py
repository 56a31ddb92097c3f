"""Processes and memory of this container: how many there are, and what the kernel counted in its control group.

Engines that limit processes let the kernel refuse them. ECS and Kubernetes do not, so we count them ourselves.

Version 2 shows one folder, version 1 one for each controller; an engine shows a container its own at the usual place.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from builder.errors import BuildFailed
from builder.life import Life

ROOT: Final = Path("/sys/fs/cgroup")
PROC: Final = Path("/proc")
LOOK_S: Final = 0.2  #: a bomb makes thousands in a second
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Counters:
    """Reads them; what cannot be read counts as nothing."""

    root: Path = ROOT

    def refused_forks(self) -> int:
        return self._named("max", "pids.events", "pids/pids.events")

    def memory_kills(self) -> int:
        return self._named("oom_kill", "memory.events", "memory/memory.oom_control")

    def most_processes(self) -> int:
        return self._number("pids.peak", "pids.max", "pids/pids.max")

    def most_memory_bytes(self) -> int:
        return self._number("memory.peak", "memory/memory.max_usage_in_bytes")

    def _named(self, word: str, *names: str) -> int:
        for text in self._texts(names):
            for line in text.splitlines():
                name, _, value = line.partition(" ")
                if name == word and value.isdigit():
                    return int(value)
        return 0

    def _number(self, *names: str) -> int:
        return next((int(text) for text in self._texts(names) if text.strip().isdigit()), 0)

    def _texts(self, names: tuple[str, ...]) -> Iterator[str]:
        for name in names:
            try:
                yield (self.root / name).read_text()
            except OSError:
                continue


def threads(most: int, proc: Path = PROC) -> int:
    """How many threads there are in this process namespace; stops to count once there are more than *most*."""
    count = 0
    for process in proc.iterdir():
        if process.name.isdigit():
            with suppress(OSError):  # gone meanwhile
                count += sum(1 for _ in (process / "task").iterdir())
        if count > most:
            break
    return count


@dataclass
class LimitWatch:
    """Ends the build once it has too many processes, and tells of kills for memory when asked why it failed.

    Too many are more than *most*, or one that the kernel refused. *end_all* kills all of the container but us: those of
    a bomb have left the process group that the end of the build kills.
    """

    life: Life
    most: int  #: processes and threads, ours among them
    end_all: Callable[[], None]
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        self._forks, self._kills = self.counters.refused_forks(), self.counters.memory_kills()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="limit watch", daemon=True)

    def __enter__(self) -> "LimitWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def cause(self) -> BuildFailed | None:
        """What the kernel did to the build since we began to watch."""
        if self.counters.refused_forks() > self._forks:
            return _too_many(self.counters.most_processes())
        if self.counters.memory_kills() > self._kills:
            most = self.counters.most_memory_bytes()
            text = (
                f"The build ran out of memory; the peak was {most // MIB} MiB. Raise builds.memory_mib, or build less."
            )
            return BuildFailed("out_of_memory", text, {"memory_bytes": most})
        return None

    def _serve(self) -> None:
        while not self._stop.wait(LOOK_S):
            if threads(self.most) > self.most:
                self.life.end(_too_many(self.most))
                self.end_all()  # and again, should anything be left
            elif self.counters.refused_forks() > self._forks and (cause := self.cause()):
                self.life.end(cause)
                return


def _too_many(most: int) -> BuildFailed:
    text = f"The build started more than its {most} processes. Run fewer at once, or raise builds.pids."
    return BuildFailed("too_many_processes", text, {"pids": most})
