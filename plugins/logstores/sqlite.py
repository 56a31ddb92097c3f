"""Logs in one SQLite file of their own: the default log store, nothing to install.

One row is one block, its lines packed together, so that a hundred thousand lines are some hundred rows.
"""

import asyncio
import json
import re
import sqlite3
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, LiteralString, ParamSpec, Self, TypeVar
from uuid import uuid4

import aiosqlite

from scalemesh.errors import RefusedError, ScaleMeshError, UnreachableError
from scalemesh.ports import Finding, LogStore
from scalemesh.values import DeploymentId, LogBlock, LogLine

P = ParamSpec("P")
T = TypeVar("T")

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)
MAX_LINES: Final = 10_000  #: of one answer
SEARCH_BLOCKS: Final = 16  #: unpacked at a time
SGR: Final = re.compile(r"\x1b\[[0-9;:]*m")

VERSION: Final = 1
# NORMAL: a power failure may take the last moments of a log, never its order, and an append waits for no disk.
PREPARE: Final = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA journal_size_limit = 16777216;
"""
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS block (
  id INTEGER PRIMARY KEY,
  deployment TEXT NOT NULL,
  first INTEGER NOT NULL,    -- number of its first line
  last INTEGER NOT NULL,     -- of its last; first - 1 where it has no lines
  attempt INTEGER NOT NULL,
  seq INTEGER,
  closes INTEGER NOT NULL,
  payload BLOB NOT NULL      -- zlib of JSON: [[milliseconds since 1970 UTC, step, stream, text], ...]
) STRICT;
CREATE INDEX IF NOT EXISTS block_by_number ON block (deployment, last);
CREATE UNIQUE INDEX IF NOT EXISTS block_once ON block (deployment, attempt, seq) WHERE seq IS NOT NULL;
PRAGMA user_version = 1;
"""
# One statement is one transaction: it takes the write lock before it looks for the last number.
APPEND: Final = """
INSERT INTO block (deployment, first, last, attempt, seq, closes, payload)
SELECT :deployment, head + 1, head + :count, :attempt, :seq, :closes, :payload
FROM (SELECT coalesce(max(last), 0) AS head FROM block WHERE deployment = :deployment)
WHERE true
ON CONFLICT (deployment, attempt, seq) WHERE seq IS NOT NULL DO NOTHING
RETURNING first
"""
READ: Final = """
SELECT first, payload FROM block
WHERE deployment = :deployment AND last > :after AND last >= first AND first <= :after + :limit
ORDER BY last
"""
PAGE: Final = """
SELECT first, payload, last FROM block
WHERE deployment = :deployment AND last > :after AND last >= first
ORDER BY last LIMIT :blocks
"""
DROP: Final = "DELETE FROM block WHERE deployment = :deployment"
SHRINK: Final = "PRAGMA incremental_vacuum(4096)"


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteConfig:
    """Where the logs lie."""

    path: Path  #: a file of the logs' own; made if absent


