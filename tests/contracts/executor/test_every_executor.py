"""What every executor does, wherever it runs jobs."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scalemesh.ports import Executor
from scalemesh.values import DeploymentId, EndCause, JobRef
from tests.contracts.executor.places import KINDS, Place, has_ended, let_go, opener
from tests.contracts.executor.processes import alive, eventually
from tests.contracts.executor.stand_in import MIB, TOLD, limits

FOREVER = "time.sleep(1000)"
STUBBORN = """
    import signal
    for _ in range(5):
        subprocess.Popen(["setsid", "sh", "-c", "trap '' TERM INT HUP; while :; do sleep 1; done"])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)
"""
BOMB = """
    while True:
        try:
            os.fork() or time.sleep(1000)
        except OSError:
            time.sleep(0.01)
"""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with opener(request.param)(tmp_path) as opened:
        yield opened


@pytest.fixture
async def executor(place: Place) -> AsyncIterator[Executor]:
    async with place.open() as opened:
        yield opened
        for ref in await opened.running():
            await opened.stop(ref)


async def test_a_job_that_ends_well_ends_ok(executor: Executor, place: Place) -> None:
    end = await executor.wait(await executor.start(place.job("sys.exit(0)")))
    assert (end.cause, end.exit_code) == (EndCause.OK, 0)


async def test_a_failed_job_tells_its_exit_code_and_last_words(executor: Executor, place: Place) -> None:
    end = await executor.wait(await executor.start(place.job("print('no good', flush=True); sys.exit(7)")))
    assert (end.cause, end.exit_code) == (EndCause.FAILED, 7)
    assert end.detail == "no good"


async def test_starting_twice_is_one_job(executor: Executor, place: Place) -> None:
    once = place.job(FOREVER)
    refs = await asyncio.gather(*(executor.start(once) for _ in range(3)))
    assert len(set(refs)) == 1
    assert list(await executor.running()) == [refs[0]]


async def test_a_job_that_ended_is_not_started_again(executor: Executor, place: Place) -> None:
    ref = await executor.start(place.job("sys.exit(5)"))
    first = await executor.wait(ref)
    again = await executor.start(place.job("sys.exit(5)"))
    assert again == ref
    assert await executor.wait(again) == first


async def test_a_newer_attempt_ends_the_older(executor: Executor, place: Place) -> None:
    old = await executor.start(place.job(FOREVER))
    await eventually(lambda: begun(place, old))
    before = await place.processes(old)
    new = await executor.start(place.job("sys.exit(0)", attempt=2))
    assert (await executor.wait(new)).cause is EndCause.OK
    assert (await executor.wait(old)).cause is EndCause.LOST
    assert not any(alive(pid) for pid in before)
    await executor.stop(old)  # not its job any more: nothing happens
    assert (await executor.wait(new)).cause is EndCause.OK


async def test_a_job_outlives_the_daemon_and_is_found_again(place: Place) -> None:
    async with place.open() as executor:
        ref = await executor.start(place.job(TOLD))
    async with place.open() as successor:
        assert list(await successor.running()) == [ref]
        await let_go(place, ref)
        assert (await successor.wait(ref)).exit_code == 4
        assert (await successor.wait(ref)).exit_code == 4
        await successor.stop(ref)
        assert list(await successor.running()) == []


async def test_a_job_that_ended_while_nobody_looked_tells_its_end(place: Place) -> None:
    async with place.open() as executor:
        ref = await executor.start(place.job(TOLD))
        await eventually(lambda: begun(place, ref))
    await let_go(place, ref)
    await eventually(lambda: has_ended(place, ref))
    async with place.open() as successor:
        assert (await successor.wait(ref)).exit_code == 4
        await successor.stop(ref)


async def test_cancelling_a_wait_leaves_the_job_alone(executor: Executor, place: Place) -> None:
    ref = await executor.start(place.job(FOREVER))
    await eventually(lambda: begun(place, ref))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await executor.wait(ref)
    assert await place.processes(ref)


async def test_an_unknown_job_was_lost(executor: Executor, place: Place) -> None:
    ref = await executor.start(place.job(FOREVER))
    unknown = JobRef(deployment=DeploymentId("dpl_none"), attempt=1, where=ref.where)
    await executor.stop(unknown)
    assert (await executor.wait(unknown)).cause is EndCause.LOST
    assert list(await executor.running()) == [ref]


async def test_a_job_that_somebody_else_ended_was_lost(executor: Executor, place: Place) -> None:
    ref = await executor.start(place.job("subprocess.Popen(['setsid', 'sleep', '1000']); " + FOREVER))
    await eventually(lambda: begun(place, ref, processes=2))
    tree = await place.processes(ref)
    await place.vanish(ref)
    assert (await executor.wait(ref)).cause is EndCause.LOST
    await executor.stop(ref)
    await eventually(lambda: gone(tree))


async def test_stop_ends_all_of_one_job_and_nothing_else(executor: Executor, place: Place) -> None:
    ref, other = await asyncio.gather(
        executor.start(place.job(STUBBORN)), executor.start(place.job(FOREVER, deployment="dpl_two"))
    )
    await eventually(lambda: begun(place, other))
    others, took_s = await place.processes(other), [math.inf]
    for attempt in (1, 2, 3):  # the machine itself may be busy for a moment
        if min(took_s) > place.stop_s:
            ref = await executor.start(place.job(STUBBORN, attempt=attempt))
            took_s.append(await stopped(executor, place, ref))
            assert list(await executor.running()) == [other]
            assert all(alive(pid) for pid in others)
    assert min(took_s) <= place.stop_s
    await executor.stop(ref)


async def stopped(executor: Executor, place: Place, ref: JobRef) -> float:
    """How many seconds it took to stop a stubborn job with all its processes."""
    await eventually(lambda: begun(place, ref, processes=6))
    tree, began = await place.processes(ref), time.monotonic()
    async with asyncio.timeout(60):
        await executor.stop(ref)
    assert not any(alive(pid) for pid in tree)
    return time.monotonic() - began


async def test_a_wait_ends_when_its_job_is_stopped(executor: Executor, place: Place) -> None:
    ref = await executor.start(place.job(FOREVER))
    waiting = asyncio.create_task(executor.wait(ref))
    await eventually(lambda: begun(place, ref))
    await executor.stop(ref)
    async with asyncio.timeout(20):
        assert (await waiting).cause is not EndCause.OK


async def test_nothing_is_left_of_jobs_that_were_stopped(executor: Executor, place: Place) -> None:
    ended_well = await executor.start(place.job("sys.exit(0)"))
    cut_off = await executor.start(place.job(FOREVER, deployment="dpl_two"))
    await executor.wait(ended_well)
    await asyncio.gather(executor.stop(ended_well), executor.stop(cut_off))
    await eventually(lambda: empty(place))


async def test_a_job_that_eats_memory_ends_as_oom(executor: Executor, place: Place) -> None:
    needs(place, "memory")
    program = "b = [b'x' * (8 << 20) for _ in range(100)]; time.sleep(1000)"
    end = await executor.wait(await executor.start(place.job(program, within=limits(memory_mib=96))))
    assert end.cause is EndCause.OOM
    assert end.peak_memory_bytes is None or end.peak_memory_bytes > 48 * MIB


async def test_a_child_that_was_killed_for_its_memory_is_told_as_oom(executor: Executor, place: Place) -> None:
    needs(place, "memory")
    program = """
        eat = "b = [b'x' * (8 << 20) for _ in range(100)]; import time; time.sleep(1000)"
        sys.exit(subprocess.run([sys.executable, "-c", eat]).returncode != 0)
    """
    end = await executor.wait(await executor.start(place.job(program, within=limits(memory_mib=96))))
    assert end.cause is EndCause.OOM


async def test_a_fork_bomb_stays_within_its_limit_and_can_be_stopped(executor: Executor, place: Place) -> None:
    needs(place, "pids")
    ref = await executor.start(place.job(BOMB, within=limits(pids=40)))
    seen: set[int] = set()

    async def full() -> bool:
        seen.update(await place.processes(ref))
        return len(seen) >= 30

    await eventually(full)
    assert len([pid for pid in seen if alive(pid)]) <= 45  # an init and the like are not all counted
    await executor.stop(ref)
    assert not any(alive(pid) for pid in seen)


async def test_a_job_past_its_time_ends_as_timeout(executor: Executor, place: Place) -> None:
    ref = await executor.start(place.job(STUBBORN, within=limits(time_s=2)))
    assert (await executor.wait(ref)).cause is EndCause.TIMEOUT


async def test_the_time_of_a_job_is_up_also_for_a_successor(place: Place) -> None:
    async with place.open() as executor:
        ref = await executor.start(place.job(FOREVER, within=limits(time_s=3)))
    async with place.open() as successor:
        assert (await successor.wait(ref)).cause is EndCause.TIMEOUT
        await successor.stop(ref)


async def test_a_flood_of_output_ends_well_and_is_told_in_short(executor: Executor, place: Place) -> None:
    program = """
        for _ in range(500):
            sys.stdout.write("flood " * 20_000 + "\\n")
        sys.stdout.flush()
        sys.exit(3)
    """
    end = await executor.wait(await executor.start(place.job(program)))
    assert (end.cause, end.exit_code) == (EndCause.FAILED, 3)
    assert len(end.detail) <= 8000


async def test_check_raises_nothing_and_tells_something(executor: Executor) -> None:
    assert await executor.check()


def needs(place: Place, limit: str) -> None:
    if limit not in place.holds:
        pytest.skip(f"this place does not hold jobs to a limit of {limit}")


async def begun(place: Place, ref: JobRef, processes: int = 1) -> bool:
    return len(await place.processes(ref)) >= processes


async def gone(pids: list[int]) -> bool:
    return not any(alive(pid) for pid in pids)


async def empty(place: Place) -> bool:
    return await place.leftovers() == []
