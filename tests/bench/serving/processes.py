"""What a server and its children use of the machine."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def resident_kib(pid: int) -> float:
    """Memory of a process and of all below it."""
    return sum(_resident_kib(each) for each in _family(pid))


def cpu_s(pid: int) -> float:
    """Time on a processor that a process, and all below it that live now, have had: foreign work does not count."""
    return sum(_cpu_s(each) for each in _family(pid))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                yield from _family(int(child))


def _resident_kib(pid: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return float(line.split()[1])
    return 0.0


def _cpu_s(pid: int) -> float:
    spent = 0.0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):
            spent += int(thread.read_text().split()[0]) / 1e9
    return spent
