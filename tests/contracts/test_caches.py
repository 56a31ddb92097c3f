"""What builds keep for later builds stays within its project and its scope, is held while it is kept, and goes."""

import hashlib
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from scalemesh.db.blobs import Amount
from scalemesh.db.caches import CacheRows
from scalemesh.errors import InvalidError, NotFoundError, RefusedError, TooLargeError
from scalemesh.ports import Store
from scalemesh.services import upkeep
from scalemesh.services.caches import MOST_SENT, PRODUCTION, Caches
from scalemesh.services.collector import Collector
from scalemesh.services.deployer import Wanted
from scalemesh.services.janitor import Freed
from scalemesh.services.listings import OutputFile
from scalemesh.services.receiving import Receiving
from scalemesh.values import Blob, CacheKind, Deployment, DeploymentId, Digest, Environment, NewCacheEntry
from tests.contracts.life import Life, once

KEY: Final = "a" * 40
MODULES: Final = CacheKind.MODULES


@pytest.fixture
async def deployment(life: Life) -> Deployment:
    return await life.services.deployer.get(await life.submit(Wanted(branch="main")))


def preview(deployment: Deployment, branch: str) -> Deployment:
    """Another deployment of the same project."""
    return replace(deployment, environment=Environment.PREVIEW, branch=branch)


def caches_of(life: Life, *, most_bytes: int = 1000, days: int = 30, later: timedelta = timedelta(0)) -> Caches:
    """As the daemon's own, *later* from now."""
    database, holdings = life.services.ledger.database, life.services.storage.holdings
    return Caches(
        database, life.store, holdings, far=lambda: life.store,
        project_bytes=most_bytes, days=days, now=lambda: datetime.now(UTC) + later,
    )  # fmt: skip


def new(data: bytes, key: str = KEY, kind: CacheKind = MODULES) -> NewCacheEntry:
    blob = Blob(sha256=Digest(hashlib.sha256(data).hexdigest()), size_bytes=len(data))
    return NewCacheEntry(kind=kind, key=key, blob=blob, unpacked_bytes=9 * len(data), seconds=2.5)


async def keep(caches: Caches, deployment: Deployment, data: bytes, key: str = KEY, kind: CacheKind = MODULES) -> bool:
    entry = new(data, key, kind)
    if not (await caches.place(deployment, entry.blob)).is_there:
        await caches.receive(deployment, entry.blob, once(data))
    return await caches.keep(deployment, entry)


async def kept(
    caches: Caches, deployment: Deployment, key: str = KEY, kind: CacheKind = MODULES, prefix: str = ""
) -> bytes | None:
    """The bytes that a build finds."""
    found = await caches.find(deployment, kind, key, prefix)
    if found is None:
        return None
    size, read = await caches.read(deployment, found[0].blob.sha256)
    async with aclosing(read) as chunks:
        data = b"".join([chunk async for chunk in chunks])
    assert len(data) == size
    return data


async def collect(life: Life) -> None:
    """Throw away what nobody holds, without grace."""
    database, holdings = life.services.ledger.database, life.services.storage.holdings
    now = datetime.now(UTC)
    for at in (now, now + timedelta(hours=1)):
        await Collector(database, life.store, holdings, grace=timedelta(0), now=partial(_same, at)).run()


def _same(at: datetime) -> datetime:
    return at


async def is_stored(store: Store, data: bytes) -> bool:
    return not await store.missing([Digest(hashlib.sha256(data).hexdigest())])


async def test_what_was_kept_is_found_again_and_a_newer_one_takes_its_place(life: Life, deployment: Deployment) -> None:
    caches = caches_of(life)
    assert await kept(caches, deployment) is None
    assert await keep(caches, deployment, b"one")
    assert await keep(caches, deployment, b"two")
    assert await kept(caches, deployment) == b"two"
    entry, _ = await caches.find(deployment, MODULES, KEY) or (None, None)
    assert entry is not None
    assert (entry.seconds, entry.unpacked_bytes, entry.scope) == (2.5, 27, PRODUCTION)
    assert await caches.total(deployment.project) == Amount(1, 3)
    await collect(life)
    assert not await is_stored(life.store, b"one")
    assert await is_stored(life.store, b"two")