class SqliteLogStore:
    """Implements LogStore. One connection writes, one reads, so that a long search holds up no build."""

    Config = SqliteConfig

    def __init__(
        self,
        config: SqliteConfig,
        writer: aiosqlite.Connection,
        reader: aiosqlite.Connection,
        packers: ThreadPoolExecutor,
    ) -> None:
        self._path = config.path
        self._writer, self._reader, self._packers = writer, reader, packers

    @classmethod
    @asynccontextmanager
    async def open(cls, config: SqliteConfig) -> AsyncIterator[Self]:
        """Open or make the file, yield the store.

        Raises:
            RefusedError: a newer version of Scale Mesh wrote the file.
            UnreachableError: it cannot be opened.
        """
        async with AsyncExitStack() as opened:
            packers = ThreadPoolExecutor(2, "log-pack")
            opened.push_async_callback(asyncio.to_thread, packers.shutdown)
            try:
                await asyncio.wrap_future(packers.submit(_make_private, config.path))
                writer = await opened.enter_async_context(_connect(config.path))
                await _prepare(writer, config.path)
                reader = await opened.enter_async_context(_connect(config.path))
            except (OSError, sqlite3.Error) as error:
                raise _unreachable(config.path, error) from error
            yield cls(config, writer, reader, packers)

    async def append(self, block: LogBlock, *, attempt: int = 0, seq: int | None = None) -> LogBlock | None:
        times = [(line.at - EPOCH) // MILLISECOND for line in block.lines]
        row = {
            "deployment": block.deployment,
            "count": len(block.lines),
            "attempt": attempt,
            "seq": seq,
            "closes": int(block.closes),
            "payload": await self._in_thread(_pack, times, block.lines),
        }
        kept = await self._rows(self._writer, APPEND, row)
        if not kept:
            return None
        first = int(kept[0][0])
        lines = [
            LogLine(
                number=first + offset,
                at=EPOCH + at * MILLISECOND,
                step=line.step,
                stream=line.stream,
                text=line.text,
            )
            for offset, (at, line) in enumerate(zip(times, block.lines, strict=True))
        ]
        return replace(block, lines=lines)

    async def read(self, deployment: DeploymentId, after: int = 0, limit: int = 1000) -> Sequence[LogLine]:
        wanted = range(max(0, after) + 1, max(0, after) + 1 + max(0, min(limit, MAX_LINES)))
        if not wanted:
            return []
        which = {"deployment": deployment, "after": wanted.start - 1, "limit": len(wanted)}
        rows = await self._rows(self._reader, READ, which)
        return await self._in_thread(_unpack, rows, lambda line: line.number in wanted)

    async def search(self, deployment: DeploymentId, text: str, limit: int = 100) -> Sequence[LogLine]:
        sought, limit = text.casefold(), max(0, min(limit, MAX_LINES))
        found: list[LogLine] = []
        after = 0
        while len(found) < limit:
            which = {"deployment": deployment, "after": after, "blocks": SEARCH_BLOCKS}
            rows = await self._rows(self._reader, PAGE, which)
            if not rows:
                break
            found += await self._in_thread(_unpack, rows, lambda line: sought in SGR.sub("", line.text).casefold())
            after = int(rows[-1][2])
        return found[:limit]

    async def drop(self, deployment: DeploymentId) -> None:
        await self._rows(self._writer, DROP, {"deployment": deployment})
        await self._rows(self._writer, SHRINK, {})

    async def check(self) -> Sequence[Finding]:
        trial = DeploymentId(f"dpl_check{uuid4().hex}")
        line = LogLine(number=0, at=datetime.now(UTC), step="queue", stream="system", text="check")
        try:
            kept = await self.append(LogBlock(deployment=trial, lines=[line]))
            read = await self.read(trial)
            await self.drop(trial)
        except ScaleMeshError as error:
            return [Finding(ok=False, what=f"{error.what} ({error.why})", fix=error.fix)]
        intact = kept is not None and list(read) == list(kept.lines)
        fix = "" if intact else "restore the file"
        return [Finding(ok=intact, what=f"a block was written to {self._path} and read", fix=fix)]

    async def _rows(
        self, connection: aiosqlite.Connection, sql: LiteralString, values: Mapping[str, object]
    ) -> Sequence[sqlite3.Row]:
        try:
            return list(await connection.execute_fetchall(sql, dict(values)))
        except sqlite3.Error as error:
            raise _unreachable(self._path, error) from error

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Packing five hundred lines takes milliseconds: not in the event loop."""
        return await asyncio.wrap_future(self._packers.submit(function, *args, **kwargs))


@asynccontextmanager
async def _connect(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    async with aiosqlite.connect(path, isolation_level=None, timeout=10) as connection:
        await connection.execute("PRAGMA cache_size = -2048")
        yield connection


async def _prepare(writer: aiosqlite.Connection, path: Path) -> None:
    await writer.executescript(PREPARE)
    found = next(iter(await writer.execute_fetchall("PRAGMA user_version")))[0]
    if found > VERSION:
        raise RefusedError(
            f"the logs in {path} have format {found}, newer than this version knows ({VERSION})",
            why="a newer version of Scale Mesh wrote them",
            fix="install that version again, or set [logs.sqlite] path to a new file",
        )
    await writer.executescript(SCHEMA)


def _make_private(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)  # SQLite gives its -wal and -shm files the same rights


def _unreachable(path: Path, error: Exception) -> UnreachableError:
    return UnreachableError(
        f"the log file {path} cannot be used",
        why=str(error),
        fix="look at the file's owner and rights, and at the room on its disk",
    )


def _pack(times: Iterable[int], lines: Iterable[LogLine]) -> bytes:
    fields = [[at, line.step, line.stream, line.text] for at, line in zip(times, lines, strict=True)]
    return zlib.compress(json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode(), 1)


def _unpack(rows: Iterable[sqlite3.Row], wanted: Callable[[LogLine], bool]) -> list[LogLine]:
    lines = (
        LogLine(number=first + offset, at=EPOCH + at * MILLISECOND, step=step, stream=stream, text=text)
        for first, payload, *_ in rows
        for offset, (at, step, stream, text) in enumerate(json.loads(zlib.decompress(payload)))
    )
    return [line for line in lines if wanted(line)]


if TYPE_CHECKING:
    _fits: type[LogStore] = SqliteLogStore
