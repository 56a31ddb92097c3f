"""Fault points: silent unless armed, and every name in the code is in the list and the other way round."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scalemesh.faults import POINTS, armed

ROOT = Path(__file__).parents[2]


def run(setting: str, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"from scalemesh.faults import fault\n{code}\nprint('alive')"],
        env={"SCALEMESH_FAULT": setting, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_a_point_that_is_not_named_does_nothing() -> None:
    assert run("", "fault('start.before')").stdout == "alive\n"
    assert run("start.after", "fault('start.before')").stdout == "alive\n"


def test_the_named_point_kills_at_once_the_first_or_the_nth_time() -> None:
    died = run("start.before", "fault('start.before')")
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, "")
    died = run(
        "start.before:3",
        "fault('start.before')\nfault('start.before')\nprint('twice', flush=True)\nfault('start.before')",
    )
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, "twice\n")


@pytest.mark.parametrize("setting", ["start.befor", ":", "start.before:0", "start.before:x", "start.before:-1"])
def test_an_unknown_name_is_an_error_that_names_the_list(setting: str) -> None:
    with pytest.raises(ValueError, match=r"submit\.after_commit"):
        armed(setting)
    assert "ValueError" in run(setting, "").stderr


def test_every_point_in_the_code_is_in_the_list() -> None:
    """The other way round is for the crash tests: a point that nobody reaches fails there."""
    sources = [path.read_text() for room in ("scalemesh", "plugins") for path in (ROOT / room).rglob("*.py")]
    used = {name for source in sources for name in re.findall(r'\bfault\("([^"]+)"\)', source)}
    assert used <= set(POINTS)
    assert {"store.staged_written", "store.before_link", "store.after_link", "logs.after_append"} <= used
