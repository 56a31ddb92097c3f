"""A place of jobs in the engine of this machine."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from plugins.executors.docker import DockerExecutor
from scalemesh.values import BuildEnd
from tests.contracts.executor.places.docker import DockerPlace, open_place
from tests.rigs.docker import docker

Run = Callable[..., Awaitable[tuple[BuildEnd, str]]]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[DockerPlace]:
    async with open_place(tmp_path) as opened:
        yield opened


@pytest.fixture
async def executor(place: DockerPlace) -> AsyncIterator[DockerExecutor]:
    async with place.open() as opened:
        yield opened


@pytest.fixture
def run(executor: DockerExecutor, place: DockerPlace) -> Run:
    """Runs a program as a job to its end: how it ended, and all that it printed."""

    async def to_its_end(program: str, **words: object) -> tuple[BuildEnd, str]:
        ref = await executor.start(place.job(program, **words))  # type: ignore[arg-type]
        end = await executor.wait(ref)
        said = await asyncio.to_thread(docker, "logs", ref.where)
        await executor.stop(ref)
        return end, said

    return to_its_end
