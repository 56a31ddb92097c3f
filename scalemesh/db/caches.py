"""What builds keep for later builds: entries that name a blob, which each of them holds. SQL only."""

import json
import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from scalemesh.db.blobs import Holder
from scalemesh.db.columns import from_ms, to_ms
from scalemesh.db.database import Database, Transaction
from scalemesh.values import Blob, CacheEntry, CacheKind, Digest, NewCacheEntry, ProjectId

FIND: Final = """
SELECT cache.* FROM cache JOIN blob ON blob.sha256 = cache.sha256 AND blob.state = 1
WHERE cache.project_id = :project AND cache.kind = :kind AND cache.is_whole
    AND cache.scope IN (SELECT value FROM json_each(:scopes))
    AND (cache.key = :key OR (:prefix != '' AND substr(cache.key, 1, length(:prefix)) = :prefix))
ORDER BY cache.key = :key DESC, cache.scope = :own DESC, cache.made_at DESC, cache.id DESC LIMIT 1
"""
MAY_READ: Final = """
SELECT 1 FROM cache JOIN blob ON blob.sha256 = cache.sha256 AND blob.state = 1
WHERE cache.project_id = :project AND cache.is_whole AND cache.sha256 = :sha256 AND cache.size_bytes = :size_bytes
    AND cache.scope IN (SELECT value FROM json_each(:scopes)) LIMIT 1
"""
SIZE: Final = """
SELECT size_bytes FROM cache WHERE project_id = :project AND is_whole AND sha256 = :sha256
    AND scope IN (SELECT value FROM json_each(:scopes)) LIMIT 1
"""
LIST: Final = "SELECT * FROM cache WHERE project_id = :project AND is_whole ORDER BY used_at DESC, id DESC"
TOTAL: Final = """
SELECT count(*) AS n, coalesce(sum(size_bytes), 0) AS size_bytes FROM cache WHERE project_id = :project AND is_whole
"""
ADD: Final = """
INSERT INTO cache (project_id, scope, kind, key, sha256, size_bytes, unpacked_bytes, seconds, made_at, used_at)
VALUES (:project, :scope, :kind, :key, :sha256, :size_bytes, :unpacked_bytes, :seconds, :now, :now) RETURNING id
"""
COMPLETE: Final = "UPDATE cache SET is_whole = 1 WHERE id = :id"
USED: Final = "UPDATE cache SET used_at = :now WHERE id = :id"
SAME_KEY: Final = """
SELECT older.id FROM cache AS older JOIN cache AS new ON new.id = :id
WHERE older.id < new.id AND older.is_whole AND older.project_id = new.project_id AND older.kind = new.kind
    AND older.scope = new.scope AND older.key = new.key
"""
MANY: Final = """
SELECT other.id FROM cache AS other JOIN cache AS new ON new.id = :id
WHERE other.is_whole AND other.project_id = new.project_id AND other.kind = new.kind AND other.scope = new.scope
ORDER BY other.id = new.id DESC, other.used_at DESC, other.id DESC LIMIT -1 OFFSET :most
"""
UNUSED: Final = """
SELECT id, sha256, size_bytes FROM cache WHERE used_at < :before OR (NOT is_whole AND made_at < :stale)
"""
OF_PROJECT: Final = "SELECT id FROM cache WHERE project_id = :project"
OF_BLOB: Final = "SELECT id FROM cache WHERE project_id = :project AND sha256 = :sha256"
DELETE: Final = "DELETE FROM cache WHERE id IN (SELECT value FROM json_each(:ids))"
RELEASE_ALL: Final = "DELETE FROM holder WHERE name IN (SELECT 'cache:' || value FROM json_each(:ids))"


