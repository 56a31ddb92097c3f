"""Measured values and what is made of them: median, lowest, highest, and how they stand to their aim."""

import math
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

Unit = Literal["s", "ms", "/s", "MiB", "KiB", "x", ""]
AS_SHOWN: Final[Mapping[Unit, str]] = {
    **{"s": ".2f", "ms": ".1f", "/s": ",.0f", "MiB": ".1f", "KiB": ".1f", "x": ".3f", "": ".0f"}
}


class PeerError(Exception):
    """What we compare ourselves with does not run: there is nothing to compare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that was measured, once for each round; *at_most* or *at_least* is its aim, where there is one.

    No values at all: it could not be measured, and *note* says why.
    """

    bench: str
    name: str
    unit: Unit
    values: Sequence[float]
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values) if self.values else math.nan

    @property
    def is_met(self) -> bool | None:
        if not self.values or (self.at_most is None and self.at_least is None):
            return None
        return (self.at_most is None or self.median <= self.at_most) and (
            self.at_least is None or self.median >= self.at_least
        )

    @property
    def aim(self) -> str:
        """What is to be reached, in words."""
        most = "" if self.at_most is None else f"at most {self.shown(self.at_most)}"
        return most if self.at_least is None else f"{most} at least {self.shown(self.at_least)}".lstrip()

    def shown(self, value: float) -> str:
        """*value* as this figure's unit is written."""
        if math.isnan(value):
            return "none"
        return f"{value:{AS_SHOWN[self.unit]}} {self.unit}".rstrip()

    def as_json(self) -> dict[str, Any]:
        return {
            **{"bench": self.bench, "name": self.name, "unit": self.unit},
            **{"median": self.median if self.values else None, "values": list(self.values)},
            **{"min": min(self.values, default=None), "max": max(self.values, default=None)},
            **{"at_most": self.at_most, "at_least": self.at_least, "met": self.is_met, "note": self.note},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one bench found. *phases*: where the time of our part goes, name -> seconds in each round."""

    figures: Sequence[Figure]
    phases: Mapping[str, Sequence[float]] = field(default_factory=dict)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of *values* that at least *share* of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def memory_mib(pid: int) -> tuple[float, float]:
    """(resident, proportional share) of a process."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
    return kib["Rss"] / 1024, kib["Pss"] / 1024


def load_average() -> float:
    """How many processes wanted to run, on average over the last minute."""
    return os.getloadavg()[0]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_gib, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "node": _said("node", "--version"),
        "npm": _said("npm", "--version"),
        "bubblewrap": _said("bwrap", "--version").removeprefix("bubblewrap "),
        "scalemesh": version("scalemesh"),
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "none"
    return done.stdout.strip()
