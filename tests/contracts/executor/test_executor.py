"""What the local executor does besides what every executor does."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from plugins.executors.local import LocalExecutor
from plugins.executors.local import executor as local
from scalemesh.values import BuildJob, EndCause
from tests.contracts.executor.conftest import Opener
from tests.contracts.executor.processes import alive, groups_of, kill, processes_of, until
from tests.contracts.executor.stand_in import MIB, limits

Job = Callable[..., BuildJob]
FOREVER = "time.sleep(1000)"


async def test_a_job_whose_supervisor_was_killed_was_lost_with_all_its_processes(
    executor: LocalExecutor, job: Job
) -> None:
    ref = await executor.start(job("subprocess.Popen(['setsid', 'sleep', '1000']); " + FOREVER))
    await until(lambda: len(processes_of(ref)) >= 3)
    tree = processes_of(ref)
    supervisor = int(ref.where.split(":")[0])
    kill(supervisor)
    assert (await executor.wait(ref)).cause is EndCause.LOST
    await executor.stop(ref)
    await until(lambda: not any(alive(pid) for pid in tree))


async def test_a_job_that_eats_memory_ends_as_oom(executor: LocalExecutor, job: Job) -> None:
    program = "b = [b'x' * (8 << 20) for _ in range(100)]; time.sleep(1000)"
    end = await executor.wait(await executor.start(job(program, within=limits(memory_mib=96))))
    assert end.cause is EndCause.OOM
    assert end.peak_memory_bytes is not None
    assert end.peak_memory_bytes > 48 * MIB
    assert "96 MiB" in end.detail


async def test_a_fork_bomb_ends_as_too_many_processes(executor: LocalExecutor, job: Job) -> None:
    program = """
        from builder.sandbox import InnerSandbox
        again = "while True:\\n try: os.fork() or time.sleep(1000)\\n except OSError: time.sleep(0.01)"
        bomb = [sys.executable, "-c", "import os, time\\n" + again]
        sys.exit(subprocess.run(InnerSandbox().command(bomb, cwd="/work/src")).returncode)
    """
    end = await executor.wait(await executor.start(job(program, within=limits(pids=40))))
    assert end.cause is EndCause.PIDS
    assert "40 processes" in end.detail
    assert end.peak_pids is not None
    assert end.peak_pids >= 36


async def test_a_job_that_fills_the_disk_ends_as_disk(executor: LocalExecutor, job: Job) -> None:
    program = """
        for number in range(1000):
            with open(f"/work/src/{number}", "wb") as file:
                file.write(bytes(4 << 20))
        time.sleep(1000)
    """
    end = await executor.wait(await executor.start(job(program, within=limits(disk_mib=64))))
    assert end.cause is EndCause.DISK
    assert "64 MiB" in end.detail


async def test_the_builder_is_told_that_its_disk_is_watched(executor: LocalExecutor, job: Job) -> None:
    """Else two would watch it, count differently, and the first to fire would choose the reason."""
    end = await executor.wait(await executor.start(job("sys.exit('SCALEMESH_DISK_WATCHED' not in os.environ)")))
    assert end.cause is EndCause.OK


async def test_one_file_over_the_limit_ends_as_disk(executor: LocalExecutor, job: Job) -> None:
    program = "subprocess.run(['truncate', '-s', '1G', '/work/src/huge'], check=True)"
    end = await executor.wait(await executor.start(job(program, within=limits(disk_mib=64))))
    assert end.cause is EndCause.FAILED  # the file could not be made at all: nothing was filled
    program = "open('/work/src/huge', 'wb').write(bytes(80 << 20))"
    end = await executor.wait(await executor.start(job(program, deployment="dpl_two", within=limits(disk_mib=64))))
    assert end.cause is EndCause.DISK


async def test_a_job_that_makes_small_files_without_end_ends_as_disk(executor: LocalExecutor, job: Job) -> None:
    program = """
        for number in range(1_000_000):
            os.close(os.open(f"/work/src/{number}", os.O_CREAT))
        time.sleep(1000)
    """
    end = await executor.wait(await executor.start(job(program, within=limits(disk_mib=32))))
    assert end.cause is EndCause.DISK
    assert "files" in end.detail


async def test_files_behind_a_closed_door_count_too(executor: LocalExecutor, job: Job) -> None:
    program = """
        os.mkdir("/work/src/closed")
        for number in range(20):
            open(f"/work/src/closed/{number}", "wb").write(bytes(4 << 20))
        os.chmod("/work/src/closed", 0)
        time.sleep(1000)
    """
    end = await executor.wait(await executor.start(job(program, within=limits(disk_mib=64))))
    assert end.cause is EndCause.DISK


async def test_a_tree_too_deep_to_be_named_ends_as_disk(executor: LocalExecutor, job: Job) -> None:
    program = """
        for number in range(300):
            os.mkdir("f" * 100)
            os.chdir("f" * 100)
        time.sleep(1000)
    """
    end = await executor.wait(
        await executor.start(job(program.replace("for number", "os.chdir('/work/src')\n        for number", 1)))
    )
    assert end.cause is EndCause.DISK
    assert "too deeply" in end.detail


async def test_nothing_is_left_of_a_stopped_job(
    executor: LocalExecutor, job: Job, work_dir: Path, tmp_path: Path
) -> None:
    before = mounts()
    ref = await executor.start(job("os.makedirs('/work/src/a/b', 0o000); " + FOREVER))
    await until(lambda: len(processes_of(ref)) >= 3)
    tree = processes_of(ref)
    await executor.stop(ref)
    assert not any(alive(pid) for pid in tree)
    await until(lambda: not any((work_dir / ".trash").iterdir()))
    assert [path.name for path in work_dir.iterdir() if not path.name.startswith(".")] == []
    assert groups_of(work_dir) == []
    assert mounts() <= before


async def test_a_start_that_was_cut_off_is_repaired(executor: LocalExecutor, job: Job, work_dir: Path) -> None:
    (work_dir / "dpl_one" / "work").mkdir(parents=True)
    end = await executor.wait(await executor.start(job("sys.exit(0)")))
    assert end.cause is EndCause.OK


async def test_opening_removes_what_was_left_half_made(open_executor: Opener, work_dir: Path) -> None:
    (work_dir / "dpl_half" / "work").mkdir(parents=True)
    (work_dir / "dpl_fresh" / "work").mkdir(parents=True)  # somebody may be starting it this moment
    os.utime(work_dir / "dpl_half", (0, 0))
    async with open_executor() as executor:
        assert list(await executor.running()) == []
        assert not (work_dir / "dpl_half").exists()
        assert (work_dir / "dpl_fresh").exists()


async def test_opening_ends_a_check_that_was_cut_off(open_executor: Opener, work_dir: Path, job: Job) -> None:
    async with open_executor() as executor:
        cut = await executor.start(job(FOREVER, deployment=".probe-cut"))
        await until(lambda: len(processes_of(cut)) >= 3)
        tree = processes_of(cut)
    os.utime(work_dir / ".probe-cut", (0, 0))
    async with open_executor():
        assert not any(alive(pid) for pid in tree)
        assert not (work_dir / ".probe-cut").exists()


async def test_check_proves_that_builds_can_run(executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_PROBE_S", 60.0)  # however slow the machine is
    findings = await executor.check()
    assert [finding.what for finding in findings if not finding.ok] == []
    assert len(findings) >= 4


def mounts() -> set[str]:
    """Of this machine, but for those of engines: containers and pods of other tests come and go beside this one."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line for line in lines if "/docker/" not in line and "/kubelet/" not in line}
