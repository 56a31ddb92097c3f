"""Where the blobs live: the database's word, the config's, and a check that says nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from scalemesh import wiring
from scalemesh.config import Config
from scalemesh.db.database import open_database
from scalemesh.errors import ConfigError
from scalemesh.services import homes
from tests.contracts.moves import TO, put, two, utc_now

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
