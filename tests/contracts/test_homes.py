"""Where the blobs live: the database's word, the config's, and a check that says nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from scalemesh import wiring
from scalemesh.config import Config
from scalemesh.db.database import open_database
from scalemesh.db.homes import Home, begin_move, set_home
from scalemesh.errors import ConfigError
from scalemesh.services import homes
from scalemesh.services.home_store import Place
from scalemesh.services.left_caches import GONE, LeftCaches
from scalemesh.services.openings import openings
from tests.contracts.moves import TO, put, two, utc_now
from tests.contracts.openers import STORES

AWAY = {"endpoint": "http://127.0.0.1:9", "bucket": "sites", "access_key": "key", "secret_key": "secret"}


async def test_the_databases_word_outweighs_a_config_that_has_not_followed(tmp_path: Path) -> None:
    async with two(tmp_path) as both:
        await put(both.home, b"there")
        async with both.database.transaction() as tx:
            await tx.run("INSERT INTO blob (sha256, size_bytes, state) VALUES ('ab', 1, 1)")
        assert (await both.move())["well"]
    async with open_database(tmp_path / "scalemesh.db") as database:
        found = await homes.settle(database, "disk", utc_now)
        assert found.kind == TO
        (finding,) = homes.finding_of(found, "disk")
        assert finding.ok
        assert "live in other" in finding.what
        assert finding.fix == 'set store.kind = "other" in the config'
        assert homes.finding_of(await homes.settle(database, TO, utc_now), TO) == []
        with pytest.raises(ConfigError, match='the blobs live in "other"'):  # it had followed, and was changed again
            await homes.settle(database, "disk", utc_now)


async def test_a_check_of_another_kind_leads_no_later_start_to_a_store_without_the_blobs(tmp_path: Path) -> None:
    """As of somebody who edits the config, runs `scalemesh check`, and restarts the daemon some deployments later."""
    async with open_database(tmp_path / "scalemesh.db") as database:
        await homes.settle(database, "disk", utc_now)
    edited = replace(Config(), data_dir=tmp_path, store={"kind": "minio", "minio": AWAY})
    await wiring.check(edited, executor="local")
    async with open_database(tmp_path / "scalemesh.db") as database:
        async with database.transaction() as tx:
            await tx.run("INSERT INTO blob (sha256, size_bytes, state) VALUES ('ab', 1, 1)")
        with pytest.raises(ConfigError, match='the blobs live in "disk"'):
            await homes.settle(database, "minio", utc_now)


async def test_another_kind_in_the_config_is_refused_once_there_are_blobs(tmp_path: Path) -> None:
    async with open_database(tmp_path / "scalemesh.db") as database:
        assert (await homes.settle(database, "disk", utc_now)).kind == "disk"
        assert (await homes.settle(database, TO, utc_now)).kind == TO
        async with database.transaction() as tx:
            await tx.run("INSERT INTO blob (sha256, size_bytes, state) VALUES ('ab', 1, 1)")
        with pytest.raises(ConfigError) as raised:
            await homes.settle(database, "disk", utc_now)
        assert "store migrate --to disk" in raised.value.fix


async def test_caches_that_a_store_or_a_move_needs_stay_and_so_does_what_is_no_cache(tmp_path: Path) -> None:
    for name in ("home", "target", "open", "past"):
        (tmp_path / "cache" / name / "blobs").mkdir(parents=True)
        (tmp_path / "cache" / name / "locks").touch()
    (tmp_path / "cache" / "lost+found").mkdir()
    (tmp_path / "cache" / f"{GONE}cut-off" / "blobs").mkdir(parents=True)

    @asynccontextmanager
    async def open_kind(kind: str) -> AsyncIterator[Place]:
        async with STORES["disk"](tmp_path) as store:
            yield Place(kind, store, store)

    async with open_database(tmp_path / "main.db") as database, openings(open_kind) as stores:
        async with database.transaction() as tx:
            await set_home(tx, Home(kind="home", since_at=utc_now()))
            await begin_move(tx, "target", utc_now(), despite_damage=False)
        await stores.open("open")
        left = LeftCaches(tmp_path, database, stores)
        assert [path.name for path in await left.find()] == ["past"]
        assert await left.remove() == 1
        assert await left.remove() == 0
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"home", "target", "open", "lost+found"}
