"""What every test stands on."""

import re
import signal
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

# A runner that was put into the background may have told us to ignore SIGINT; what tests start would inherit that, and
# Ctrl-C is something that they test.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes tells how busy the machine is: what may not take long is measured by tests of its own.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

#: Tests over real servers and processes, on a machine that may do something else just then, get a second try.
WITH_SERVERS: Final = ("contracts", "whole")
#: Files that share the machine's one docker engine, its images and its cluster: one after the other.
WITH_ENGINE: Final = re.compile(
    r"contracts/(docker|kubernetes|executor)/.*|whole/test_"
    r"(executors|builder_image|cli_image|network_modes|docker_builds|direct_uploads_elsewhere)\.py"
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        if config.getoption("reruns") is None and path.startswith(WITH_SERVERS):
            item.add_marker(pytest.mark.flaky(reruns=1))
        item.add_marker(pytest.mark.xdist_group("engine" if WITH_ENGINE.fullmatch(path) else path))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A test that passes only when it is run again has found a bug, in itself or in what it tests: how it failed."""
    if not (unsteady := terminalreporter.getreports("rerun")):
        return
    terminalreporter.section("unsteady: failed, and run once more")
    for report in unsteady:
        terminalreporter.line(f"UNSTEADY {report.nodeid}")
        terminalreporter.line(report.longreprtext)
