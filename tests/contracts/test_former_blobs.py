"""A database from before blobs were held: all that it knows is held by its projects, and nothing is collected."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Final

from scalemesh.db.blobs import Amount, Holder
from scalemesh.db.database import open_database
from scalemesh.services.collector import Collector
from scalemesh.services.holdings import Holdings
from scalemesh.values import DeploymentId, Digest, ProjectId
from tests.contracts.openers import STORES

BEFORE: Final = 4  #: the last migration of that time
OWNED, SHARED, LISTING, MANIFEST, WINDOW = (Digest(letter * 64) for letter in "abcde")
ROWS: Final = """
INSERT INTO user (id, name, created_at) VALUES ('usr_1', 'owner', 0);
INSERT INTO project (id, name, user_id, created_at, asset_window) VALUES
    ('prj_1', 'one', 'usr_1', 0, :window), ('prj_2', 'two', 'usr_1', 0, NULL);
INSERT INTO deployment (id, project_id, user_id, environment, state, source_kind, source_ready, settings, memory_bytes,
    place, listing, manifest, created_at)
    VALUES ('dpl_1', 'prj_1', 'usr_1', 'production', 'ready', 'git', 1, '{}', 1, 1, :listing, :manifest, 0);
INSERT INTO project_blob (project_id, sha256, size_bytes) VALUES
    ('prj_1', :owned, 10), ('prj_1', :shared, 20), ('prj_2', :shared, 20);
"""


def database_of_that_time(path: Path) -> None:
    scripts = sorted(file.name for file in files("scalemesh.db.migrations").iterdir() if file.name.endswith(".sql"))
    named = {"owned": OWNED, "shared": SHARED, "listing": LISTING, "manifest": MANIFEST, "window": WINDOW}
    with closing(sqlite3.connect(path)) as connection:
        for name in scripts[:BEFORE]:
            connection.executescript(files("scalemesh.db.migrations").joinpath(name).read_text())
        connection.execute(f"PRAGMA user_version = {BEFORE}")
        for statement in filter(str.strip, ROWS.split(";")):
            connection.execute(statement, named)
        connection.commit()


async def test_all_that_was_published_before_is_held_by_its_project(tmp_path: Path) -> None:
    database_of_that_time(tmp_path / "scalemesh.db")
    async with open_database(tmp_path / "scalemesh.db") as database, STORES["disk"](tmp_path) as store:
        holdings = Holdings(database, store)
        now = datetime.now(UTC)
        collector = Collector(database, store, holdings, grace=timedelta(0), now=lambda: now)
        assert await collector.preview() == Amount()
        assert await collector.run() == Amount()
        mine = Holder("dpl_1", ProjectId("prj_1"), DeploymentId("dpl_1"))
        everything = [OWNED, SHARED, LISTING, MANIFEST, WINDOW]
        assert await holdings.pin(mine, everything) == {OWNED: 10, SHARED: 20, LISTING: 0, MANIFEST: 0, WINDOW: 0}
        async with database.transaction() as tx:
            await tx.run("DELETE FROM project WHERE id = 'prj_1'")
        assert (await collector.run()).count == 4
        rows = await database.all("SELECT sha256 FROM blob")
        assert [row["sha256"] for row in rows] == [SHARED], "the other project needs it"
