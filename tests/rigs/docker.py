"""The docker engine that tests use: tests/run.sh starts one where it can."""

import os
import shutil
import subprocess
from functools import cache

import pytest


@cache
def engine_lacks() -> str:
    """Why there is no engine; empty where there is."""
    if shutil.which("docker") is None:
        return "there is no program `docker`"
    done = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False, timeout=20)
    return "" if done.returncode == 0 else f"no docker engine answers: {done.stderr.strip()[-200:]}"


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
