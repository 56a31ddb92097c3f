"""The docker engine that tests use: tests/run.sh starts one where it can."""

import os
import shutil
import subprocess
import time
from functools import cache
from typing import Final

import pytest

SILENT_S: Final = 90.0  #: so long a busy engine has been seen to say nothing
QUICK_S: Final = 2.0


def engine_lacks() -> str:
    """Why there is no engine; empty where there is."""
    if shutil.which("docker") is None:
        return "there is no program `docker`"
    try:
        _ask_engine()
    except subprocess.TimeoutExpired:
        return f"the docker engine says nothing for {SILENT_S:.0f} s"
    except subprocess.CalledProcessError as error:
        return f"no docker engine answers: {error.stderr.strip()[-200:]}"
    return ""


@cache  # what it raises is not kept: an engine that was silent once may answer the next test
def _ask_engine() -> None:
    subprocess.run(["docker", "info"], capture_output=True, text=True, check=True, timeout=SILENT_S)


def until_quick() -> None:
    """Return once the engine answers within two seconds: it may still be busy with what earlier tests left to it."""
    end = time.monotonic() + SILENT_S
    while True:
        began = time.monotonic()
        docker("version", "--format", "{{.Server.Version}}")
        if time.monotonic() - began < QUICK_S or time.monotonic() > end:
            return


def need_docker() -> None:
    """Skip the test, and say so; in CI fail it: there the engine has to be."""
    if why := engine_lacks():
        if os.environ.get("CI"):
            pytest.fail(f"{why}; tests/run.sh starts one where it runs as root")
        pytest.skip(f"NOT RUN: {why} (run tests/run.sh as root)")


def docker(*words: str) -> str:
    """What the program prints; it must succeed."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout.strip()


def processes_of(container: str) -> list[int]:
    """The host's pids of a container's processes, but for the init that an engine puts before them."""
    done = subprocess.run(["docker", "top", container, "-eo", "pid,comm"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return []
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    return [int(row[0]) for row in rows if row[1] not in {"docker-init", "tini"}]
