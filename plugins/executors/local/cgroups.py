"""Control groups, v1 and v2 alike: what one job may use, what it used, and the end of all of it. Stdlib only.

``find_parents`` looks for a place where we may make groups; a ``JobGroup`` is one job's group there. Names,
not open files, so that a restarted daemon finds the group again.
"""

import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NEEDED: Final = ("memory", "pids")
_WANTED: Final = (*_NEEDED, "cpu")
_PROOF: Final = "scalemesh-probe-"  # and our pid: the group that shows whether groups can be made
_LEAF: Final = "daemon"  # where our own processes are, as systemd's DelegateSubgroup= puts them


@dataclass(frozen=True, slots=True)
class Parents:
    """Where groups of jobs can be made: controller -> directory (all the same one with v2)."""

    version: int
    directories: Mapping[str, str]

    def group(self, name: str) -> "JobGroup":
        """The group *name* below these parents; nothing is made yet."""
        return JobGroup(self.version, {key: f"{path}/{name}" for key, path in self.directories.items()})

    def groups(self, prefix: str) -> list[str]:
        """The names of the groups there that begin with *prefix*."""
        return sorted({path.name for parent in self.directories.values() for path in Path(parent).glob(f"{prefix}*")})


class JobGroup:
    """One job's control group."""

    def __init__(self, version: int, directories: Mapping[str, str]) -> None:
        self.version = version
        self.directories = dict(directories)

    def create(self, *, memory_bytes: int, pids: int, cpu_weight: int) -> None:
        """Make the group and set its limits; a repeat sets them again. Raises OSError."""
        for directory in self._unique():
            directory.mkdir(exist_ok=True)
        self._set("pids", "pids.max", pids)
        if self.version == 2:
            self._set("memory", "memory.max", memory_bytes)
            self._set("memory", "memory.swap.max", 0, required=False)
            self._set("memory", "memory.oom.group", 1, required=False)
            self._set("cpu", "cpu.weight", cpu_weight, required=False)
            return
        # Lowered below an old limit of both, the first write is refused; a fresh group has none.
        self._set("memory", "memory.limit_in_bytes", memory_bytes)
        self._set("memory", "memory.memsw.limit_in_bytes", memory_bytes, required=False)
        self._set("cpu", "cpu.shares", max(2, cpu_weight * 1024 // 100), required=False)

    def add(self, pid: int) -> None:
        """Move the process *pid* (0: the caller) into the group. Raises OSError."""
        for directory in self._unique():
            (directory / "cgroup.procs").write_text(str(pid))

    def oom_kills(self) -> int:
        """How many processes the kernel killed because the group's memory was used up."""
        return self._count("memory", ("memory.events", "memory.oom_control"), "oom_kill")

    def refused_forks(self) -> int:
        """How often a process could not be made because there were too many."""
        return self._count("pids", ("pids.events",), "max")

    def peak_memory(self) -> int | None:
        """The most memory used at once, in bytes, the page cache included; None where not known."""
        return self._number("memory", ("memory.peak", "memory.max_usage_in_bytes", "memory.current"))

    def pids_now(self) -> int | None:
        """How many processes and threads there are, or were at most where the kernel keeps count."""
        return self._number("pids", ("pids.peak", "pids.current"))

    def event_files(self) -> Iterator[str]:
        """Files that poll(2) reports (POLLPRI) when a limit was hit."""
        for controller, name in (("pids", "pids.events"), ("memory", "memory.events")):
            path = self._path(controller, name)
            if path.exists():
                yield str(path)

    def notify_oom(self, event_fd: int) -> None:
        """Have the kernel write to *event_fd* when memory runs out (v1; v2 has files to poll)."""
        if self.version == 1:
            control = os.open(self._path("memory", "memory.oom_control"), os.O_RDONLY | os.O_CLOEXEC)
            try:
                line = f"{event_fd} {control}"
                self._path("memory", "cgroup.event_control").write_text(line)
            finally:
                os.close(control)

    def kill(self) -> None:
        """Send SIGKILL to everything in the group, and again until it is empty, for a second at most."""
        for _ in _until(time.monotonic() + 1.0):
            switch = self._path("pids", "cgroup.kill")
            if switch.exists():
                switch.write_text("1")
            members = self.members()
            if not members:
                return
            for pid in members:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def members(self) -> list[int]:
        """The processes in the group, in any of its controllers."""
        found: set[int] = set()
        for directory in self._unique():
            with suppress(OSError):
                found.update(map(int, (directory / "cgroup.procs").read_text().split()))
        return sorted(found - {0})

    def remove(self) -> None:
        """Kill what is left and take the group away. Repeatable."""
        if any(directory.exists() for directory in self._unique()):
            self.kill()
        for directory in self._unique():
            for _ in _until(time.monotonic() + 1.0):
                try:
                    directory.rmdir()
                except FileNotFoundError:
                    break
                except OSError:  # busy: the last process has not been taken apart yet
                    continue
                break

    def _unique(self) -> list[Path]:
        return [Path(path) for path in dict.fromkeys(self.directories.values())]

    def _path(self, controller: str, name: str) -> Path:
        return Path(self.directories.get(controller, "/nonexistent"), name)

    def _set(self, controller: str, name: str, value: int, *, required: bool = True) -> None:
        try:
            self._path(controller, name).write_text(str(value))
        except OSError:
            if required:
                raise

    def _count(self, controller: str, names: Iterable[str], key: str) -> int:
        for name in names:
            with suppress(OSError):
                for line in self._path(controller, name).read_text().splitlines():
                    word, _, number = line.partition(" ")
                    if word == key:
                        return int(number)
        return 0

    def _number(self, controller: str, names: Iterable[str]) -> int | None:
        for name in names:
            with suppress(OSError, ValueError):
                return int(self._path(controller, name).read_text())
        return None


def find_parents() -> Parents | None:
    """Find where we may make groups with memory and pids limits, and prove it; None: nowhere."""
    mounts, own = _mounts(), _own_groups()
    for version, directories in ((2, _v2(mounts, own)), (1, _v1(mounts, own))):
        if all(name in directories for name in _NEEDED):
            parents = Parents(version, directories)
            if _proven(parents):
                return parents
    return None


def _proven(parents: Parents) -> bool:
    for name in parents.groups(_PROOF):  # of processes that were killed in the middle of this
        if not Path("/proc", name.removeprefix(_PROOF)).exists():
            parents.group(name).remove()
    group = parents.group(f"{_PROOF}{os.getpid()}")
    try:
        group.create(memory_bytes=1 << 26, pids=16, cpu_weight=100)
    except OSError:
        return False
    finally:
        group.remove()
    return True


def _v1(mounts: Mapping[str, tuple[str, str]], own: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for controller in _WANTED:
        if controller in mounts and controller in own:
            directory = _below(mounts[controller], own[controller])
            if os.access(directory, os.W_OK):
                found[controller] = directory
    return found


def _v2(mounts: Mapping[str, tuple[str, str]], own: Mapping[str, str]) -> dict[str, str]:
    if "" not in mounts or "" not in own:
        return {}
    if os.geteuid() == 0:
        # Beside the services, not in our own: a service manager could not restart us where jobs go on below us.
        directory = Path(mounts[""][1], "scalemesh")
    else:
        own_directory = Path(_below(mounts[""], own[""]))
        directory = own_directory.parent if own_directory.name == _LEAF else own_directory
    try:
        divided = _divide(directory)
    except OSError:
        return {}
    return {controller: str(directory) for controller in _WANTED if controller in divided}


def _divide(directory: Path) -> set[str]:
    """Make the controllers of *directory* available to groups below it; return which are."""
    nearest = directory if directory.exists() else directory.parent
    if not set(_NEEDED) <= set((nearest / "cgroup.controllers").read_text().split()):
        return set()
    if not directory.exists():
        _switch_on(directory.parent)
        directory.mkdir()
    try:
        _switch_on(directory)
    except OSError:  # a group with processes of its own cannot be divided: they move into a leaf
        leaf = directory / _LEAF
        leaf.mkdir(exist_ok=True)
        for pid in (directory / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(pid)
        _switch_on(directory)
    return set((directory / "cgroup.subtree_control").read_text().split())


def _switch_on(directory: Path) -> None:
    has = (directory / "cgroup.controllers").read_text().split()
    words = " ".join(f"+{name}" for name in _WANTED if name in has)
    (directory / "cgroup.subtree_control").write_text(words)


def _mounts() -> dict[str, tuple[str, str]]:
    """Controller ("" for v2) -> (root inside its hierarchy, mount point)."""
    found: dict[str, tuple[str, str]] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        head, _, tail = line.partition(" - ")
        root, point = head.split()[3:5]
        kind, _, options = tail.split()[:3]
        if kind == "cgroup2":
            found.setdefault("", (root, point))
        if kind == "cgroup":
            for option in options.split(","):
                found.setdefault(option, (root, point))
    return found


def _own_groups() -> dict[str, str]:
    """Controller ("" for v2) -> our group's path inside its hierarchy."""
    found = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def _below(mount: tuple[str, str], path: str) -> str:
    root, point = mount
    if path.startswith(root.rstrip("/") + "/"):
        path = path[len(root.rstrip("/")) :]
    elif path == root:
        path = ""
    return (point + path).rstrip("/")


def _until(deadline: float) -> Iterator[None]:
    while time.monotonic() < deadline:
        yield
        time.sleep(0.005)
