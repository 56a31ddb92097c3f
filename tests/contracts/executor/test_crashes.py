"""A daemon or a supervisor that is killed at any point leaves one job or none, and nothing behind."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import builder
from plugins.executors.local import LocalConfig, LocalExecutor
from plugins.executors.local.cgroups import find_parents
from scalemesh.values import BuildJob, EndCause
from tests.contracts.executor.conftest import Opener
from tests.contracts.executor.processes import alive, groups_of, processes_of, runs, until
from tests.contracts.executor.stand_in import make_entry, make_job
from tests.contracts.executor.starter import PROGRAM

_ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("after_ms", [0, 4, 12, 30, 60, 120])
async def test_a_daemon_killed_while_it_starts_a_job_leaves_one_job(
    open_executor: Opener, job: Callable[..., BuildJob], tmp_path: Path, after_ms: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.contracts.executor.starter", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    ) as daemon:
        assert daemon.stdin is not None
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == b"ready\n"
        daemon.stdin.write(b"\n")
        daemon.stdin.flush()
        time.sleep(after_ms / 1000)  # the point in time is what is tested
        daemon.kill()
    async with open_executor() as successor:
        ref = await successor.start(job(PROGRAM))
        assert (await successor.wait(ref)).cause is EndCause.OK
        assert (tmp_path / "jobs" / "dpl_one" / "work" / "src" / "starts").read_text() == "x"
        assert list(await successor.running()) == [ref]
        await successor.stop(ref)
        assert list(await successor.running()) == []


@pytest.mark.parametrize("network", ["slirp4netns", "pasta", "proxy"])
async def test_nothing_outlives_a_killed_supervisor_once_it_was_cleaned_up(tmp_path: Path, network: str) -> None:
    if network != "proxy" and (shutil.which(network) is None or not os.access("/dev/net/tun", os.W_OK)):
        pytest.skip(f"{network} cannot be used here")
    (tmp_path / "sockets").mkdir(mode=0o711)
    entry = make_entry(tmp_path / "entry", Path(builder.__file__).parent)
    async with LocalExecutor.open(LocalConfig(work_dir=tmp_path / "jobs", network=network), entry=entry) as executor:
        ref = await executor.start(make_job("time.sleep(1000)", tmp_path / "sockets" / "builds.sock"))
        await until(lambda: runs(ref))
        tree = processes_of(ref)
        os.kill(int(ref.where.split(":")[0]), signal.SIGKILL)
        assert (await executor.wait(ref)).cause is EndCause.LOST
        async with asyncio.timeout(20):
            await executor.stop(ref)
        await until(lambda: not any(alive(pid) for pid in tree))
        assert groups_of(tmp_path / "jobs") == []


async def test_a_successor_takes_away_the_group_of_a_job_whose_folder_is_gone(
    open_executor: Opener, job: Callable[..., BuildJob], tmp_path: Path
) -> None:
    """As after a kill between the two steps of forgetting a job."""
    async with open_executor() as executor:
        ref = await executor.start(job("time.sleep(1000)"))
        await until(lambda: runs(ref))
        tree = processes_of(ref)
        os.kill(int(ref.where.split(":")[0]), signal.SIGKILL)
        await until(lambda: not any(alive(pid) for pid in tree))
    shutil.rmtree(tmp_path / "jobs" / "dpl_one")
    async with open_executor():
        assert groups_of(tmp_path / "jobs") == []


async def test_a_successor_takes_away_the_group_of_a_look_around_that_was_cut_off(open_executor: Opener) -> None:
    parents = find_parents()
    if parents is None:
        pytest.skip("no control groups for us")
    with subprocess.Popen(["true"]) as ended:
        pass
    group = parents.group(f"scalemesh-probe-{ended.pid}")
    group.create(memory_bytes=1 << 26, pids=16, cpu_weight=100)
    async with open_executor():
        assert f"scalemesh-probe-{ended.pid}" not in parents.groups("scalemesh-probe-")
