"""Uploads that begin before the blobs move and end after it, and a former store that is never there again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scalemesh.errors import ConflictError, UnreachableError
from scalemesh.services.builds import Attempt, Success
from scalemesh.services.chores import Wanted
from scalemesh.services.deployer import Wanted as Deploy
from scalemesh.services.listings import OutputFile
from scalemesh.values import DeploymentId, Digest, SourceKind, State
from tests.contracts.direct_store import open_direct, put
from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import PAGE, Life, begin, once
from tests.contracts.moves import TO, blob_of, new_progress, read

FILE = OutputFile(path="index.html", sha256=blob_of(PAGE).sha256, size_bytes=len(PAGE))
DONE = Success(files=[FILE], framework="static", output_directory=".")


@pytest.fixture
async def life(tmp_path: Path) -> AsyncIterator[Life]:
    """Over a store that gives URLs."""
    async with begin(tmp_path, EndsWhenTold(), open_store=open_direct) as opened:
        yield opened


async def claimed(life: Life, deployment: DeploymentId) -> Attempt:
    await life.executor.job(deployment)
    mine = Attempt(deployment, 1, "nonce")
    await life.services.builds.claim(mine, "nonce")
    return mine


async def move(life: Life, to: str = TO) -> None:
    """To another store, and the look that is had at the one before now and again."""
    moving = life.services.storage.moving
    assert (await moving.run(Wanted(kind="migrate", to=to), new_progress()))["well"]
    await moving.look_at_leftovers()


async def published(life: Life, mine: Attempt) -> None:
    await life.services.builds.finish(mine, DONE)
    await life.executor.end(mine.deployment)
    await life.until(mine.deployment, State.READY, State.FAILED)
    assert await read(life.store.home.raw, FILE.sha256) == PAGE
    await life.last_words(mine.deployment)


async def test_a_url_from_before_the_move_that_is_used_after_it_brings_the_file(life: Life) -> None:
    mine = await claimed(life, await life.submit())
    (url,) = (await life.services.builds.missing(mine, [blob_of(PAGE)])).values()
    assert url is not None
    await move(life)
    assert await put(url, PAGE) == 200
    await published(life, mine)
    await life.services.storage.moving.look_at_leftovers()
    assert life.store.former is None


async def test_an_upload_that_was_under_way_when_the_blobs_moved_is_not_lost(life: Life) -> None:
    mine, may_end = await claimed(life, await life.submit()), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield PAGE[:5]
        await may_end.wait()
        yield PAGE[5:]

    sending = asyncio.create_task(life.services.builds.receive(mine, blob_of(PAGE), slowly()))
    await asyncio.sleep(0)
    await move(life)
    may_end.set()
    await sending
    await published(life, mine)


async def test_a_former_store_that_is_gone_for_good_holds_up_only_who_may_have_sent_there(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await life.services.projects.create(life.user, name="pages")
    waiting = await life.services.deployer.submit(life.user, project, Deploy(source=SourceKind.PREBUILT))
    await life.services.uploads.receive(waiting, blob_of(PAGE), once(PAGE))
    former = life.store.home.raw
    await move(life)

    async def gone(*_: object) -> dict[Digest, int]:
        raise UnreachableError("the former store was switched off")

    for method in ("received", "adopt", "staged", "clear"):
        monkeypatch.setattr(former, method, gone)
    mine = await claimed(life, await life.submit())
    await life.upload(mine, PAGE)
    await published(life, mine)
    with pytest.raises(UnreachableError):
        await life.services.uploads.finish(waiting, [FILE])
    with pytest.raises(ConflictError, match="before the last move"):
        await life.services.storage.moving.run(Wanted(kind="migrate", to="disk"), new_progress())
    await life.services.deployer.cancel(waiting.id)
    await life.services.storage.moving.look_at_leftovers()
    assert life.store.former is None