async def test_a_preview_reads_productions_and_writes_only_its_own(life: Life, deployment: Deployment) -> None:
    caches = caches_of(life)
    await keep(caches, deployment, b"prod")
    mine, other = preview(deployment, "mine"), preview(deployment, "other")
    assert await kept(caches, mine) == b"prod"
    await keep(caches, mine, b"mine")
    assert await kept(caches, mine) == b"mine"
    assert await kept(caches, other) == b"prod"
    assert await kept(caches, deployment) == b"prod"


async def test_a_branch_cannot_be_named_so_that_it_writes_productions(life: Life, deployment: Deployment) -> None:
    caches = caches_of(life)
    for name in (PRODUCTION, "", "branch:x", "../production"):
        await keep(caches, preview(deployment, name), b"evil")
    assert await kept(caches, deployment) is None


async def test_another_branch_cannot_even_fetch_by_digest(life: Life, deployment: Deployment) -> None:
    caches = caches_of(life)
    await keep(caches, preview(deployment, "mine"), b"mine")
    for stranger in (deployment, preview(deployment, "other")):
        with pytest.raises(NotFoundError):
            await caches.read(stranger, new(b"mine").blob.sha256)


async def test_another_project_finds_nothing_fetches_nothing_and_claims_nothing(
    life: Life, deployment: Deployment
) -> None:
    caches = caches_of(life)
    await keep(caches, deployment, b"mine")
    stranger = await life.services.deployer.get(await life.submit(url="https://git.example/a/other"))
    assert await kept(caches, stranger) is None
    entry = new(b"mine")
    with pytest.raises(NotFoundError):
        await caches.read(stranger, entry.blob.sha256)
    assert not (await caches.place(stranger, entry.blob)).is_there
    with pytest.raises(RefusedError, match="was sent"):
        await caches.keep(stranger, entry)
    assert await caches.total(stranger.project) == Amount()


async def test_the_exact_key_comes_first_then_the_newest_near_one_of_the_branch_then_productions(
    life: Life, deployment: Deployment
) -> None:
    caches, mine = caches_of(life), preview(deployment, "mine")
    await keep(caches, deployment, b"prod-exact", "npm-linux-new")
    await keep(caches, deployment, b"prod-near", "npm-linux-old")
    await keep(caches, mine, b"pnpm", "pnpm-linux-new")
    assert await kept(caches, mine, "npm-linux-none", prefix="npm-linux-") == b"prod-near"
    await keep(caches, mine, b"mine-first", "npm-linux-first")
    await keep(caches, mine, b"mine-near", "npm-linux-second")
    assert await kept(caches, mine, "npm-linux-new", prefix="npm-linux-") == b"prod-exact"
    assert await kept(caches, mine, "npm-linux-none", prefix="npm-linux-") == b"mine-near"
    assert await kept(caches, mine, "npm-linux-none") is None
    assert await kept(caches, mine, "npm-linux-none", CacheKind.FRAMEWORK, prefix="npm-linux-") is None
    with pytest.raises(InvalidError):
        await caches.find(mine, MODULES, "npm-linux-new", "pnpm")


async def test_the_least_recently_used_goes_first(life: Life, deployment: Deployment) -> None:
    names = [f"{name}" * 8 for name in "bcd"]
    for number, key in enumerate(names[:2]):
        await keep(caches_of(life, most_bytes=9, later=timedelta(seconds=number)), deployment, key[:4].encode(), key)
    later = caches_of(life, most_bytes=9, later=timedelta(minutes=1))
    assert await kept(later, deployment, names[0]) == b"bbbb"
    await keep(caches_of(life, most_bytes=9, later=timedelta(minutes=2)), deployment, b"dddd", names[2])
    assert await kept(later, deployment, names[1]) is None
    assert await kept(later, deployment, names[0]) == b"bbbb"
    assert await kept(later, deployment, names[2]) == b"dddd"


async def test_previews_push_out_each_other_and_never_productions(life: Life, deployment: Deployment) -> None:
    caches = caches_of(life, most_bytes=9)
    await keep(caches, deployment, b"prod")
    for number in range(4):
        await keep(caches, preview(deployment, f"b{number}"), b"pre%d" % number)
    assert await kept(caches, deployment) == b"prod"
    assert await kept(caches, preview(deployment, "b3")) == b"pre3"
    assert await caches.total(deployment.project) == Amount(2, 8)


