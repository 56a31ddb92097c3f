"""What nobody holds is collected, and nothing else: whatever happens at the same time, and wherever it was cut off."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterable, AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from plugins.stores.disk import DiskConfig, DiskStore
from scalemesh.db.blobs import Amount
from scalemesh.errors import ConflictError, NotFoundError, UnreachableError
from scalemesh.ports import BlobStore
from scalemesh.services import manifests
from scalemesh.services.builds import Attempt, Success
from scalemesh.services.collector import Collector
from scalemesh.services.deployer import Wanted
from scalemesh.services.holdings import blob_of
from scalemesh.services.listings import Listings, OutputFile, whole
from scalemesh.values import Blob, DeploymentId, Digest, State
from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import PAGE, Life, begin

AT_ONCE: Final = timedelta(0)
ROOT: Final = Path(__file__).parents[2]
HOUR: Final = timedelta(hours=1)
LATER: Final = timedelta(hours=2)


def collector_of(
    life: Life, store: BlobStore | None = None, *, grace: timedelta = HOUR, later: timedelta = AT_ONCE
) -> Collector:
    """One over *life*, *later* from now."""
    database, holdings = life.services.ledger.database, life.services.storage.holdings
    return Collector(database, store or life.store, holdings, grace=grace, now=lambda: datetime.now(UTC) + later)


async def collect(life: Life) -> Amount:
    """Two runs with the grace period between them."""
    await collector_of(life).run()
    return await collector_of(life, later=LATER).run()


def stored(folder: Path) -> int:
    return sum(1 for _ in (folder / "store" / "blobs").glob("*/*"))


async def files_of(life: Life, deployment: DeploymentId) -> list[Digest]:
    found = await life.services.deployer.get(deployment)
    assert found.listing is not None
    return [file.sha256 for file in await Listings(life.store).read(found.listing)]


async def test_what_is_live_stays_however_often_it_is_collected(life: Life) -> None:
    deployment = await life.ready(PAGE)
    await life.services.storage.encoder.encode_waiting()
    for _ in range(3):
        assert await collect(life) == Amount()
    for digest in await files_of(life, deployment):
        assert await whole(life.store, digest) == PAGE


async def test_a_deleted_deployments_files_go_and_those_it_shared_stay(life: Life) -> None:
    first = await life.ready(b"only here")
    second = await life.ready(PAGE)
    third = await life.ready(PAGE)
    (alone,), (shared,) = await files_of(life, first), await files_of(life, second)
    for deployment in (first, second):
        await life.services.deployer.delete(deployment)
    assert (await collect(life)).count >= 3, "a page, a list and a manifest at least"
    with pytest.raises(NotFoundError):
        await whole(life.store, alone)
    assert await whole(life.store, shared) == PAGE
    assert life.live() == third


async def test_all_of_a_deleted_project_goes(life: Life, tmp_path: Path) -> None:
    for page in (b"1", b"2"):
        await life.ready(page)
    await life.services.storage.encoder.encode_waiting()
    assert stored(tmp_path)
    await life.services.deployer.delete_project(await life.project())
    await collect(life)
    assert stored(tmp_path) == 0
    assert await life.services.ledger.database.all("SELECT * FROM blob") == []


async def test_nothing_goes_within_the_grace_period(life: Life, tmp_path: Path) -> None:
    first = await life.ready(b"1")
    await life.ready(b"2")
    await life.services.deployer.delete(first)
    before = stored(tmp_path)
    for _ in range(2):
        assert await collector_of(life).run() == Amount()
    assert stored(tmp_path) == before
    assert (await collector_of(life).preview()).count >= 3


async def test_what_a_failed_build_had_uploaded_or_kept_goes(life: Life, tmp_path: Path) -> None:
    first = await life.ready(b"old")
    second = await life.submit()
    await life.executor.job(second)
    mine = Attempt(second, 1, "nonce")
    await life.services.builds.claim(mine, "nonce")
    (old,) = await files_of(life, first)
    assert list(await life.services.builds.missing(mine, [Blob(sha256=old, size_bytes=3)])) == []
    await life.services.deployer.cancel(second)
    third = await life.ready(b"new")
    await life.services.deployer.delete(first)
    await collect(life)
    with pytest.raises(NotFoundError):
        await whole(life.store, old)
    assert life.live() == third


async def test_what_a_build_was_told_is_there_stays_for_it(life: Life) -> None:
    """The deployment that brought it is deleted and everything is collected between the question and the finish."""
    first = await life.ready(PAGE)
    await life.ready(b"other")
    third = await life.submit()
    await life.executor.job(third)
    mine = Attempt(third, 1, "nonce")
    await life.services.builds.claim(mine, "nonce")
    (page,) = await files_of(life, first)
    blob = Blob(sha256=page, size_bytes=len(PAGE))
    assert list(await life.services.builds.missing(mine, [blob])) == []
    await life.services.deployer.delete(first)
    await collect(life)
    file = OutputFile(path="index.html", sha256=page, size_bytes=len(PAGE))
    await life.services.builds.finish(mine, Success(files=[file], framework="static", output_directory="."))
    await life.until(third, State.READY)
    assert await whole(life.store, page) == PAGE


async def test_a_file_that_was_collected_must_be_sent_again(life: Life) -> None:
    first = await life.ready(PAGE)
    await life.ready(b"other")
    (page,) = await files_of(life, first)
    await life.services.deployer.delete(first)
    await collect(life)
    third = await life.submit()
    await life.executor.job(third)
    mine = Attempt(third, 1, "nonce")
    await life.services.builds.claim(mine, "nonce")
    assert list(await life.services.builds.missing(mine, [Blob(sha256=page, size_bytes=len(PAGE))])) == [page]


class Away(DiskStore):
    """Does not answer, until told to."""

    is_away = True

    async def delete(self, digests: Collection[Digest]) -> None:
        if self.is_away:
            raise UnreachableError("away")
        await super().delete(digests)


async def test_a_store_that_is_away_ends_a_run_and_the_next_goes_on(life: Life, tmp_path: Path) -> None:
    first = await life.ready(b"1")
    await life.ready(b"2")
    await life.services.deployer.delete(first)
    async with Away.open(DiskConfig(path=tmp_path / "store")) as store:
        collector = collector_of(life, store, grace=AT_ONCE)
        with pytest.raises(UnreachableError):
            await collector.run()
        store.is_away = False
        assert (await collector.run()).count >= 3


async def test_whoever_needs_what_is_being_removed_waits_and_brings_it_again(life: Life, tmp_path: Path) -> None:
    first = await life.ready(PAGE)
    await life.ready(b"other")
    await life.services.deployer.delete(first)
    async with Away.open(DiskConfig(path=tmp_path / "store")) as store:
        collector = collector_of(life, store, grace=AT_ONCE)
        with pytest.raises(UnreachableError):
            await collector.run()
        again = await life.submit()
        built = asyncio.create_task(life.built(again, PAGE))
        await asyncio.sleep(0.1)  # long enough to do it wrongly
        assert (await life.services.deployer.get(again)).state is State.BUILDING
        store.is_away = False
        await collector.run()
        assert await built is State.PUBLISHING
        await life.last_words(again)
    (page,) = await files_of(life, again)
    assert await whole(life.store, page) == PAGE


async def test_what_was_begun_is_ended_as_soon_as_the_store_is_back(life: Life, tmp_path: Path) -> None:
    """Nobody has to wait for the next run: somebody may be waiting for just these bytes."""
    first = await life.ready(PAGE)
    await life.ready(b"other")
    await life.services.deployer.delete(first)
    async with Away.open(DiskConfig(path=tmp_path / "store")) as store:
        collector = collector_of(life, store, grace=AT_ONCE)
        with pytest.raises(UnreachableError):
            await collector.run()
        serving = asyncio.create_task(collector.serve())
        built = asyncio.create_task(life.built(await life.submit(), PAGE))
        store.is_away = False
        assert await built is State.PUBLISHING
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def test_two_that_remove_at_once_do_not_undo_what_comes_between(life: Life, tmp_path: Path) -> None:
    """The second must not delete, by what it saw before, bytes that were brought again after the first."""
    first = await life.ready(PAGE)
    await life.ready(b"other")
    await life.services.deployer.delete(first)
    async with Dawdles.open(DiskConfig(path=tmp_path / "store")) as store:
        collector = collector_of(life, store, grace=AT_ONCE)
        again = await life.submit()
        await asyncio.gather(collector.run(), collector.end_removals(), collector.run(), life.built(again, PAGE))
        await life.last_words(again)
        await all_there(life, again)


class Dawdles(DiskStore):
    """Lets others go first, now and then, before and after whatever it does."""

    dice = random.Random(0)

    async def put(self, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        await self._dawdle()
        await super().put(blob, chunks)
        await self._dawdle()

    async def adopt(self, deployment: DeploymentId, attempt: int, digests: Collection[Digest]) -> None:
        await self._dawdle()
        await super().adopt(deployment, attempt, digests)
        await self._dawdle()

    async def delete(self, digests: Collection[Digest]) -> None:
        await self._dawdle()
        await super().delete(digests)
        await self._dawdle()

    async def _dawdle(self) -> None:
        await asyncio.sleep(self.dice.choice([0, 0, 0.001, 0.005]))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(4))
async def test_nothing_that_a_deployment_needs_is_lost_in_any_order_of_events(tmp_path: Path, seed: int) -> None:
    """Builds with few and common contents, deletions and a collector without patience, all at the same time."""
    dice = Dawdles.dice = random.Random(seed)
    contents = [f"page {number}".encode() for number in range(5)]

    async with begin(
        tmp_path, EndsWhenTold(), open_store=lambda folder: Dawdles.open(DiskConfig(path=folder / "store"))
    ) as life:
        await life.project()

        async def deploy_and_delete(branch: str) -> None:
            kept: list[DeploymentId] = []
            for _ in range(12):
                kept.append(await build_of_few(life, branch, dice.sample(contents, 2)))
                if len(kept) > 2:
                    with suppress(ConflictError):  # it is live
                        await life.services.deployer.delete(kept.pop(dice.randrange(len(kept) - 1)))
                for deployment in kept:
                    await all_there(life, deployment)

        async with collecting(life):
            await asyncio.gather(*(deploy_and_delete(branch) for branch in ("main", "one", "two")))
            await life.services.storage.encoder.encode_waiting()
        await collector_of(life, grace=AT_ONCE).run()
        for deployment in await life.services.deployer.page(None, before=None, limit=100):
            await all_there(life, deployment.id)
        rows = await life.services.ledger.database.all("SELECT sha256 FROM blob")
        on_disk = {path.name for path in (tmp_path / "store" / "blobs").glob("*/*")}
        assert on_disk == {row["sha256"] for row in rows}, "nothing is left over, nothing is missing"


@asynccontextmanager
async def collecting(life: Life) -> AsyncIterator[None]:
    """Without a pause, as long as the block runs."""

    async def collect_for_ever() -> None:
        while True:
            await collector_of(life, grace=AT_ONCE).run()

    task = asyncio.create_task(collect_for_ever())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def build_of_few(life: Life, branch: str, pages: list[bytes]) -> DeploymentId:
    """A deployment whose builder sends only what it is told is missing."""
    deployment = await life.submit(Wanted(branch=branch))
    await life.executor.job(deployment)
    mine = Attempt(deployment, 1, "nonce")
    await life.services.builds.claim(mine, "nonce")
    files = [output_file(number, page) for number, page in enumerate(pages)]
    asked = [Blob(sha256=file.sha256, size_bytes=file.size_bytes) for file in files]
    missing = await life.services.builds.missing(mine, asked)
    for file, page in zip(files, pages, strict=True):
        if file.sha256 in missing:
            await life.upload(mine, page)
    await life.services.builds.finish(mine, Success(files=files, framework="static", output_directory="."))
    await life.executor.end(deployment, 1)
    await life.until(deployment, State.READY)
    return deployment


def output_file(number: int, page: bytes) -> OutputFile:
    blob = blob_of(page)
    name = f"{number}.html" if number else "index.html"
    return OutputFile(path=name, sha256=blob.sha256, size_bytes=blob.size_bytes)


async def all_there(life: Life, deployment: DeploymentId) -> None:
    found = await life.services.deployer.get(deployment)
    assert found.manifest is not None
    manifest = manifests.decode(await whole(life.store, found.manifest))
    for entry in manifest.entries.values():
        assert len(await whole(life.store, entry.sha256)) == entry.size_bytes


@pytest.mark.parametrize("point", ["collect.after_doom", "collect.after_delete"])
async def test_a_collector_killed_midway_goes_on_where_it_was(tmp_path: Path, point: str) -> None:
    async with begin(tmp_path, EndsWhenTold()) as life:
        first = await life.ready(PAGE)
        second = await life.ready(b"other")
        await life.services.deployer.delete(first)
    assert await run_until_killed(tmp_path, point) == -signal.SIGKILL
    async with begin(tmp_path, EndsWhenTold()) as life:
        third = await life.submit()
        built = asyncio.create_task(life.built(third, PAGE))
        assert (await collector_of(life).end_removals()).count >= 3
        await built
        await life.last_words(third)
        for deployment in (second, third):
            await all_there(life, deployment)


async def run_until_killed(folder: Path, fault: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.contracts.crash_collector", str(folder)),
        env={**os.environ, "SCALEMESH_FAULT": fault, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    async with asyncio.timeout(90):
        return await process.wait()
