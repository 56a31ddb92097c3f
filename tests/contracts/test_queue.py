"""The queue: how many build at once, and in which order."""

import asyncio
from pathlib import Path

import pytest

from scalemesh.config import Builds
from scalemesh.errors import RefusedError, TooManyError
from scalemesh.services.deployer import Wanted
from scalemesh.services.scheduler import QUEUE_LOOK
from scalemesh.values import State
from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import begin


async def test_no_more_build_at_once_than_the_limit(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), Builds(total_memory_mib=65536, parallel=2)) as life:
        all_of_them = [await life.submit(url=f"https://git.example/a/site{n}") for n in range(8)]
        seen = 0
        for _ in all_of_them:
            async with asyncio.timeout(30):
                while not life.executor.jobs:
                    await asyncio.sleep(0.001)
            seen = max(seen, len(life.executor.jobs))
            await life.built(next(iter(life.executor.jobs))[0])
            await asyncio.sleep(0.01)
            seen = max(seen, len(life.executor.jobs))
        for deployment in all_of_them:
            await life.until(deployment, State.READY)
        assert seen == 2


async def test_a_newer_push_takes_the_place_of_the_one_that_waits(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), Builds(total_memory_mib=8192, parallel=1)) as life:
        running = await life.submit(url="https://git.example/z/busy")
        await life.executor.job(running)
        old = await life.submit(url="https://git.example/a/first")
        between = await life.submit(url="https://git.example/b/second")
        new = await life.submit(url="https://git.example/a/first")
        assert (await life.services.deployer.get(old)).state is State.SUPERSEDED
        await life.built(running)
        await life.executor.job(new)
        assert (between, 1) not in life.executor.jobs


async def test_production_comes_before_previews(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), Builds(total_memory_mib=8192, parallel=1)) as life:
        running = await life.submit(url="https://git.example/z/busy")
        await life.executor.job(running)
        preview = await life.submit(Wanted(branch="x", production=False))
        production = await life.submit(Wanted(production=True))
        await life.built(running)
        await life.executor.job(production)
        assert (preview, 1) not in life.executor.jobs


async def test_a_build_that_could_never_fit_is_refused_at_once(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), Builds(total_memory_mib=1024, memory_mib=2048)) as life:
        with pytest.raises(RefusedError, match="could never start"):
            await life.submit()


async def test_memory_limits_how_many_build(tmp_path: Path) -> None:
    builds = Builds(total_memory_mib=2048 + 512 + 1024, memory_mib=2048, parallel=8)
    async with begin(tmp_path, EndsWhenTold(), builds) as life:
        first = await life.submit(url="https://git.example/a/one")
        await life.executor.job(first)
        second = await life.submit(url="https://git.example/a/two")
        await life.built(first)
        await life.executor.job(second)
        assert (await life.services.deployer.get(first)).started_at != (
            await life.services.deployer.get(second)
        ).started_at


async def test_a_full_queue_says_so(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), Builds(total_memory_mib=8192, parallel=1, queue_length=2)) as life:
        await life.executor.job(await life.submit(url="https://git.example/a/one"))
        for number in (2, 3):
            await life.submit(url=f"https://git.example/a/n{number}")
        with pytest.raises(TooManyError):
            await life.submit(url="https://git.example/a/four")


async def test_a_project_at_its_limit_keeps_nobody_waiting_however_much_it_has_queued(tmp_path: Path) -> None:
    builds = Builds(total_memory_mib=65536, parallel=2, parallel_per_project=1)
    async with begin(tmp_path, EndsWhenTold(), builds) as life:
        running = await life.submit()
        await life.executor.job(running)
        for number in range(QUEUE_LOOK + 1):
            await life.submit(Wanted(branch=f"b{number}"))
        await life.executor.job(await life.submit(url="https://git.example/b/other"))
        assert len(life.executor.jobs) == 2