async def test_of_one_kind_and_branch_a_few_are_enough(life: Life, deployment: Deployment) -> None:
    caches = caches_of(life)
    for number in range(5):
        await keep(caches, deployment, b"data%d" % number, f"{number}" * 8)
    await keep(caches, deployment, b"other", KEY, CacheKind.FRAMEWORK)
    assert await caches.total(deployment.project) == Amount(4, 20)
    assert await kept(caches, deployment, "4" * 8) == b"data4"


async def test_what_was_not_sent_is_not_kept(life: Life, deployment: Deployment) -> None:
    caches = caches_of(life)
    await caches.receive(deployment, new(b"sent").blob, once(b"sent"))
    with pytest.raises(RefusedError):
        await caches.keep(deployment, new(b"never sent"))
    wrong = replace(new(b"sent"), blob=Blob(sha256=new(b"sent").blob.sha256, size_bytes=3))
    with pytest.raises(RefusedError):
        await caches.keep(deployment, wrong)
    with pytest.raises(RefusedError):  # by the next attempt, which has sent nothing
        await caches.keep(replace(deployment, attempt=deployment.attempt + 1), new(b"sent"))
    assert await caches.of_project(deployment.project) == []


async def test_an_archive_counts_towards_no_output_and_no_output_can_name_it(
    life: Life, deployment: Deployment
) -> None:
    caches = caches_of(life)
    await caches.receive(deployment, new(b"archive").blob, once(b"archive"))
    receiving: Receiving = life.services.storage.stored.receiving
    file = OutputFile(path="a", sha256=new(b"archive").blob.sha256, size_bytes=7)
    with pytest.raises(RefusedError):
        await receiving.own(deployment, [file])
    assert await life.store.received(deployment.id, deployment.attempt) == {}
    await receiving.drop(deployment)
    with pytest.raises(RefusedError):  # the deployment is over: nothing of it stays staged
        await caches.keep(deployment, new(b"archive"))


async def test_too_much_is_refused(life: Life, deployment: Deployment) -> None:
    caches = caches_of(life, most_bytes=10)
    for call in (caches.place(deployment, new(b"123456").blob), caches.keep(deployment, new(b"123456"))):
        with pytest.raises(TooLargeError):
            await call
    for number in range(MOST_SENT):
        await caches.place(deployment, new(b"%d" % number).blob)
    with pytest.raises(RefusedError, match="at most"):
        await caches.place(deployment, new(b"more").blob)


@pytest.mark.parametrize("key", ["", "../../../../etc", "a/b" * 10, "a" * 200, "a\0" * 8], ids=range(5))
async def test_a_key_is_a_plain_word(life: Life, deployment: Deployment, key: str) -> None:
    with pytest.raises(InvalidError):
        await caches_of(life).find(deployment, MODULES, key)
    with pytest.raises(InvalidError):
        await caches_of(life).keep(deployment, new(b"x", key))


async def test_a_deployment_without_caches_finds_none_and_keeps_fresh_ones(life: Life, deployment: Deployment) -> None:
    caches, without = caches_of(life), replace(deployment, uses_cache=False)
    await keep(caches, deployment, b"old")
    assert await kept(caches, without) is None
    with pytest.raises(NotFoundError):
        await caches.read(without, new(b"old").blob.sha256)
    assert caches.rules(without) == {"reads": False, "writes": True, "archive_bytes": 500}
    await keep(caches, without, b"new")
    assert await kept(caches, deployment) == b"new"


async def test_what_is_not_used_for_long_goes(life: Life, deployment: Deployment) -> None:
    await keep(caches_of(life), deployment, b"unused", "unused-key")
    await keep(caches_of(life), deployment, b"used", "used-key")
    assert await kept(caches_of(life, later=timedelta(days=29)), deployment, "used-key") == b"used"
    caches = caches_of(life, later=timedelta(days=31))
    assert await caches.expirable() == Amount(1, 6)
    assert await caches.expire() == Amount(1, 6)
    assert await caches.expire() == Amount()
    await collect(life)
    assert [await is_stored(life.store, data) for data in (b"unused", b"used")] == [False, True]


