"""Asset windows in the database: which deployments were production and left, and the table of their files."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from scalemesh.db.columns import digest_or_none, from_ms, to_ms
from scalemesh.db.database import Transaction
from scalemesh.values import DeploymentId, Digest, ProjectId

LIVE: Final = """
SELECT deployment.id, deployment.manifest, deployment.encodings, deployment.left_at
FROM alias JOIN deployment ON deployment.id = alias.deployment_id
WHERE alias.project_id = :project AND alias.kind = 'production' AND deployment.state = 'ready' LIMIT 1
"""
LEFT: Final = """
SELECT id, manifest, encodings, left_at FROM deployment
WHERE project_id = :project AND left_at > :since AND state = 'ready' ORDER BY left_at DESC, sequence DESC LIMIT :limit
"""
TABLE: Final = "SELECT asset_window FROM project WHERE id = :project"
LEAVE: Final = "UPDATE deployment SET left_at = :left_at WHERE id = :id"
SET: Final = "UPDATE project SET asset_window = :asset_window WHERE id = :project"
FORGET: Final = "UPDATE deployment SET left_at = NULL WHERE project_id = :project AND left_at IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Left:
    """A deployment that is production, or was."""

    deployment: DeploymentId
    manifest: Digest
    encodings: Digest | None
    at: datetime | None  #: when it ceased to be production; None: never yet


@dataclass(frozen=True, slots=True)
class Standing:
    """What a project's window follows from, and the table as it is."""

    live: Left | None
    left: tuple[Left, ...]  #: the last to leave first
    table: Digest | None


async def standing(tx: Transaction, project: ProjectId, *, since: datetime, limit: int) -> Standing:
    """How it stands with the project; *left* since *since*, at most *limit*."""
    live = await tx.all(LIVE, {"project": project})
    left = await tx.all(LEFT, {"project": project, "since": to_ms(since), "limit": limit})
    table = await tx.all(TABLE, {"project": project})
    return Standing(
        live=_read(live[0]) if live else None,
        left=tuple(_read(row) for row in left),
        table=digest_or_none(table[0]["asset_window"]) if table else None,
    )


async def leave(tx: Transaction, deployment: DeploymentId, at: datetime) -> None:
    """Note that it ceased to be production."""
    await tx.run(LEAVE, {"id": deployment, "left_at": to_ms(at)})


async def put(tx: Transaction, project: ProjectId, table: Digest | None) -> None:
    """Name the blob of the project's table."""
    await tx.run(SET, {"project": project, "asset_window": table})


async def forget(tx: Transaction, project: ProjectId) -> None:
    """Nothing that left answers any more."""
    await tx.run(FORGET, {"project": project})
    await tx.run(SET, {"project": project, "asset_window": None})


def _read(row: sqlite3.Row) -> Left:
    return Left(
        DeploymentId(row["id"]),
        Digest(row["manifest"]),
        digest_or_none(row["encodings"]),
        None if row["left_at"] is None else from_ms(row["left_at"]),
    )
