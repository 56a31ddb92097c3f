"""The tables of a site come together, are fetched once, and those that only help are done without."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from scalemesh.edge.cache import Sites
from scalemesh.errors import NotFoundError
from scalemesh.services import encodings, windows
from scalemesh.services.encodings import Encodings
from scalemesh.services.windows import Window
from scalemesh.values import Blob, Digest, HostKind, Route
from tests.contracts.visits import MemoryStore, route

KNOWN = Encodings({Digest("a" * 64): {"br": Blob(sha256=Digest("b" * 64), size_bytes=5)}})


def routes(store: MemoryStore) -> Sequence[Route]:
    """Production and permalink of one deployment."""
    table, window = store.add(encodings.encode(KNOWN)), store.add(windows.encode(Window()))
    production = replace(route(store, "shop.localhost"), encodings=table, window=window)
    return production, replace(production, host="shop-678901.localhost", kind=HostKind.PERMALINK, window=None)


async def test_a_site_is_all_that_its_route_names() -> None:
    store = MemoryStore()
    production, permalink = routes(store)
    sites = Sites(store)
    assert sites.peek(production) is None
    site = await sites.read(production)
    assert (site.route, site.encodings, site.window) == (production, KNOWN, Window())
    assert sites.peek(production) == site
    assert sites.peek(permalink) is not None, "it shares its tables with production"


async def test_each_table_is_fetched_once_however_many_wait() -> None:
    store = MemoryStore()
    production, permalink = routes(store)
    sites = Sites(store)
    await asyncio.gather(*(sites.read(each) for each in (production, permalink) * 20))
    assert len(store.begun) == len(set(store.begun)) == 3


@pytest.mark.parametrize("damaged", [True, False])
async def test_encodings_and_windows_that_are_lost_are_done_without(damaged: bool) -> None:
    store = MemoryStore()
    production, _ = routes(store)
    lost = [digest for digest in (production.encodings, production.window) if digest]
    for digest in lost:
        if damaged:
            store.blobs[digest] = b"{}"
        else:
            del store.blobs[digest]
    sites = Sites(store)
    for _ in range(2):
        site = await sites.read(production)
        assert (site.encodings, site.window) == (Encodings(), Window())
    assert [store.begun.count(digest) for digest in lost] == [1, 1]


async def test_a_manifest_that_is_lost_is_an_error() -> None:
    store = MemoryStore()
    production, _ = routes(store)
    assert production.manifest is not None
    del store.blobs[production.manifest]
    with pytest.raises(NotFoundError):
        await Sites(store).read(production)


async def test_a_route_that_leads_nowhere_has_no_site() -> None:
    store = MemoryStore()
    nowhere = replace(route(store, "shop.localhost"), deployment=None, manifest=None)
    assert Sites(store).peek(nowhere) is None
    with pytest.raises(NotFoundError):
        await Sites(store).read(nowhere)


async def test_the_tables_of_one_site_that_do_not_fit_are_kept_all_the_same() -> None:
    """Read and decoded at each visit, they would cost every other site its time."""
    store = MemoryStore()
    production, _ = routes(store)
    sites = Sites(store, capacity_bytes=100)
    for _ in range(3):
        assert (await sites.read(production)).encodings == KNOWN
        assert sites.peek(production) is not None
    assert len(store.begun) == len(set(store.begun))
    for number in range(3):
        await sites.read(route(store, "other.localhost", files={"a": bytes([number])}))
    assert sites.peek(production) is None, "but no more of them than one site has"
