"""Verifying: everything is read, and what is damaged, missing or unknown is told with those who need it."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from scalemesh.errors import NotFoundError, UnreachableError
from scalemesh.services.cached_store import CachedStore
from scalemesh.services.chores import Progress, Result, Stopped, Wanted
from scalemesh.services.collector import Collector
from scalemesh.services.home_store import HomeStore, Place
from scalemesh.services.verifying import Verifying
from scalemesh.values import Blob, Digest, Kept, State
from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import Life, begin
from tests.contracts.moves import NO_PAUSE, blob_of, new_progress, put, read, utc_now
from tests.contracts.openers import STORES
from tests.contracts.test_moving import damage, damage_file

VERIFY = Wanted(kind="verify")
MEND = Wanted(kind="verify", mend=True)
PAGE = b"<!doctype html><title>one</title>"


async def verified(life: Life, wanted: Wanted = VERIFY, progress: Progress | None = None) -> Result:
    verifying = Verifying(life.services.ledger.database, life.store, pauses_s=NO_PAUSE)
    return await verifying.run(wanted, progress or new_progress())


async def test_a_store_in_order_is_well(life: Life) -> None:
    await life.ready(PAGE)
    await life.ready(b"two")
    result = await verified(life)
    assert result["well"]
    assert result["blobs"] >= 6  # of each its page, its listing, its manifest
    assert result["unknown"]["count"] == 0


async def test_what_is_damaged_is_told_with_its_deployments_and_mended_by_the_next(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold()) as life:
        first = await life.ready(PAGE)
        second = await life.ready(PAGE)
        page = blob_of(PAGE).sha256
        damage(tmp_path, page)
        result = await verified(life)
        assert not result["well"]
        assert result["damaged"]["first"] == [
            {
                "sha256": page,
                "size_bytes": len(PAGE),
                "held_by": [{"project": "site", "deployment": second}, {"project": "site", "deployment": first}],
            }
        ]
        assert (await verified(life, MEND))["is_mended"]
        with pytest.raises(NotFoundError):
            await read(life.store, page)
        await life.ready(PAGE)
        assert await read(life.store, page) == PAGE
        assert (await verified(life))["well"]


async def test_what_is_taken_away_during_a_publish_is_brought_by_that_very_publish(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    await life.ready(PAGE)
    page, put_truly = blob_of(PAGE).sha256, HomeStore.put
    taken: list[Digest] = []

    async def put_after_mending(self: HomeStore, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        listing = (await life.services.deployer.get(second)).listing
        if listing is not None and not taken:  # what is put now is the manifest: all files are taken for stored
            taken.append(page)
            await Verifying(life.services.ledger.database, self).mend(taken, ())
        await put_truly(self, blob, chunks)

    monkeypatch.setattr(HomeStore, "put", put_after_mending)
    second = await life.submit()
    await life.built(second, PAGE)  # sends it, whatever the project has
    await life.until(second, State.READY)
    assert taken
    assert await read(life.store, page) == PAGE
    assert (await verified(life))["well"]


async def test_what_is_missing_is_told_and_brought_by_the_next_deployment(life: Life) -> None:
    deployment = await life.ready(PAGE)
    page = blob_of(PAGE).sha256
    await life.store.delete([page])
    result = await verified(life)
    assert not result["well"]
    assert result["missing"]["first"] == [{"sha256": page, "held_by": [{"project": "site", "deployment": deployment}]}]
    await verified(life, MEND)
    await life.ready(PAGE)
    assert (await verified(life))["well"]


async def test_a_store_that_lost_everything_is_told_whole(life: Life) -> None:
    await life.ready(PAGE)
    async for page in life.store.blobs():
        for kept in page:
            await life.store.delete([kept.sha256])
    result = await verified(life)
    assert result["missing"]["count"] >= 3
    assert result["blobs"] == 0


async def test_what_nobody_knows_is_told_and_no_damage(life: Life) -> None:
    blob = await put(life.store, b"a stranger")
    result = await verified(life)
    assert result["well"]
    assert result["unknown"] == {
        "count": 1,
        "size_bytes": 10,
        "first": [{"sha256": blob.sha256, "size_bytes": 10}],
    }


async def test_it_stops_when_asked_to(life: Life) -> None:
    await life.ready(PAGE)
    progress = new_progress()
    progress.ask_to_stop()
    with pytest.raises(Stopped):
        await verified(life, VERIFY, progress)


class BreaksOff:
    """A store whose lists and reads break off now and then."""

    def __init__(self, place: Place) -> None:
        self._store, self._calls = place.raw, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def blobs(self, after: Digest | None = None) -> AsyncGenerator[Sequence[Kept]]:
        async for page in self._store.blobs(after):
            self._break_off()
            yield page

    async def read(self, sha256: Digest, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        async for chunk in self._store.read(sha256, start, stop):
            self._break_off()
            yield chunk

    def _break_off(self) -> None:
        self._calls += 1
        if self._calls % 3 == 0:
            raise UnreachableError("it broke off")


async def test_a_store_that_breaks_off_is_asked_again_and_damages_nothing(life: Life) -> None:
    for number in range(20):
        await put(life.store, os.urandom(9) + b"%d" % number)
    await life.ready(PAGE)
    broken: object = BreaksOff(life.store.home)
    home = HomeStore(Place("disk", broken, broken))  # type: ignore[arg-type]
    result = await Verifying(life.services.ledger.database, home, pauses_s=NO_PAUSE).run(VERIFY, new_progress())
    assert result["well"]
    assert result["unknown"]["count"] == 20
    assert result["blobs"] >= 3


async def test_deployments_that_come_and_go_meanwhile_look_like_no_damage(life: Life) -> None:
    collector = Collector(
        life.services.ledger.database, life.store, life.services.storage.holdings, grace=timedelta(0), now=utc_now
    )

    async def publish() -> None:
        before = None
        for number in range(12):
            deployment = await life.ready(b"page %d" % number)
            if before is not None:
                await life.services.deployer.delete(before)
                await collector.run()
            before = deployment

    publishing = asyncio.create_task(publish())
    while not publishing.done():
        result = await verified(life)
        assert result["well"], result
        assert result["unknown"]["count"] == 0, result
    await publishing


@asynccontextmanager
async def cached_life(folder: Path) -> AsyncIterator[tuple[Life, HomeStore, CachedStore]]:
    """A life whose store lies elsewhere, its home as the daemon has it, and the cache of this machine."""
    async with begin(folder, EndsWhenTold(), open_store=STORES["cached"]) as life:
        near = life.store.home.store
        assert isinstance(near, CachedStore)
        yield life, HomeStore(Place("disk", near, near.far)), near


def far_file(folder: Path, sha256: Digest) -> Path:
    return folder / "far" / "kept" / "blobs" / sha256[:2] / sha256


async def mended(life: Life, home: HomeStore) -> Result:
    return await Verifying(life.services.ledger.database, home, pauses_s=NO_PAUSE).run(MEND, new_progress())


async def test_what_is_cached_whole_is_put_back(tmp_path: Path) -> None:
    async with cached_life(tmp_path) as (life, home, near):
        damaged, gone = blob_of(PAGE).sha256, blob_of(b"two").sha256
        for data in (PAGE, b"two"):
            await life.ready(data)
            await read(near, blob_of(data).sha256)
        damage_file(far_file(tmp_path, damaged))
        await near.far.delete([gone])
        result = await mended(life, home)
        assert (result["well"], result["restored"]) == (True, 2)
        assert [(one["sha256"], one["restored"]) for one in result["damaged"]["first"]] == [(damaged, True)]
        assert [(one["sha256"], one["restored"]) for one in result["missing"]["first"]] == [(gone, True)]
        assert await read(near.far, damaged) == PAGE
        assert await read(near.far, gone) == b"two"


async def test_what_is_cached_wrong_or_not_at_all_is_taken_away(tmp_path: Path) -> None:
    async with cached_life(tmp_path) as (life, home, near):
        cached, other = blob_of(PAGE).sha256, blob_of(b"two").sha256
        await life.ready(PAGE)
        await life.ready(b"two")
        await read(near, cached)
        for digest in (cached, other):
            damage_file(far_file(tmp_path, digest))
        damage_file(near.path(cached))
        result = await mended(life, home)
        assert (result["well"], result["restored"]) == (False, 0)
        assert {one["sha256"] for one in result["damaged"]["first"]} == {cached, other}
        assert await near.far.missing([cached, other]) == {cached, other}


async def test_a_store_that_lost_everything_is_noted_in_few_transactions_and_asked_about_those_that_are_told(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong bucket of a million blobs must not take a transaction for each."""
    database, asked, mended = life.services.ledger.database, list[Digest](), list[int]()
    digests = [Digest(f"{number:064x}") for number in range(1, 2501)]
    async with database.transaction() as tx:
        for digest in digests:
            await tx.run("INSERT INTO blob (sha256, size_bytes, state) VALUES (:sha256, 1, 1)", {"sha256": digest})
    held_by, mend = Verifying.held_by, Verifying.mend

    async def ask(self: Verifying, sha256: Digest) -> list[dict[str, Any]]:
        asked.append(sha256)
        return await held_by(self, sha256)

    async def note(self: Verifying, damaged: Collection[Digest], gone: Collection[Digest]) -> None:
        mended.append(len(gone))
        await mend(self, damaged, gone)

    monkeypatch.setattr(Verifying, "held_by", ask)
    monkeypatch.setattr(Verifying, "mend", note)
    result = await verified(life, MEND)
    assert (result["missing"]["count"], len(result["missing"]["first"])) == (2500, 100)
    assert len(asked) == 100
    assert sum(mended) == 2500
    assert len(mended) <= 4
    assert (await verified(life))["well"]
