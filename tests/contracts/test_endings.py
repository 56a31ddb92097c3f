"""Ends of deployments while something else fails: a store, a disk, an executor."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from scalemesh.errors import RefusedError
from scalemesh.ports import Store
from scalemesh.values import DeploymentId, JobRef, State
from tests.contracts.executors import EndsWhenTold, Refuses
from tests.contracts.life import PAGE, Life, begin
from tests.rigs.far_store import FarConfig, FarStore

FULL = "CREATE TRIGGER full BEFORE UPDATE OF cleaned ON deployment BEGIN SELECT RAISE(ABORT, 'full'); END"


class RefusesToStop(EndsWhenTold):
    """Says no to whoever wants a job stopped."""

    async def stop(self, ref: JobRef) -> None:
        raise RefusedError("no right to remove containers")


class NeverStops(EndsWhenTold):
    """Lets whoever wants a job stopped wait for ever."""

    async def stop(self, ref: JobRef) -> None:
        await asyncio.Event().wait()


def store_that(
    does: Callable[[DeploymentId], Awaitable[None]],
) -> Callable[[Path], AbstractAsyncContextManager[Store]]:
    """One that does that when it is to forget the uploads of a deployment, or to tell of any."""

    class Steered(FarStore):
        async def clear(self, deployment: DeploymentId) -> None:
            await does(deployment)
            await super().clear(deployment)

        async def staged(self) -> list[DeploymentId]:
            await does(DeploymentId(""))
            return list(await super().staged())

    @asynccontextmanager
    async def opened(folder: Path) -> AsyncIterator[Store]:
        async with Steered.open(FarConfig(path=folder / "far")) as store:
            yield store

    return opened


async def never(_deployment: DeploymentId) -> None:
    await asyncio.Event().wait()


async def run(life: Life, sql: str) -> None:
    async with life.services.ledger.database.transaction() as tx:
        await tx.run(sql)


async def until_cleaned(life: Life, deployment: DeploymentId) -> None:
    async with asyncio.timeout(10):
        while not (await life.services.deployer.get(deployment)).is_cleaned:
            await asyncio.sleep(0.002)


async def failed(life: Life, name: str) -> DeploymentId:
    deployment = await life.submit(url=f"https://git.example/a/{name}")
    await life.until(deployment, State.FAILED)
    await until_cleaned(life, deployment)
    return deployment


async def test_a_deletion_while_the_start_cleans_up_ends_neither_that_nor_the_daemon(tmp_path: Path) -> None:
    deleted = asyncio.Event()

    async def delete(deployment: DeploymentId) -> None:
        if deployment == first:
            await run(life, f"DELETE FROM deployment WHERE id = '{first}'")
            deleted.set()

    async with begin(tmp_path, Refuses()) as life:
        first, second = await failed(life, "one"), await failed(life, "two")
        await run(life, "UPDATE deployment SET cleaned = 0")
    async with begin(tmp_path, EndsWhenTold(), open_store=store_that(delete)) as life:
        await until_cleaned(life, second)
        assert deleted.is_set()
        await life.ready(PAGE)


async def test_an_end_that_could_not_be_written_down_is_tried_again_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalemesh.services.scheduler.CLEAN_EVERY_S", 0.05)
    async with begin(tmp_path, Refuses()) as life:
        await run(life, FULL)
        deployment = await life.submit()
        await life.until(deployment, State.FAILED)
        await life.last_words(deployment)
        assert not (await life.services.deployer.get(deployment)).is_cleaned
        await run(life, "DROP TRIGGER full")
        await until_cleaned(life, deployment)


async def test_a_store_that_never_answers_holds_no_cancel_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalemesh.services.endings.DROP_S", 0.05)
    async with begin(tmp_path, EndsWhenTold(), open_store=store_that(never)) as life:
        deployment = await life.submit()
        async with asyncio.timeout(10):
            assert (await life.services.deployer.cancel(deployment)).is_cleaned


async def test_a_store_that_never_answers_holds_no_preview_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalemesh.services.upkeep.PREVIEW_S", 0.05)
    async with begin(tmp_path, EndsWhenTold(), open_store=store_that(never)) as life, asyncio.timeout(10):
        parts = {part.name: part.error for part in await life.services.upkeep.janitor.preview()}
        assert "the store has not answered" in parts.pop("uploads")
        assert set(parts.values()) == {""}


@pytest.mark.parametrize("executor", [RefusesToStop, NeverStops])
async def test_a_job_that_cannot_be_stopped_holds_no_cancel_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: type[EndsWhenTold]
) -> None:
    monkeypatch.setattr("scalemesh.services.deployer.STOP_S", 0.05)
    async with begin(tmp_path, executor()) as life:
        deployment = await life.submit()
        await life.executor.job(deployment)
        async with asyncio.timeout(10):
            assert (await life.services.deployer.cancel(deployment)).is_cleaned
        assert await life.last_words(deployment) == "Canceled by hand"
