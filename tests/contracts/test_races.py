"""Two calls at once: whichever comes second finds what the first has left, never half of it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from scalemesh.db import aliases, deployments
from scalemesh.db.database import Transaction
from scalemesh.errors import ConflictError, NotFoundError
from scalemesh.services.builds import Attempt, Success
from scalemesh.services.deployer import Wanted
from scalemesh.services.listings import OutputFile
from scalemesh.values import Blob, DeploymentId, Digest, Environment, Reason, SourceKind, State
from tests.contracts.executors import ComesUpLate, EndsWhenTold, StartsWhenTold
from tests.contracts.life import PAGE, Life, begin, once

T = TypeVar("T")
STEPS = 50


@asynccontextmanager
async def before(life: Life, call: Coroutine[None, None, T]) -> AsyncIterator[tuple[Transaction, asyncio.Task[T]]]:
    """A transaction that is under way while *call* has read all that it reads, and waits to write."""
    database = life.services.ledger.database
    async with database.transaction() as tx:
        second = asyncio.create_task(call)
        for _ in range(STEPS):  # its reads take the same road, so they are done before ours
            await database.one("SELECT 1")
        yield tx, second


async def test_a_rollback_holds_against_a_deployment_that_is_publishing(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = await life.ready(b"1"), await life.ready(b"2")
    project, to = await life.project(), await life.services.deployer.get(first)
    rollbacks: list[asyncio.Task[DeploymentId]] = []

    def at(point: str) -> None:
        if point == "publish.after_manifest":
            rollbacks.append(asyncio.create_task(life.services.releases.rollback(project, to)))

    monkeypatch.setattr("scalemesh.services.publisher.fault", at)
    await life.ready(b"3")
    assert await rollbacks[0] == first
    assert life.live() == first


async def test_what_is_promoted_while_it_is_deleted_stays(life: Life) -> None:
    first, _ = await life.ready(b"1"), await life.ready(b"2")
    project = (await life.project()).id
    async with before(life, life.services.deployer.delete(first)) as (tx, deleting):
        await aliases.point_production(tx, project, first)
    with pytest.raises(ConflictError, match="shows"):
        await deleting
    routes = await life.services.releases.of_project(project)
    assert {route.host: route.deployment for route in routes}["site.localhost"] == first


async def test_what_is_deleted_while_it_is_promoted_is_not_found(life: Life) -> None:
    first, second = await life.ready(b"1"), await life.ready(b"2")
    found = await life.services.deployer.get(first)
    async with before(life, life.services.releases.promote(found)) as (tx, promoting):
        await deployments.delete(tx, first)
    with pytest.raises(NotFoundError):
        await promoting
    assert life.live() == second


async def test_a_project_deleted_while_its_build_starts_leaves_no_job(tmp_path: Path) -> None:
    executor = StartsWhenTold()
    async with begin(tmp_path, executor) as life:
        deployment = await life.submit()
        await executor.asked.wait()
        await life.services.deployer.delete_project(await life.project())
        executor.stopped.clear()
        executor.told.set()
        async with asyncio.timeout(30):
            while (deployment, 1) not in executor.stopped or executor.jobs:
                await asyncio.sleep(0.002)


async def test_nothing_is_submitted_to_a_project_that_is_gone(life: Life) -> None:
    project = await life.project()
    await life.services.deployer.delete_project(project)
    with pytest.raises(NotFoundError, match="deleted"):
        await life.services.deployer.submit(life.user, project, Wanted())
    with pytest.raises(NotFoundError, match="deleted"):
        await life.services.projects.set_variable(project.id, "KEY", tuple(Environment), "value")


async def test_a_publication_whose_bytes_are_gone_fails_and_says_so(tmp_path: Path) -> None:
    """Not for ever "publishing": nobody would learn why."""
    async with begin(tmp_path, EndsWhenTold()) as life:
        deployment = await life.ready(PAGE)
        listing = (await life.services.deployer.get(deployment)).listing
        async with life.services.ledger.database.transaction() as tx:
            await tx.run("UPDATE deployment SET state = 'publishing', finished_at = NULL")
    assert listing is not None
    for file in tmp_path.rglob(listing):
        file.unlink()
    async with begin(tmp_path, EndsWhenTold()) as life, asyncio.timeout(30):
        found = await life.until(deployment, State.FAILED)
        assert found.reason is Reason.INTERNAL
        assert listing in found.message


async def test_where_builds_run_may_come_up_later_than_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalemesh.services.executors.ASK_AGAIN_S", 0)
    async with begin(tmp_path, ComesUpLate()) as life:
        deployment = await life.submit()
        await life.built(deployment)
        await life.until(deployment, State.READY)


async def test_a_builder_that_says_twice_at_once_that_it_has_finished_hears_the_same(life: Life) -> None:
    deployment = await life.submit()
    await life.executor.job(deployment)
    mine = Attempt(deployment, 1, "nonce")
    await life.services.builds.claim(mine, "nonce")
    success = Success(files=[await life.upload(mine, PAGE)], framework="static", output_directory=".")
    said = await asyncio.gather(*(life.services.builds.finish(mine, success) for _ in range(4)))
    assert set(said) <= {State.PUBLISHING, State.READY}
    await life.until(deployment, State.READY)


@pytest.mark.parametrize("source", [SourceKind.UPLOAD, SourceKind.PREBUILT])
async def test_an_upload_that_is_finished_twice_at_once_is_finished_once(life: Life, source: SourceKind) -> None:
    project = await life.services.projects.create(life.user, name="pages")
    deployment = await life.services.deployer.submit(life.user, project, Wanted(source=source))
    digest = Digest(hashlib.sha256(PAGE).hexdigest())
    await life.services.uploads.receive(deployment, Blob(sha256=digest, size_bytes=len(PAGE)), once(PAGE))
    file = OutputFile(path="index.html", sha256=digest, size_bytes=len(PAGE))
    said = await asyncio.gather(*(life.services.uploads.finish(deployment, [file]) for _ in range(4)))
    assert set(said) <= {State.QUEUED, State.BUILDING, State.PUBLISHING, State.READY}
    if source is SourceKind.UPLOAD:
        assert [line for line in await life.log(deployment.id) if "uploaded" in line] == ["Queued: 1 files uploaded"]


async def test_first_deployments_of_one_source_at_once_make_one_project(life: Life) -> None:
    made = await asyncio.gather(*(life.project("https://git.example/a/shop") for _ in range(8)))
    assert len({project.id for project in made}) == 1


async def test_first_deployments_of_sources_of_one_name_at_once_get_a_name_each(life: Life) -> None:
    made = await asyncio.gather(*(life.project(f"https://git.example/{owner}/shop") for owner in "abcdefgh"))
    assert len({project.name for project in made}) == 8
