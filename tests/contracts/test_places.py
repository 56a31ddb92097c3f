"""How many builds run at once counts jobs, not states: a job counts until it is cleared away."""

from pathlib import Path

from scalemesh.config import Builds
from scalemesh.services.builds import Attempt, Success
from scalemesh.values import State
from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import PAGE, URL, begin

LOOKS = 50  #: at the database: time enough for the scheduler to take what it may


async def test_a_job_that_outlives_its_build_keeps_its_place(tmp_path: Path) -> None:
    executor = EndsWhenTold()
    async with begin(tmp_path, executor, Builds(total_memory_mib=8192, parallel=1)) as life:
        first, second = await life.submit(url=f"{URL}-1"), await life.submit(url=f"{URL}-2")
        await executor.job(first)
        mine = Attempt(first, 1, "nonce")
        await life.services.builds.claim(mine, "nonce")
        file = await life.upload(mine, PAGE)
        await life.services.builds.finish(mine, Success(files=[file], framework="static", output_directory="."))
        await life.until(first, State.READY)
        life.services.scheduler.wake()
        for _ in range(LOOKS):
            assert (await life.services.deployer.get(second)).state is State.QUEUED
        await executor.end(first)
        await life.until(second, State.BUILDING)
