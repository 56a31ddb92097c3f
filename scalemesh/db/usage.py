"""What uses how much of the blob store, by project and by kind of blob. SQL only."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from scalemesh.db.blobs import Amount, BlobKind
from scalemesh.db.database import Database, Transaction

PROJECTS: Final = "SELECT id, name FROM project ORDER BY name"
OF_PROJECT: Final = """
SELECT kind, count(*) AS n, sum(size_bytes) AS size_bytes FROM blob
WHERE state = 1 AND id IN (
    SELECT hold.blob FROM holder JOIN hold ON hold.holder = holder.id WHERE holder.project_id = :project
) GROUP BY kind
"""
OF_ALL: Final = """
SELECT kind, count(*) AS n, sum(size_bytes) AS size_bytes FROM blob
WHERE state = 1 AND EXISTS (SELECT 1 FROM hold WHERE hold.blob = blob.id) GROUP BY kind
"""
NOBODYS: Final = """
SELECT count(*) AS n, coalesce(sum(size_bytes), 0) AS size_bytes FROM blob
WHERE NOT EXISTS (SELECT 1 FROM hold WHERE hold.blob = blob.id)
"""

Kinds = Mapping[BlobKind, Amount]


@dataclass(frozen=True, slots=True)
class Usage:
    """Blobs by kind: of each project by name, of all together (each counted once), and those that nobody holds."""

    projects: Mapping[str, Kinds]
    all: Kinds
    nobodys: Amount


async def usage(database: Database) -> Usage:
    """Count them all, beside everything else: a million blobs take seconds.

    Raises:
        UnreachableError: the disk fails.
    """
    async with database.aside() as reader:
        projects = {row["name"]: await _of_project(reader, row["id"]) for row in await reader.all(PROJECTS)}
        row = await reader.one(NOBODYS)
        nobodys = Amount(row["n"], row["size_bytes"]) if row else Amount()
        return Usage(projects, _kinds(await reader.all(OF_ALL)), nobodys)


async def _of_project(reader: Transaction, project: str) -> Kinds:
    return _kinds(await reader.all(OF_PROJECT, {"project": project}))


def _kinds(rows: list[sqlite3.Row]) -> Kinds:
    return {BlobKind(row["kind"]): Amount(row["n"], row["size_bytes"]) for row in rows}
