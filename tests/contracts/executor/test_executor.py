"""What every executor does, whatever it starts jobs with."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from plugins.executors.local import LocalExecutor
from scalemesh.values import BuildJob, DeploymentId, EndCause, JobRef
from tests.contracts.executor.conftest import Opener
from tests.contracts.executor.stand_in import MIB, limits

Job = Callable[..., BuildJob]
FOREVER = "time.sleep(1000)"


async def test_a_job_that_ends_well_ends_ok(executor: LocalExecutor, job: Job) -> None:
    end = await executor.wait(await executor.start(job("sys.exit(0)")))
    assert (end.cause, end.exit_code) == (EndCause.OK, 0)


async def test_a_failed_job_tells_its_exit_code_and_last_words(executor: LocalExecutor, job: Job) -> None:
    end = await executor.wait(await executor.start(job("print('no good'); sys.exit(7)")))
    assert (end.cause, end.exit_code, end.detail) == (EndCause.FAILED, 7, "no good")


async def test_starting_twice_is_one_job(executor: LocalExecutor, job: Job, work_dir: Path) -> None:
    once = job("open('/work/src/starts', 'a').write('x'); " + FOREVER)
    refs = await asyncio.gather(*(executor.start(once) for _ in range(3)))
    assert len(set(refs)) == 1
    assert list(await executor.running()) == [refs[0]]


async def test_a_job_that_ended_is_not_started_again(executor: LocalExecutor, job: Job) -> None:
    ref = await executor.start(job("sys.exit(5)"))
    first = await executor.wait(ref)
    again = await executor.start(job("sys.exit(5)"))
    assert again == ref
    assert await executor.wait(again) == first


async def test_a_newer_attempt_ends_the_older(executor: LocalExecutor, job: Job) -> None:
    old = await executor.start(job(FOREVER))
    new = await executor.start(job("sys.exit(0)", attempt=2))
    assert (await executor.wait(new)).cause is EndCause.OK
    assert (await executor.wait(old)).cause is EndCause.LOST
    await executor.stop(old)  # not its job any more: nothing happens
    assert list(await executor.running()) == [new]


async def test_a_job_outlives_the_daemon_and_is_found_again(open_executor: Opener, job: Job) -> None:
    async with open_executor() as executor:
        ref = await executor.start(job("time.sleep(0.5); sys.exit(4)"))
    async with open_executor() as successor:
        assert list(await successor.running()) == [ref]
        assert (await successor.wait(ref)).exit_code == 4
        assert (await successor.wait(ref)).exit_code == 4
        await successor.stop(ref)
        assert list(await successor.running()) == []


async def test_cancelling_a_wait_leaves_the_job_alone(executor: LocalExecutor, job: Job) -> None:
    ref = await executor.start(job(FOREVER))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await executor.wait(ref)
    assert processes_of(ref)


async def test_an_unknown_job_was_lost(executor: LocalExecutor) -> None:
    ref = JobRef(deployment=DeploymentId("dpl_none"), attempt=1, where="1:1")
    assert (await executor.wait(ref)).cause is EndCause.LOST
    await executor.stop(ref)


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


async def test_stop_ends_all_of_one_job_and_nothing_else(executor: LocalExecutor, job: Job) -> None:
    stubborn = """
        import signal
        for _ in range(5):
            subprocess.Popen(["setsid", "sh", "-c", "trap '' TERM INT HUP; while :; do sleep 1; done"])
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    """
    ref, other = await executor.start(job(stubborn)), await executor.start(job(FOREVER, deployment="dpl_two"))
    await until(lambda: len(processes_of(ref)) >= 8)
    tree, others = processes_of(ref), processes_of(other)
    async with asyncio.timeout(2):
        await executor.stop(ref)
        assert not any(alive(pid) for pid in tree)
    assert list(await executor.running()) == [other]
    assert all(alive(pid) for pid in others)
    await executor.stop(ref)


async def test_a_job_that_eats_memory_ends_as_oom(executor: LocalExecutor, job: Job) -> None:
    program = "b = [b'x' * (8 << 20) for _ in range(100)]; time.sleep(1000)"
    end = await executor.wait(await executor.start(job(program, within=limits(memory_mib=96))))
    assert end.cause is EndCause.OOM
    assert end.peak_memory_bytes is not None
    assert end.peak_memory_bytes > 48 * MIB
    assert "96 MiB" in end.detail


async def test_a_child_that_was_killed_for_its_memory_is_told_as_oom(executor: LocalExecutor, job: Job) -> None:
    program = """
        eat = "b = [b'x' * (8 << 20) for _ in range(100)]; import time; time.sleep(1000)"
        sys.exit(subprocess.run([sys.executable, "-c", eat]).returncode != 0)
    """
    end = await executor.wait(await executor.start(job(program, within=limits(memory_mib=96))))
    assert end.cause is EndCause.OOM


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


async def test_a_job_past_its_time_ends_as_timeout(executor: LocalExecutor, job: Job) -> None:
    end = await executor.wait(await executor.start(job(FOREVER, within=limits(time_s=1))))
    assert end.cause is EndCause.TIMEOUT


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
    mounts = Path("/proc/self/mountinfo").read_text()
    ref = await executor.start(job("os.makedirs('/work/src/a/b', 0o000); " + FOREVER))
    await until(lambda: len(processes_of(ref)) >= 3)
    tree = processes_of(ref)
    await executor.stop(ref)
    assert not any(alive(pid) for pid in tree)
    await until(lambda: not any((work_dir / ".trash").iterdir()))
    assert [path.name for path in work_dir.iterdir() if not path.name.startswith(".")] == []
    assert groups_of(work_dir) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts


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


async def test_check_proves_that_builds_can_run(executor: LocalExecutor) -> None:
    findings = await executor.check()
    assert [finding.what for finding in findings if not finding.ok] == []
    assert len(findings) >= 4


def processes_of(ref: JobRef) -> list[int]:
    """The descendants of the job's supervisor."""
    found = list(_children(int(ref.where.split(":")[0])))
    for pid in found:
        found += _children(pid)
    return found


def runs(ref: JobRef) -> bool:
    """Whether the job's own program has begun: from here on all that lies below the supervisor dies with it."""
    return any(_words(pid)[-1:] == ["/opt/scalemesh"] and "python" in _words(pid)[0] for pid in processes_of(ref))


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return []


def _children(pid: int) -> Iterator[int]:
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        yield from map(int, path.read_text().split())


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


def groups_of(jobs: Path) -> list[Path]:
    """The control groups of the jobs in the folder, those of checks included, with any controller."""
    ours = f"scalemesh-{sha256(str(jobs).encode()).hexdigest()[:8]}-*"
    return [path for depth in ("", "*/", "*/*/", "*/*/*/") for path in Path("/sys/fs/cgroup").glob(depth + ours)]