async def test_with_little_room_what_was_not_used_for_a_day_goes_where_it_lies_on_this_machine(
    life: Life, deployment: Deployment
) -> None:
    await keep(caches_of(life), deployment, b"yesterday", "npm-linux-old")
    await keep(caches_of(life, later=timedelta(hours=2)), deployment, b"today", "npm-linux-new")
    later = caches_of(life, later=timedelta(hours=25))
    here, elsewhere = upkeep.caches(later, lambda: True), upkeep.caches(later, lambda: False)
    assert [await part.preview(True) for part in (here, elsewhere)] == [Freed(1, len(b"yesterday")), Freed(0, 0)]
    assert [await here.run(False), await elsewhere.run(True), await here.run(True)] == [Freed(0), Freed(0), Freed(1)]
    assert [entry.key for entry in await later.of_project(deployment.project)] == ["npm-linux-new"]


class DiesMidway(Exception):  # noqa: N818
    """As a power switch, just when an archive was to become a blob."""


async def test_one_that_was_cut_off_is_not_found_and_leaves_nothing(
    life: Life, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = caches_of(life)

    async def die(*_: object) -> None:
        raise DiesMidway

    await caches.receive(deployment, new(b"half").blob, once(b"half"))
    with monkeypatch.context() as patched:
        patched.setattr(life.store, "adopt", die)
        with pytest.raises(DiesMidway):
            await caches.keep(deployment, new(b"half"))
    assert await kept(caches, deployment) is None
    assert await caches.expire() == Amount()
    assert await caches_of(life, later=timedelta(hours=2)).expire() == Amount(1, 4)
    await collect(life)
    assert await life.services.storage.collector.preview() == Amount()
    assert await keep(caches, deployment, b"half")  # the same bytes, once more
    assert await kept(caches, deployment) == b"half"


async def test_clearing_forgets_all_of_one_project_alone(life: Life, deployment: Deployment) -> None:
    caches = caches_of(life)
    other = await life.services.deployer.get(await life.submit(url="https://git.example/a/other"))
    await keep(caches, deployment, b"mine")
    await keep(caches, preview(deployment, "b"), b"branch")
    await keep(caches, other, b"mine")
    assert await caches.clear(deployment.project) == Amount(2, 10)
    assert await caches.clear(deployment.project) == Amount()
    await collect(life)
    assert await kept(caches, other) == b"mine"
    assert not await is_stored(life.store, b"branch")


async def test_a_deleted_project_takes_its_caches_with_it(life: Life, deployment: Deployment) -> None:
    await keep(caches_of(life), deployment, b"mine")
    await life.services.deployer.delete_project(await life.project())
    rows = CacheRows(life.services.ledger.database)
    assert await rows.of_project(deployment.project) == []
    await collect(life)
    assert not await is_stored(life.store, b"mine")
    with pytest.raises(NotFoundError):
        await keep(caches_of(life), deployment, b"late")


async def test_an_archive_that_the_store_has_lost_is_forgotten_and_can_be_kept_again(
    life: Life, deployment: Deployment
) -> None:
    caches = caches_of(life)
    await keep(caches, deployment, b"lost")
    await life.store.delete([new(b"lost").blob.sha256])
    with pytest.raises(NotFoundError):
        await kept(caches, deployment)
    assert await caches.find(deployment, MODULES, KEY) is None
    assert await keep(caches, deployment, b"lost")
    assert await kept(caches, deployment) == b"lost"


async def test_a_redeployment_without_caches_is_remembered(life: Life) -> None:
    deployment = await life.ready(b"page")
    found = await life.services.deployer.get(deployment)
    assert found.uses_cache
    again = await life.services.deployer.redeploy(life.user, found, await life.project(), uses_cache=False)
    assert not (await life.services.deployer.get(again.id)).uses_cache
    await life.services.deployer.cancel(again.id)


async def test_the_rules_of_a_build_come_with_its_claim(life: Life, tmp_path: Path) -> None:
    from scalemesh.services.builds import Attempt  # noqa: PLC0415

    deployment = await life.submit(Wanted(uses_cache=False))
    await life.executor.job(deployment)
    claim = await life.services.builds.claim(Attempt(DeploymentId(deployment), 1, "n"), "n")
    assert claim["cache"] == {"reads": False, "writes": True, "archive_bytes": 512 << 20}
    await life.services.deployer.cancel(deployment)
