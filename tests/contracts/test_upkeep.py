"""What deployments leave behind is swept up, and what uses the room is told: over a real database, store and log."""

import hashlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scalemesh.db.blobs import BlobRows
from scalemesh.db.homes import HomeRows
from scalemesh.db.retention import RetentionRows
from scalemesh.ports import LogStore, Store
from scalemesh.services.builds import Attempt
from scalemesh.services.deployer import Wanted
from scalemesh.services.leftovers import Leftovers
from scalemesh.services.usage import Report, Usages
from scalemesh.values import Blob, DeploymentId, Digest, State
from tests.contracts.life import Life, once
from tests.contracts.openers import LOG_STORES, STORES
from tests.contracts.test_encoder import deploy

NOISE = os.urandom(40_000)


@pytest.fixture
async def store(tmp_path: Path, life: Life) -> AsyncIterator[Store]:
    """That of *life*."""
    async with STORES["disk"](tmp_path) as opened:
        yield opened


@pytest.fixture
async def logs(tmp_path: Path, life: Life) -> AsyncIterator[LogStore]:
    async with LOG_STORES["sqlite"](tmp_path) as opened:
        yield opened


def leftovers(life: Life, store: Store, logs: LogStore, *, hours: float = 0) -> Leftovers:
    """Those of *life*, *hours* from now."""
    return Leftovers(life.services.ledger.database, store, logs, now=lambda: datetime.now(UTC) + timedelta(hours=hours))


async def stage(store: Store, deployment: DeploymentId) -> None:
    """An upload that nobody will ever finish."""
    blob = Blob(sha256=Digest(hashlib.sha256(NOISE).hexdigest()), size_bytes=len(NOISE))
    await store.receive(deployment, 1, blob, once(NOISE))


async def gone(life: Life) -> list[DeploymentId]:
    return [one async for page in RetentionRows(life.services.ledger.database).gone() for one in page]


async def report(life: Life) -> Report:
    services = life.services
    return await Usages(services.ledger.database, services.storage.disk, {}, now=lambda: datetime.now(UTC)).report()


async def test_the_log_of_a_deletion_that_was_cut_off_goes_and_is_forgotten_an_hour_later(
    life: Life, store: Store, logs: LogStore
) -> None:
    deployment = await life.ready(b"one")
    await life.ready(b"two")
    database = life.services.ledger.database
    async with database.transaction() as tx:  # as a deletion that ends after its transaction
        await tx.run("DELETE FROM deployment WHERE id = :id", {"id": deployment})
    assert await logs.read(deployment)
    await leftovers(life, store, logs).run()
    assert not await logs.read(deployment)
    assert await gone(life) == [deployment]
    await leftovers(life, store, logs, hours=1.1).run()
    assert not await gone(life)


async def test_uploads_of_what_is_over_or_unknown_go_and_those_of_what_is_under_way_stay(
    life: Life, store: Store, logs: LogStore
) -> None:
    building = await life.submit()
    await life.until(building, State.BUILDING)
    over = await life.submit(Wanted(branch="other"))
    await life.services.deployer.cancel(over)
    nobody = DeploymentId("dpl_nobody")
    for deployment in (building, over, nobody):
        await stage(store, deployment)
    assert await leftovers(life, store, logs).run() == 1
    assert set(await store.staged()) == {building, over}  # a signed URL may still bring something for the other
    assert await leftovers(life, store, logs, hours=1.1).run() == 1
    assert set(await store.staged()) == {building}
    assert await leftovers(life, store, logs, hours=1.1).run() == 0


async def test_the_uploads_of_a_running_build_survive_a_round_of_the_janitor(
    life: Life, store: Store, logs: LogStore
) -> None:
    deployment = await life.submit()
    await life.until(deployment, State.BUILDING)
    await life.executor.job(deployment, 1)
    mine = Attempt(deployment, 1, "nonce")
    await life.services.builds.claim(mine, "nonce")
    await life.upload(mine, b"page")
    await leftovers(life, store, logs, hours=500).run()
    assert await life.built(deployment, b"page") is State.PUBLISHING


async def test_what_two_projects_share_counts_once_in_all_and_whole_for_each(life: Life) -> None:
    await life.ready(NOISE)
    other = await life.submit(url="https://git.example/b/other")
    await life.built(other, NOISE)
    await life.until(other, State.READY)
    found = await report(life)
    sizes = {one.kind: one.size_bytes for one in found.kinds}
    assert sizes["files"] == len(NOISE)
    assert found.shared_bytes >= len(NOISE)
    assert sorted(one.project for one in found.projects) == ["other", "site"]
    assert {one.kinds["files"] for one in found.projects} == {len(NOISE)}


async def test_files_variants_and_lists_are_told_apart(life: Life) -> None:
    script = b"".join(b"let a%d = document.querySelector('#a%d')\n" % (n, n) for n in range(400))
    await deploy(life, {"a.js": script})
    await life.services.storage.encoder.encode_waiting()
    sizes = {one.kind: one.size_bytes or 0 for one in (await report(life)).kinds}
    assert sizes["files"] == len(script)
    assert 0 < sizes["variants"] < len(script)
    assert sizes["lists"] > 100
    assert sizes["unheld"] == 0


async def test_what_was_let_go_is_told_until_it_is_removed(life: Life) -> None:
    first = await life.ready(NOISE)
    await life.ready(b"two")
    await life.services.storage.windows.purge((await life.project()).id)
    await life.services.deployer.delete(first)
    sizes = {one.kind: one.size_bytes or 0 for one in (await report(life)).kinds}
    assert sizes["unheld"] >= len(NOISE)
    assert sizes["files"] == len(b"two")
    await life.services.storage.collector.run()  # notes that nobody holds it
    assert (await life.services.storage.collector.run(timedelta(0))).size_bytes >= len(NOISE)
    sizes = {one.kind: one.size_bytes or 0 for one in (await report(life)).kinds}
    assert sizes["unheld"] == 0


async def test_counts_of_all_blobs_are_no_work_of_the_reader_that_everybody_waits_for(life: Life) -> None:
    await life.ready(NOISE)
    database = life.services.ledger.database
    asked: list[str] = []
    await database._reader.set_trace_callback(asked.append)
    assert (await HomeRows(database).amount()).size_bytes >= len(NOISE)
    assert (await life.services.storage.collector.preview()).count == 0
    assert await BlobRows(database).last_id()
    assert [sql for sql in asked if "blob" in sql] == ["SELECT coalesce(max(id), 0) AS id FROM blob"]
