"""The store that stands before another while blobs move: each step by itself, with events in the worst order."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from plugins.stores.disk import DiskConfig, DiskStore
from scalemesh.errors import NotFoundError, UnreachableError
from scalemesh.services.copying import Copied
from scalemesh.services.hashing import Hashing
from scalemesh.services.home_store import NOWHERE, HomeStore, Place
from scalemesh.values import Blob, DeploymentId, Digest, SignedRequest
from tests.contracts.moves import ComesAndGoes, blob_of, chunks_of, put, read
from tests.contracts.test_moving import held

A = DeploymentId("dpl_aaaa1111")
STEPS = 50


class Slow(DiskStore):
    """Keeps a reader waiting until it is let go."""

    may_read: asyncio.Event
    reads: int = 0

    async def read(self, sha256: Digest, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        self.reads += 1
        await self.may_read.wait()
        async for chunk in super().read(sha256, start, stop):
            yield chunk


class Signs(DiskStore):
    """Gives out URLs."""

    async def upload_urls(self, deployment: DeploymentId, attempt: int, blobs: list[Blob]) -> list[SignedRequest]:
        return [SignedRequest(url=f"https://store.example/{blob.sha256}") for blob in blobs]

    async def download_url(self, sha256: Digest) -> SignedRequest:
        return SignedRequest(url=f"https://store.example/{sha256}")


class Elsewhere:
    """A store none of whose files lie on this machine."""

    def __init__(self, store: DiskStore) -> None:
        self.read, self.missing = store.read, store.missing


@pytest.fixture
async def old(tmp_path: Path) -> AsyncIterator[Slow]:
    async with Slow.open(DiskConfig(path=tmp_path / "old")) as store:
        store.may_read = asyncio.Event()
        store.may_read.set()
        yield store


@pytest.fixture
async def new(tmp_path: Path) -> AsyncIterator[ComesAndGoes]:
    async with ComesAndGoes.open(DiskConfig(path=tmp_path / "new")) as store:
        yield store


def place(kind: str, store: DiskStore) -> Place:
    return Place(kind, store, store)


async def turns() -> None:
    for _ in range(STEPS):
        await asyncio.sleep(0.001)


async def test_a_write_that_began_before_the_move_is_waited_for(old: Slow, new: ComesAndGoes) -> None:
    """It knows nothing of the target: the copying must not begin before it has ended."""
    home, may_end = HomeStore(place("old", old)), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"be"
        await may_end.wait()
        yield b"gun"

    writing = asyncio.create_task(home.put(blob_of(b"begun"), slowly()))
    await turns()
    beginning = asyncio.create_task(home.begin(place("new", new)))
    await asyncio.sleep(0)
    await put(home, b"later")  # nobody else waits for it
    await turns()
    assert not beginning.done()
    may_end.set()
    await beginning
    await writing
    assert await held(new) == {blob_of(b"later").sha256}


async def test_a_write_that_reaches_the_home_alone_is_counted_however_it_ends(old: Slow, new: ComesAndGoes) -> None:
    home = HomeStore(place("old", old))
    await home.begin(place("new", new))
    new.is_away = lambda: True
    await put(home, b"one")
    await put(home, b"two")  # a target that was just away is not asked
    assert home.missed == 2
    new.is_away = lambda: False
    home.relax()
    await home.end()
    await home.begin(place("new", new))
    old.may_read.clear()
    writing = asyncio.create_task(put(home, b"three"))
    while not old.reads:  # it is in the old store, and on its way into the new one
        await asyncio.sleep(0.001)
    writing.cancel()
    with suppress(asyncio.CancelledError):
        await writing
    assert home.missed == 1


async def test_from_before_the_switch_on_a_write_reaches_both_or_fails(old: Slow, new: ComesAndGoes) -> None:
    home = HomeStore(place("old", old))
    await home.begin(place("new", new))
    home.demand_both()
    new.is_away = lambda: True
    blob = blob_of(b"one")
    with pytest.raises(UnreachableError):
        await put(home, b"one")
    new.is_away = lambda: False
    assert await home.missing([blob.sha256]) == {blob.sha256}  # although the home has it
    await put(home, b"one")
    assert await home.missing([blob.sha256]) == set()
    home.switch()
    await put(home, b"two")
    assert await held(old) == await held(new) == {blob.sha256, blob_of(b"two").sha256}
    await home.end()
    await put(home, b"three")
    assert await held(new) - await held(old) == {blob_of(b"three").sha256}


async def test_there_is_no_switch_without_a_target_that_has_everything(old: Slow, new: ComesAndGoes) -> None:
    home = HomeStore(place("old", old))
    with pytest.raises(RuntimeError):
        home.switch()
    await home.begin(place("new", new))
    with pytest.raises(RuntimeError):
        home.switch()


async def test_a_removal_waits_for_the_copy_and_is_not_undone_by_it(old: Slow, new: ComesAndGoes) -> None:
    home = HomeStore(place("old", old))
    blob, other = await put(home, b"one"), await put(home, b"two")
    await home.begin(place("new", new))
    old.may_read.clear()
    with Hashing() as hashing:
        bringing = asyncio.create_task(home.bring(blob, hashing))
        async with asyncio.timeout(30):
            while not old.reads:
                await asyncio.sleep(0.001)
        removing = asyncio.create_task(home.delete([blob.sha256]))
        await home.delete([other.sha256])  # nobody copies that one
        await turns()
        assert not removing.done()
        old.may_read.set()
        assert await bringing is Copied.DONE
        await removing
        assert await held(old) == await held(new) == set()
        assert await home.bring(blob, hashing) is Copied.GONE


async def test_what_one_of_the_two_has_is_read(old: Slow, new: ComesAndGoes) -> None:
    """A visit that knows the old home, or the new one, has its answer either way."""
    here, there = await put(old, b"here"), await put(new, b"there")
    home = HomeStore(place("old", old), former=place("new", new))
    assert await read(home, here.sha256) == b"here"
    assert await read(home, there.sha256) == b"there"
    with pytest.raises(NotFoundError):
        await read(home, blob_of(b"nowhere").sha256)
    home.forget_former()
    with pytest.raises(NotFoundError):
        await read(home, there.sha256)


async def test_a_process_that_only_reads_follows_and_still_finds_what_lies_in_the_old_one(
    old: Slow, new: ComesAndGoes
) -> None:
    here, there = await put(old, b"here"), await put(new, b"there")
    home = HomeStore(place("old", old))
    assert home.path(here.sha256) == old.path(here.sha256)
    home.follow(place("new", new))
    home.follow(place("new", new))  # told twice
    assert home.path(there.sha256) == new.path(there.sha256)
    assert await read(home, there.sha256) == b"there"
    assert await read(home, here.sha256) == b"here"


async def test_a_home_elsewhere_has_no_files_here_and_one_that_signs_gives_urls(old: Slow, tmp_path: Path) -> None:
    blob = await put(old, b"one")
    elsewhere: object = Elsewhere(old)
    home = HomeStore(Place("far", elsewhere, elsewhere))  # type: ignore[arg-type]
    assert home.path(blob.sha256) == NOWHERE
    assert not NOWHERE.exists()
    assert list(await home.upload_urls(A, 1, [blob, blob])) == [None, None]
    with pytest.raises(UnreachableError, match="through the daemon"):
        await home.download_url(blob.sha256)
    async with Signs.open(DiskConfig(path=tmp_path / "signs")) as signs:
        home = HomeStore(place("signs", signs))
        (given,) = await home.upload_urls(A, 1, [blob])
        assert given == await home.download_url(blob.sha256)


async def test_an_adoption_during_the_move_reaches_both(old: Slow, new: ComesAndGoes) -> None:
    home = HomeStore(place("old", old))
    await home.begin(place("new", new))
    blob = blob_of(b"uploaded")
    await home.receive(A, 1, blob, chunks_of(b"uploaded"))
    await home.adopt(A, 1, [blob.sha256])
    await home.clear(A)
    assert await held(old) == await held(new) == {blob.sha256}
