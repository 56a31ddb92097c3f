"""The asset window follows production: without a gap, for its time, and ended at once where somebody says so."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scalemesh.db import deployments
from scalemesh.db.database import Transaction
from scalemesh.edge.answers import Answer, Visit
from scalemesh.edge.cache import Sites
from scalemesh.edge.decide import decide
from scalemesh.errors import ConflictError, NotFoundError, UnreachableError
from scalemesh.ports import BlobStore
from scalemesh.services import windows
from scalemesh.services.asset_windows import AssetWindows
from scalemesh.services.deployer import Wanted
from scalemesh.services.holdings import Holdings
from scalemesh.services.releases import Releases
from scalemesh.services.windows import Window
from scalemesh.values import Blob, DeploymentId, Digest, Project
from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import Life, begin
from tests.contracts.openers import STORES
from tests.contracts.test_collector import collect
from tests.contracts.test_encoder import Watched, deploy

HOST = "site.localhost"


@pytest.fixture
async def store(tmp_path: Path, life: Life) -> AsyncIterator[BlobStore]:
    """That of *life*."""
    async with STORES["disk"](tmp_path) as opened:
        yield opened


def asset(number: int) -> str:
    return f"assets/index-BxYz12a{number}.js"


def windows_over(life: Life, store: BlobStore, *, days: int = 7, at: timedelta = timedelta(0)) -> AssetWindows:
    """The asset windows in a life of their own, *at* from now."""
    ledger = life.services.ledger
    holdings = Holdings(ledger.database, store)
    return AssetWindows(ledger, store, holdings, days=days, now=lambda: datetime.now(UTC) + at)


async def version(life: Life, number: int, wanted: Wanted | None = None) -> DeploymentId:
    """A deployment with a hashed file of its own."""
    files = {"index.html": b"<h1>%d</h1>" % number, asset(number): b"console.log(%d)" % number}
    return await deploy(life, files, wanted)


async def ask(
    life: Life, store: BlobStore, path: str, *, host: str = HOST, at: timedelta = timedelta(0)
) -> tuple[int, str | None]:
    """Status, and the deployment that answered, *at* from now."""
    route = life.services.routes.find(host)
    assert route is not None
    answer = decide(Visit(method="GET", target=f"/{path}"), await Sites(store).read(route), datetime.now(UTC) + at)
    assert isinstance(answer, Answer)
    return answer.status, dict(answer.headers).get("X-Scalemesh-Deployment")


async def table(life: Life, store: BlobStore) -> Window:
    route = life.services.routes.find(HOST)
    if route is None or route.window is None:
        return Window()
    async with aclosing(store.read(route.window)) as chunks:
        return windows.decode(b"".join([chunk async for chunk in chunks]))


async def project(life: Life) -> Project:
    return await life.project()


async def test_the_first_deployment_leaves_nothing_behind(life: Life, store: BlobStore) -> None:
    await version(life, 1)
    assert await table(life, store) == Window()


async def test_an_old_page_finds_its_files_after_newer_deployments(life: Life, store: BlobStore) -> None:
    first, second, third = [await version(life, number) for number in (1, 2, 3)]
    assert await ask(life, store, asset(1)) == (200, first)
    assert await ask(life, store, asset(2)) == (200, second)
    assert await ask(life, store, asset(3)) == (200, third)
    assert await ask(life, store, asset(4)) == (404, third)
    assert await ask(life, store, "") == (200, third)
    assert [each.deployment for each in (await table(life, store)).formers] == [second, first]


async def test_permalinks_and_branches_show_their_deployment_alone(life: Life, store: BlobStore) -> None:
    await version(life, 1)
    second = await version(life, 2)
    preview = await version(life, 3, Wanted(branch="next", production=False))
    assert (await ask(life, store, asset(1), host=f"site-{second[-6:]}.localhost"))[0] == 404
    assert (await ask(life, store, asset(1), host="site-git-next.localhost"))[0] == 404
    assert await ask(life, store, asset(3)) == (404, second), "a preview was never production"
    assert await ask(life, store, asset(3), host="site-git-next.localhost") == (200, preview)


async def test_a_rollback_keeps_the_files_of_what_it_took_back(life: Life, store: BlobStore) -> None:
    first, second = [await version(life, number) for number in (1, 2)]
    await life.services.releases.rollback(await project(life))
    assert await ask(life, store, asset(2)) == (200, second)
    assert await ask(life, store, asset(1)) == (200, first)
    await life.services.releases.promote(await life.services.deployer.get(second))
    assert await ask(life, store, asset(1)) == (200, first)


async def test_promoting_what_is_live_changes_nothing(life: Life, store: BlobStore) -> None:
    await version(life, 1)
    second = await version(life, 2)
    before = life.services.routes.find(HOST)
    await life.services.releases.promote(await life.services.deployer.get(second))
    assert life.services.routes.find(HOST) == before


async def test_its_time_begins_when_a_deployment_leaves(life: Life, store: BlobStore) -> None:
    first = await version(life, 1)
    second = await version(life, 2)
    assert await ask(life, store, asset(1), at=timedelta(days=6.99)) == (200, first)
    assert await ask(life, store, asset(1), at=timedelta(days=7)) == (404, second)


async def test_what_has_expired_is_left_out_of_the_next_table(life: Life, store: BlobStore) -> None:
    first, second = [await version(life, number) for number in (1, 2)]
    releases = Releases(life.services.ledger, windows_over(life, store, at=timedelta(days=8)))
    await releases.promote(await life.services.deployer.get(first))
    assert [each.deployment for each in (await table(life, store)).formers] == [second]


async def test_deleting_a_deployment_ends_its_files_at_once_and_no_others(life: Life, store: BlobStore) -> None:
    first, second, third = [await version(life, number) for number in (1, 2, 3)]
    await life.services.deployer.delete(first)
    assert await ask(life, store, asset(1)) == (404, third)
    assert await ask(life, store, asset(2)) == (200, second)
    with pytest.raises(ConflictError):
        await life.services.deployer.delete(third)
    assert await ask(life, store, asset(2)) == (200, second)
    await life.services.deployer.delete(second)
    assert await table(life, store) == Window()


async def test_a_file_that_two_had_stays_while_one_is_left(life: Life, store: BlobStore) -> None:
    shared = {asset(7): b"shared"}
    first = await deploy(life, {"index.html": b"1", **shared})
    second = await deploy(life, {"index.html": b"2", **shared})
    await version(life, 3)
    assert await ask(life, store, asset(7)) == (200, second)
    await life.services.deployer.delete(second)
    assert await ask(life, store, asset(7)) == (200, first)


async def test_purge_ends_everything_and_the_next_move_begins_anew(life: Life, store: BlobStore) -> None:
    await version(life, 1)
    second = await version(life, 2)
    for _ in range(2):
        await life.services.storage.windows.purge((await project(life)).id)
        assert await ask(life, store, asset(1)) == (404, second)
    await version(life, 3)
    assert [each.deployment for each in (await table(life, store)).formers] == [second]


async def test_a_table_that_was_planned_before_a_purge_is_kept_when_it_is_named_after_it(
    life: Life, store: BlobStore
) -> None:
    first, second = [await version(life, number) for number in (1, 2)]
    await life.services.storage.windows.purge((await project(life)).id)

    class Purged(Watched):
        """Right after a table was put, somebody purges."""

        async def put(self, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
            await super().put(blob, chunks)
            await life.services.storage.windows.purge((await project(life)).id)

    releases = Releases(life.services.ledger, windows_over(life, Purged(store)))
    await releases.promote(await life.services.deployer.get(first))
    await collect(life)
    assert await ask(life, store, asset(2)) == (200, second)


async def test_the_variants_of_what_leaves_come_along(life: Life, store: BlobStore) -> None:
    script = b"".join(b"const a%d = %d\n" % (number, number) for number in range(500))
    await deploy(life, {"index.html": b"1", asset(1): script})
    await life.services.storage.encoder.encode_waiting()
    await version(life, 2)
    found = await table(life, store)
    _, entry = found.files[asset(1)]
    assert set(found.encodings.variants_of(entry.sha256)) == {"br", "zstd", "gzip"}


async def test_the_table_grows_by_what_leaves_and_reads_no_other_manifest_again(life: Life, store: BlobStore) -> None:
    made = [await version(life, number) for number in range(4)]
    read: list[Digest] = []

    async def note(sha256: Digest) -> None:
        read.append(sha256)

    watched = windows_over(life, Watched(store, before_read=note))
    await Releases(life.services.ledger, watched).promote(await life.services.deployer.get(made[0]))
    found = [(await life.services.deployer.get(deployment)).manifest for deployment in made]
    assert found[3] in read
    assert not {found[0], found[1], found[2]} & set(read)
    assert await ask(life, store, asset(3)) == (200, made[3])


async def test_a_store_that_is_away_holds_up_no_rollback_and_the_next_move_mends_it(
    life: Life, store: BlobStore
) -> None:
    first, second = [await version(life, number) for number in (1, 2)]

    async def away(_sha256: Digest) -> None:
        raise UnreachableError("away")

    broken = windows_over(life, Watched(store, before_read=away))
    await Releases(life.services.ledger, broken).rollback(await project(life))
    assert life.live() == first
    assert await ask(life, store, asset(2)) == (404, first)
    third = await version(life, 3, Wanted(branch="next", production=False))
    await life.services.releases.promote(await life.services.deployer.get(third))
    assert await ask(life, store, asset(2)) == (200, second)
    assert await ask(life, store, asset(1)) == (200, first)


async def test_a_store_that_is_away_keeps_no_file_of_what_is_deleted(life: Life, store: BlobStore) -> None:
    first, _, third = [await version(life, number) for number in (1, 2, 3)]

    async def away(_sha256: Digest) -> None:
        raise UnreachableError("away")

    broken = windows_over(life, Watched(store, before_read=away))

    async def forget(tx: Transaction) -> None:
        await deployments.delete(tx, first)

    await broken.delete(await life.services.deployer.get(first), forget)
    assert await ask(life, store, asset(1)) == (404, third)


async def test_days_of_nought_turn_it_off(life: Life, store: BlobStore) -> None:
    first, second = [await version(life, number) for number in (1, 2)]
    off = windows_over(life, store, days=0)
    await Releases(life.services.ledger, off).promote(await life.services.deployer.get(first))
    assert await ask(life, store, asset(2)) == (404, first)
    assert second


async def test_a_former_deployment_whose_manifest_is_lost_holds_up_nothing(life: Life, store: BlobStore) -> None:
    first = await version(life, 1)
    lost = (await life.services.deployer.get(first)).manifest
    assert lost is not None
    await store.delete([lost])
    second = await version(life, 2)
    assert life.live() == second
    assert await ask(life, store, asset(1)) == (404, second)


async def test_there_is_no_moment_in_which_a_file_is_missing(life: Life, store: BlobStore) -> None:
    """Production moves to and fro, two people at once, while pages of both deployments ask for their files."""
    first, second = [await life.services.deployer.get(await version(life, number)) for number in (1, 2)]
    sites, seen = Sites(store), 0
    done = asyncio.Event()

    async def visit() -> None:
        nonlocal seen
        while not done.is_set():
            for number in (1, 2):
                route = life.services.routes.find(HOST)
                assert route is not None
                answer = decide(
                    Visit(method="GET", target=f"/{asset(number)}"), await sites.read(route), datetime.now(UTC)
                )
                assert isinstance(answer, Answer)
                assert answer.status == 200, (number, route)
                seen += 1
            await asyncio.sleep(0.001)  # the threads that move production need the interpreter too

    async def promote() -> None:
        for _ in range(4):
            for each in (first, second):
                await life.services.releases.promote(each)

    visiting = asyncio.create_task(visit())
    await asyncio.gather(promote(), promote())
    done.set()
    await visiting
    assert seen > 20


async def test_a_restart_changes_nothing_of_it(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold()) as life:
        first = await version(life, 1)
        await version(life, 2)
    async with begin(tmp_path, EndsWhenTold()) as life, STORES["disk"](tmp_path) as store:
        assert await ask(life, store, asset(1)) == (200, first)


async def test_a_project_that_is_deleted_takes_its_window_along(life: Life, store: BlobStore) -> None:
    await version(life, 1)
    await version(life, 2)
    await life.services.deployer.delete_project(await project(life))
    assert life.services.routes.find(HOST) is None
    with pytest.raises(NotFoundError):
        await life.services.projects.named("site")
