"""Files that were proven right once and have rotted on this machine's disk since: no small one is served."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scalemesh.edge.cache import BlobCache
from scalemesh.errors import DamagedError
from scalemesh.services.home_store import HomeStore, Place
from tests.contracts.near import Rig
from tests.contracts.openers import STORES
from tests.contracts.test_moving import damage_file
from tests.contracts.test_stores import put, read
from tests.contracts.visitors import Files
from tests.contracts.visits import FILES, Site, open_site

DATA = b"<h1>as it was</h1>" * 1000


async def test_what_has_rotted_in_the_cache_is_fetched_again(rig: Rig) -> None:
    blob = await put(rig.far, DATA)
    async with rig.near() as near:
        assert await read(near, blob.sha256) == DATA
        damage_file(near.path(blob.sha256))
        home = HomeStore(Place("far", near, rig.far))
        assert await BlobCache(home).read(blob.sha256) == DATA
        assert rig.cached() == {blob.sha256}  # which looks at the bytes too
    assert rig.door.reads() == [blob.sha256] * 2


async def test_what_the_store_itself_has_damaged_is_told_and_not_served(tmp_path: Path) -> None:
    async with STORES["disk"](tmp_path) as store:
        blob = await put(store, DATA)
        damage_file(tmp_path / "store" / "blobs" / blob.sha256[:2] / blob.sha256)
        home = HomeStore(Place("disk", store, store))
        with pytest.raises(DamagedError) as caught:
            await BlobCache(home).read(blob.sha256)
        assert "store verify --mend" in caught.value.fix


@pytest.fixture
async def rotten(tmp_path: Path) -> AsyncIterator[Site]:
    """A site of which one small file has rotted on this machine."""
    files = Files(tmp_path)
    async with open_site(files.store, file_of=files.path) as opened:
        digest = next(name for name, data in files.store.blobs.items() if data == FILES["about.html"])
        wrong = bytes([FILES["about.html"][0] ^ 1]) + FILES["about.html"][1:]
        files.path(digest).write_bytes(wrong)
        files.store.blobs[digest] = wrong
        yield opened


@pytest.mark.parametrize("more", [(), ("Range: bytes=1-5",)], ids=["whole", "range"])
async def test_the_quick_way_serves_nothing_that_has_rotted(rotten: Site, more: tuple[str, ...]) -> None:
    for _ in range(3):
        answer = await rotten.get("/about", *more)
        assert answer.status == 503
        assert FILES["about.html"][1:6] not in answer.body
    assert (await rotten.get("/")).status == 200