class CacheRows:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def find(
        self, project: ProjectId, scopes: Sequence[str], kind: CacheKind, key: str, prefix: str
    ) -> CacheEntry | None:
        """The best of *scopes*, the first of which counts most: that of *key*, or else the newest with *prefix*."""
        params = {
            **{"project": project, "scopes": json.dumps(scopes), "own": scopes[0] if scopes else ""},
            **{"kind": kind, "key": key, "prefix": prefix},
        }
        row = await self._db.one(FIND, params)
        return _read(row) if row else None

    async def may_read(self, project: ProjectId, scopes: Sequence[str], blob: Blob) -> bool:
        """Whether an entry of *scopes* names *blob*, and it is in the store."""
        params = {
            **{"project": project, "scopes": json.dumps(scopes)},
            **{"sha256": blob.sha256, "size_bytes": blob.size_bytes},
        }
        return await self._db.one(MAY_READ, params) is not None

    async def size_of(self, project: ProjectId, scopes: Sequence[str], sha256: Digest) -> int | None:
        """How large the blob is, if an entry of *scopes* names it."""
        row = await self._db.one(SIZE, {"project": project, "scopes": json.dumps(scopes), "sha256": sha256})
        return int(row["size_bytes"]) if row else None

    async def of_project(self, project: ProjectId) -> list[CacheEntry]:
        """All of them, the last used one first."""
        return [_read(row) for row in await self._db.all(LIST, {"project": project})]

    async def total(self, project: ProjectId) -> tuple[int, int]:
        """How many, and their bytes."""
        row = await self._db.one(TOTAL, {"project": project})
        return (row["n"], row["size_bytes"]) if row else (0, 0)

    async def unused(self, before: datetime, stale: datetime) -> list[tuple[int, Blob]]:
        """Entries not used since *before*, or begun before *stale* and never whole."""
        rows = await self._db.all(UNUSED, {"before": to_ms(before), "stale": to_ms(stale)})
        return [(row["id"], Blob(sha256=Digest(row["sha256"]), size_bytes=row["size_bytes"])) for row in rows]

    async def with_blob(self, project: ProjectId, sha256: Digest) -> list[int]:
        rows = await self._db.all(OF_BLOB, {"project": project, "sha256": sha256})
        return [row["id"] for row in rows]


async def add(tx: Transaction, project: ProjectId, scope: str, new: NewCacheEntry, now: datetime) -> int:
    """Note that *new* is being kept; returns its id. It is found once it is complete.

    Raises:
        NotFoundError: the project is deleted (when the transaction ends).
    """
    params = {
        **{"project": project, "scope": scope, "kind": new.kind, "key": new.key, "seconds": new.seconds},
        **{"sha256": new.blob.sha256, "size_bytes": new.blob.size_bytes, "unpacked_bytes": new.unpacked_bytes},
        "now": to_ms(now),
    }
    return int((await tx.all(ADD, params))[0]["id"])


async def complete(tx: Transaction, entry: int) -> bool:
    """Let it be found; false if it was deleted meanwhile."""
    return await tx.run(COMPLETE, {"id": entry}) > 0


async def outdone(tx: Transaction, entry: int, most: int) -> list[int]:
    """Those that *entry* takes the place of: of the same key, and all but *most* of its scope and kind."""
    same = await tx.all(SAME_KEY, {"id": entry})
    many = await tx.all(MANY, {"id": entry, "most": most})
    return [row["id"] for row in (*same, *many)]


async def of_project(tx: Transaction, project: ProjectId) -> list[CacheEntry]:
    """As ``CacheRows.of_project``, inside a transaction."""
    return [_read(row) for row in await tx.all(LIST, {"project": project})]


async def ids_of_project(tx: Transaction, project: ProjectId) -> list[int]:
    """All of them, also those that are being kept."""
    return [row["id"] for row in await tx.all(OF_PROJECT, {"project": project})]


async def used(tx: Transaction, entry: int, now: datetime) -> None:
    await tx.run(USED, {"id": entry, "now": to_ms(now)})


async def delete(tx: Transaction, entries: Collection[int]) -> None:
    """Forget *entries*, and let go of their blobs. Repeatable."""
    if entries:
        params = {"ids": json.dumps(list(entries))}
        await tx.run(RELEASE_ALL, params)
        await tx.run(DELETE, params)


def holder_of(entry: int, project: ProjectId) -> Holder:
    """Who holds the blob of an entry."""
    return Holder(f"cache:{entry}", project)


def _read(row: sqlite3.Row) -> CacheEntry:
    return CacheEntry(
        id=row["id"],
        project=ProjectId(row["project_id"]),
        scope=row["scope"],
        kind=CacheKind(row["kind"]),
        key=row["key"],
        blob=Blob(sha256=Digest(row["sha256"]), size_bytes=row["size_bytes"]),
        unpacked_bytes=row["unpacked_bytes"],
        seconds=row["seconds"],
        made_at=from_ms(row["made_at"]),
        used_at=from_ms(row["used_at"]),
    )
