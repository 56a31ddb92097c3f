"""The database room: every statement fits the schema, transactions are whole, migrations run once."""

import asyncio
import importlib
import pkgutil
import re
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import scalemesh.db
from scalemesh.db.database import Database, open_database
from scalemesh.errors import ConfigError, ConflictError, NotFoundError

STATEMENTS = [
    pytest.param(value, id=f"{module.name}.{name}")
    for module in pkgutil.iter_modules(scalemesh.db.__path__)
    if not module.ispkg
    for name, value in vars(importlib.import_module(f"scalemesh.db.{module.name}")).items()
    if name.isupper() and isinstance(value, str)
]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "x.db") as opened:
        yield opened


@pytest.mark.parametrize("sql", STATEMENTS)
async def test_every_statement_fits_the_schema(database: Database, sql: str) -> None:
    names = re.findall(r":([a-z_0-9]+)", sql)
    async with database.transaction() as tx:
        rows = await tx.all("EXPLAIN " + sql, dict.fromkeys(names))
    assert rows


async def test_an_exception_undoes_the_whole_transaction(database: Database) -> None:
    with pytest.raises(ConflictError):
        async with database.transaction() as tx:
            await tx.run("UPDATE counter SET value = 7 WHERE name = 'generation'")
            raise ConflictError("no")
    row = await database.one("SELECT value FROM counter WHERE name = 'generation'")
    assert row is not None
    assert row["value"] == 0


async def test_a_cancelled_transaction_leaves_the_writer_usable(database: Database) -> None:
    """Cancelling at any await inside a transaction neither commits nor blocks what follows."""
    for steps in range(8):
        task = asyncio.create_task(_slow_update(database))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(30), database.transaction() as tx:
            row = await tx.one("SELECT value FROM counter WHERE name = 'generation'")
            assert row is not None
            assert row["value"] == 0


async def _slow_update(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.run("UPDATE counter SET value = value + 1 WHERE name = 'generation'")
        await asyncio.Event().wait()


async def test_transactions_wait_for_each_other(database: Database) -> None:
    async def bump() -> None:
        async with database.transaction() as tx:
            row = await tx.one("SELECT value FROM counter WHERE name = 'generation'")
            assert row is not None
            await tx.run("UPDATE counter SET value = :v WHERE name = 'generation'", {"v": row["value"] + 1})

    await asyncio.gather(*(bump() for _ in range(50)))
    row = await database.one("SELECT value FROM counter WHERE name = 'generation'")
    assert row is not None
    assert row["value"] == 50


async def test_opening_again_keeps_everything(tmp_path: Path) -> None:
    for expected in (0, 1):
        async with open_database(tmp_path / "y.db") as database, database.transaction() as tx:
            row = await tx.one("SELECT value FROM counter WHERE name = 'generation'")
            assert row is not None
            assert row["value"] == expected
            await tx.run("UPDATE counter SET value = 1 WHERE name = 'generation'")


async def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    async with open_database(tmp_path / "z.db"):
        pass
    with sqlite3.connect(tmp_path / "z.db") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(ConfigError, match="newer version"):
        async with open_database(tmp_path / "z.db"):
            pass


async def test_a_file_that_is_no_database_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "w.db").write_bytes(b"no database, but long enough to have a header" * 100)
    with pytest.raises(ConfigError, match="cannot be opened"):
        async with open_database(tmp_path / "w.db"):
            pass


async def test_nobody_else_on_the_machine_may_read_it(tmp_path: Path) -> None:
    """Also one that an earlier version left open to all."""
    (tmp_path / "old.db").touch(mode=0o644)
    async with open_database(tmp_path / "old.db"), open_database(tmp_path / "new.db"):
        files = [file for file in tmp_path.iterdir() if file.name.startswith(("old.db", "new.db"))]
        assert len(files) == 6
        assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o600"}


async def test_a_row_of_something_deleted_is_told_as_that(database: Database) -> None:
    with pytest.raises(NotFoundError, match="deleted meanwhile"):
        async with database.transaction() as tx:
            await tx.run("INSERT INTO holder (name, project_id) VALUES ('x', 'prj_gone')")


async def test_what_breaks_while_it_is_open_is_not_told_as_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the disk"):
        async with open_database(tmp_path / "v.db"):
            raise OSError("the disk of somebody else")
