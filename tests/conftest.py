"""What every test stands on."""

import signal
from pathlib import Path
from typing import Final

import pytest

# A runner that was put into the background may have told us to ignore SIGINT; what tests start would inherit that, and
# Ctrl-C is something that they test.
signal.signal(signal.SIGINT, signal.default_int_handler)

#: Tests over real servers and processes, on a machine that may do something else just then, get a second try.
WITH_SERVERS: Final = ("contracts", "whole")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("reruns") is not None:  # somebody says how often
        return
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.path.relative_to(here).parts[0] in WITH_SERVERS:
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A test that passes only when it is run again has found a bug, in itself or in what it tests: how it failed."""
    if not (unsteady := terminalreporter.getreports("rerun")):
        return
    terminalreporter.section("unsteady: failed, and run once more")
    for report in unsteady:
        terminalreporter.line(f"UNSTEADY {report.nodeid}")
        terminalreporter.line(report.longreprtext)
