"""Opens the main database, migrates it, and gives out reads and the one writer's transactions."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Final, LiteralString

import aiosqlite

from scalemesh.errors import ConfigError, NotFoundError, UnreachableError

Params = Mapping[str, object]
BUSY_MS: Final = 10_000


class Transaction:
    """Statements that happen together or not at all."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def run(self, sql: LiteralString, params: Params | None = None) -> int:
        """Execute and return how many rows changed."""
        async with self._connection.execute(sql, params or {}) as cursor:
            return cursor.rowcount

    async def run_many(self, sql: LiteralString, rows: Sequence[Params]) -> None:
        """Execute once for each of *rows*."""
        await self._connection.executemany(sql, rows)

    async def all(self, sql: LiteralString, params: Params | None = None) -> list[sqlite3.Row]:
        return list(await self._connection.execute_fetchall(sql, params or {}))

    async def one(self, sql: LiteralString, params: Params | None = None) -> sqlite3.Row | None:
        rows = await self.all(sql, params)
        return rows[0] if rows else None


class Database:
    """One writer, one reader, WAL between them: a read never waits for a write."""

    def __init__(self, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        self._writer, self._reader = writer, reader
        self._writing = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """BEGIN IMMEDIATE ... COMMIT; any exception rolls back. Transactions wait for each other.

        Raises:
            UnreachableError: the disk is full or fails; nothing was changed.
            NotFoundError: a row belongs to one that was deleted meanwhile; nothing was changed.
        """
        async with self._writing:
            try:
                try:
                    await self._writer.execute("BEGIN IMMEDIATE")
                    yield Transaction(self._writer)
                    await self._writer.execute("COMMIT")
                except BaseException:
                    # Also after a cancelled BEGIN, which the connection's thread may still carry out.
                    await asyncio.shield(self._writer.rollback())
                    raise
            except sqlite3.OperationalError as error:
                raise UnreachableError(
                    "the database cannot be written", why=str(error), fix="look for a full or read-only disk"
                ) from error
            except sqlite3.IntegrityError as error:
                if error.sqlite_errorname != "SQLITE_CONSTRAINT_FOREIGNKEY":
                    raise
                raise NotFoundError("what this belongs to was deleted meanwhile") from error

    async def all(self, sql: LiteralString, params: Params | None = None) -> list[sqlite3.Row]:
        """The rows of a query, as the last transaction left them.

        Raises:
            UnreachableError: the disk fails.
        """
        try:
            return list(await self._reader.execute_fetchall(sql, params or {}))
        except sqlite3.OperationalError as error:
            raise UnreachableError("the database cannot be read", why=str(error), fix="look at its disk") from error

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[Transaction]:
        """A reader of its own, for questions that take seconds: nobody waits for them.

        Raises:
            UnreachableError: the disk fails.
        """
        try:
            files = await self._reader.execute_fetchall("PRAGMA database_list")
            async with _connected(Path(next(iter(files))["file"])) as connection:
                await connection.execute("PRAGMA query_only = ON")
                yield Transaction(connection)
        except sqlite3.OperationalError as error:
            raise UnreachableError("the database cannot be read", why=str(error), fix="look at its disk") from error

    async def one(self, sql: LiteralString, params: Params | None = None) -> sqlite3.Row | None:
        """The first row of ``all``."""
        rows = await self.all(sql, params)
        return rows[0] if rows else None


@asynccontextmanager
async def open_database(path: Path) -> AsyncIterator[Database]:
    """Open *path*, made and migrated where needed, and close it at the end.

    Raises:
        ConfigError: it cannot be opened, or a newer version of the program has migrated it.
    """
    async with AsyncExitStack() as opened:
        try:
            await asyncio.to_thread(_make_private, path)
            writer = await opened.enter_async_context(_connected(path))
            await _migrate(writer)
            reader = await opened.enter_async_context(_connected(path))
            await reader.execute("PRAGMA query_only = ON")
        except (OSError, sqlite3.DatabaseError) as error:
            raise ConfigError(
                f"{path}: the database cannot be opened", why=str(error), fix="check the file and its folder's rights"
            ) from error
        yield Database(writer, reader)


def _make_private(path: Path) -> None:
    """Hashes of passwords are in it, and whoever has an account on this machine may come as far as its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.chmod(0o600)  # one that an earlier version made; SQLite gives its -wal and -shm files the same rights


@asynccontextmanager
async def _connected(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    async with aiosqlite.connect(path, isolation_level=None, cached_statements=256) as connection:
        connection.row_factory = sqlite3.Row
        await connection.execute("PRAGMA journal_mode = WAL")
        await connection.execute("PRAGMA synchronous = FULL")
        await connection.execute("PRAGMA foreign_keys = ON")
        await connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        yield connection


async def _migrate(connection: aiosqlite.Connection) -> None:
    """Run the numbered files above ``user_version``, each in one transaction with its new number."""
    scripts = sorted(
        (file for file in files("scalemesh.db.migrations").iterdir() if file.name.endswith(".sql")),
        key=lambda file: file.name,
    )
    async with connection.execute("PRAGMA user_version") as cursor:
        row = await cursor.fetchone()
    done = int(row[0]) if row else 0
    if done > len(scripts):
        raise ConfigError(
            "the database was written by a newer version",
            why=f"it has migration {done}, this program knows {len(scripts)}",
            fix="install the newer version again",
        )
    for number, script in enumerate(scripts[done:], done + 1):
        await connection.executescript(f"BEGIN IMMEDIATE; {script.read_text()}; PRAGMA user_version = {number}; COMMIT")
