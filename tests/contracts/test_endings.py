"""Ends of deployments while something else fails: a store, a disk, an executor."""

import asyncio
import shutil
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path

import pytest

from scalemesh.errors import GoneError, RefusedError
from scalemesh.ports import Store
from scalemesh.services.builds import Attempt, Success
from scalemesh.services.cached_store import open_near
from scalemesh.values import Blob, DeploymentId, Digest, JobRef, Reason, State
from tests.contracts.executors import EndsWhenTold, Refuses
from tests.contracts.life import PAGE, Life, begin
from tests.rigs.far_store import Door, FarConfig, FarStore

FULL = "CREATE TRIGGER full BEFORE UPDATE OF cleaned ON deployment BEGIN SELECT RAISE(ABORT, 'full'); END"


class RefusesToStop(EndsWhenTold):
    """Says no to whoever wants a job stopped."""

    async def stop(self, ref: JobRef) -> None:
        raise RefusedError("no right to remove containers")


class NeverStops(EndsWhenTold):
    """Lets whoever wants a job stopped wait for ever."""

    async def stop(self, ref: JobRef) -> None:
        await asyncio.Event().wait()


Hook = Callable[[], Awaitable[None]]


class Steered(FarStore):
    """Does something more before what its methods do, or after."""

    does: Mapping[str, Hook]  #: by method

    async def put(self, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        await self._do("put")
        await super().put(blob, chunks)

    async def read(self, sha256: Digest, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        await self._do("read")
        async with aclosing(super().read(sha256, start, stop)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def received(self, deployment: DeploymentId, attempt: int) -> dict[Digest, int]:
        found = await super().received(deployment, attempt)
        await self._do("received")
        return found

    async def adopt(self, deployment: DeploymentId, attempt: int, digests: Collection[Digest]) -> None:
        await self._do("adopt")
        await super().adopt(deployment, attempt, digests)

    async def clear(self, deployment: DeploymentId) -> None:
        await self._do("clear")
        await super().clear(deployment)

    async def staged(self) -> Sequence[DeploymentId]:
        await self._do("staged")
        return await super().staged()

    async def _do(self, method: str) -> None:
        if method in self.does:
            await self.does[method]()


def store_that(**does: Hook) -> Callable[[Path], AbstractAsyncContextManager[Store]]:
    """A store that does these, told by the names of its methods."""

    @asynccontextmanager
    async def opened(folder: Path) -> AsyncIterator[Store]:
        async with Steered.open(FarConfig(path=folder / "far")) as store:
            store.does = does
            yield store

    return opened


async def never() -> None:
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

    async def delete() -> None:
        await run(life, f"DELETE FROM deployment WHERE id = '{first}'")
        deleted.set()

    async with begin(tmp_path, Refuses()) as life:
        first, second = await failed(life, "one"), await failed(life, "two")
        await run(life, "UPDATE deployment SET cleaned = 0")
    async with begin(tmp_path, EndsWhenTold(), open_store=store_that(clear=delete)) as life:
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
    async with begin(tmp_path, EndsWhenTold(), open_store=store_that(clear=never)) as life:
        deployment = await life.submit()
        async with asyncio.timeout(10):
            assert (await life.services.deployer.cancel(deployment)).is_cleaned


async def test_a_store_that_never_answers_holds_no_preview_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalemesh.services.upkeep.PREVIEW_S", 0.05)
    async with begin(tmp_path, EndsWhenTold(), open_store=store_that(staged=never)) as life, asyncio.timeout(10):
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


async def sent(life: Life) -> tuple[Attempt, Success]:
    """A build that has sent its page, and how it is about to end."""
    deployment = await life.submit()
    await life.executor.job(deployment)
    attempt = Attempt(deployment, 1, "nonce")
    await life.services.builds.claim(attempt, "nonce")
    file = await life.upload(attempt, PAGE)
    return attempt, Success(files=[file], framework="static", output_directory=".")


async def holders(life: Life) -> int:
    row = await life.services.ledger.database.one("SELECT count(*) AS n FROM holder WHERE deployment_id IS NOT NULL")
    return int(row["n"]) if row else 0


async def test_one_that_is_canceled_while_it_is_published_holds_nothing(tmp_path: Path) -> None:
    held = asyncio.Event()

    async def cancel() -> None:
        await life.services.deployer.cancel(attempt.deployment)

    async def hold() -> None:
        assert await holders(life) == 1  # that of one that has let go of it before
        held.set()

    async with begin(tmp_path, EndsWhenTold(), open_store=store_that(read=cancel, adopt=hold)) as life:
        attempt, success = await sent(life)
        await life.services.builds.finish(attempt, success)
        async with asyncio.timeout(10):
            await held.wait()
            while await holders(life):
                await asyncio.sleep(0.002)


async def test_one_that_is_canceled_while_its_result_is_taken_holds_nothing(tmp_path: Path) -> None:
    finishing = asyncio.Event()

    async def cancel() -> None:
        if finishing.is_set():
            await life.services.deployer.cancel(attempt.deployment)

    async with begin(tmp_path, EndsWhenTold(), open_store=store_that(received=cancel)) as life:
        attempt, success = await sent(life)
        finishing.set()
        with pytest.raises(GoneError):
            await life.services.builds.finish(attempt, success)
        assert await holders(life) == 0


async def test_what_the_store_has_spoiled_fails_a_publish_and_says_what_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalemesh.services.publisher.RETRY_S", (0.01,))
    door = Door(tmp_path / "far")

    @asynccontextmanager
    async def near(folder: Path) -> AsyncIterator[Store]:
        async with (
            FarStore.open(FarConfig(path=folder / "far")) as far,
            open_near(far, folder / "cache", 1 << 30, is_keeper=True) as store,
        ):
            yield store

    async with begin(tmp_path, EndsWhenTold(), open_store=near) as life:
        attempt, success = await sent(life)
        door.shut("adopt")
        await life.services.builds.finish(attempt, success)
    door.open()
    door.spoil()
    shutil.rmtree(tmp_path / "cache")
    async with begin(tmp_path, EndsWhenTold(), open_store=near) as life, asyncio.timeout(20):
        found = await life.until(attempt.deployment, State.FAILED)
        assert found.reason is Reason.INTERNAL
        assert "scalemesh store verify --mend" in found.message
