"""What the services do while the store is away: builders and people are told to come again, and nothing fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from scalemesh.errors import UnreachableError
from scalemesh.ports import Store
from scalemesh.services.builds import Attempt, Success
from scalemesh.services.cached_store import open_near
from scalemesh.values import State
from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import PAGE, Life, begin
from tests.rigs.far_store import Door, FarConfig, FarStore


@asynccontextmanager
async def near_store(folder: Path) -> AsyncIterator[Store]:
    async with (
        FarStore.open(FarConfig(path=folder / "far")) as far,
        open_near(far, folder / "cache", 1 << 30, is_keeper=True) as near,
    ):
        yield near


@pytest_asyncio.fixture
async def life(tmp_path: Path) -> AsyncIterator[Life]:
    async with begin(tmp_path, EndsWhenTold(), open_store=near_store) as begun:
        yield begun


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path / "far")


async def claimed(life: Life) -> Attempt:
    """A build under way, by the one who claimed it."""
    deployment = await life.submit()
    await life.executor.job(deployment, 1)
    attempt = Attempt(deployment, 1, "nonce")
    await life.services.builds.claim(attempt, "nonce")
    return attempt


async def test_a_builder_is_told_to_come_again_and_is_taken_once_the_store_is_back(life: Life, door: Door) -> None:
    attempt = await claimed(life)
    file = await life.upload(attempt, PAGE)
    success = Success(files=[file], framework="static", output_directory=".")
    door.shut()
    with pytest.raises(UnreachableError):
        await life.upload(attempt, b"<h1>more</h1>")
    with pytest.raises(UnreachableError):
        await life.services.builds.finish(attempt, success)
    await life.services.builds.heartbeat(attempt, None)  # which needs no store: so a builder goes on waiting
    door.open()
    assert await life.services.builds.finish(attempt, success) is State.PUBLISHING
    async with asyncio.timeout(30):
        await life.until(attempt.deployment, State.READY)


async def test_what_was_accepted_waits_to_be_published_and_says_so(life: Life, door: Door) -> None:
    first = await life.ready(b"<h1>old</h1>")
    attempt = await claimed(life)
    file = await life.upload(attempt, PAGE)
    door.hold()  # until the door is shut nothing can be read, so nothing is published
    await life.services.builds.finish(attempt, Success(files=[file], framework="static", output_directory="."))
    door.shut()
    door.let_go()
    async with asyncio.timeout(30):
        while not any("Waiting: the far store" in line for line in await life.log(attempt.deployment)):
            await asyncio.sleep(0.01)
        assert life.live() == first
        door.open()
        await life.until(attempt.deployment, State.READY)
        assert await life.last_words(attempt.deployment) == "Ready"


async def test_a_deployment_comes_to_its_end_all_the_same(life: Life, door: Door) -> None:
    attempt = await claimed(life)
    await life.upload(attempt, PAGE)
    door.shut()
    await life.services.deployer.cancel(attempt.deployment)
    async with asyncio.timeout(30):
        assert await life.last_words(attempt.deployment) == "Canceled by hand"
        while not (await life.services.deployer.get(attempt.deployment)).is_cleaned:  # who follows is told by it
            await asyncio.sleep(0.01)


async def test_a_store_that_goes_right_after_a_publish_does_not_keep_its_log_open(life: Life, door: Door) -> None:
    door.shut("clear")
    deployment = await life.submit()
    async with asyncio.timeout(30):
        await life.built(deployment)
        assert await life.last_words(deployment) == "Ready"
        assert life.live() == deployment
