"""Deployments as the rules of retention see them, and what those that are gone have left elsewhere. SQL only."""

import json
import sqlite3
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from scalemesh.db.columns import from_ms, from_ms_or_none, retention_from_json, to_ms
from scalemesh.db.database import Database, Transaction
from scalemesh.values import DeploymentId, Environment, OwnRetention, ProjectId, State

SELECT: Final = """
SELECT id, sequence, environment, state, kept, left_at, coalesce(finished_at, created_at) AS ended_at, log_dropped,
    EXISTS (
        SELECT 1 FROM alias WHERE alias.deployment_id = deployment.id AND alias.kind != 'permalink'
    ) AS shown
FROM deployment WHERE state IN ('ready', 'failed', 'canceled', 'superseded')
"""
OF_PROJECT: Final = SELECT + " AND project_id = :project ORDER BY sequence"
ONE: Final = SELECT + " AND id = :id"
PROJECTS: Final = "SELECT id, name, retention FROM project WHERE id > :after ORDER BY id LIMIT :limit"
LOG_DROPPED: Final = "UPDATE deployment SET log_dropped = 1 WHERE id = :id"
ALONE: Final = """
SELECT coalesce(sum(blob.size_bytes), 0) AS size_bytes FROM blob
WHERE blob.id IN (
    SELECT hold.blob FROM holder JOIN hold ON hold.holder = holder.id
    WHERE holder.deployment_id IN (SELECT value FROM json_each(:deployments))
) AND NOT EXISTS (
    SELECT 1 FROM hold JOIN holder ON holder.id = hold.holder WHERE hold.blob = blob.id AND (
        holder.deployment_id IS NULL OR holder.deployment_id NOT IN (SELECT value FROM json_each(:deployments))
    )
)
"""
NOTE_GONE: Final = "UPDATE gone SET at = :now WHERE at IS NULL"
GONE: Final = "SELECT deployment_id FROM gone WHERE deployment_id > :after ORDER BY deployment_id LIMIT :limit"
FORGET_GONE: Final = "DELETE FROM gone WHERE at <= :before"
OVER: Final = """
SELECT value AS id FROM json_each(:deployments) AS asked
LEFT JOIN deployment ON deployment.id = asked.value
WHERE deployment.id IS NULL OR deployment.finished_at <= :before
"""
PAGE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A deployment that has come to its end."""

    id: DeploymentId
    sequence: int
    environment: Environment
    state: State
    is_kept: bool  #: by a person
    is_shown: bool  #: by a host name besides its permalink
    ended_at: datetime
    left_at: datetime | None  #: when it ceased to be production
    is_log_dropped: bool = False


@dataclass(frozen=True, slots=True)
class Keeping:
    """A project and what it has set of what it keeps."""

    id: ProjectId
    name: str
    own: OwnRetention


class RetentionRows:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def projects(self) -> AsyncIterator[Keeping]:
        """All of them, page by page."""
        after = ""
        while rows := await self._db.all(PROJECTS, {"after": after, "limit": PAGE}):
            for row in rows:
                yield Keeping(ProjectId(row["id"]), row["name"], retention_from_json(row["retention"]))
            after = rows[-1]["id"]

    async def ended(self, project: ProjectId) -> list[Ended]:
        """The project's deployments that have come to their end, oldest first."""
        return [_read(row) for row in await self._db.all(OF_PROJECT, {"project": project})]

    async def gone(self) -> AsyncIterator[Sequence[DeploymentId]]:
        """Deployments that were deleted and may have left something elsewhere, page by page."""
        after = ""
        while rows := await self._db.all(GONE, {"after": after, "limit": PAGE}):
            yield [DeploymentId(row["deployment_id"]) for row in rows]
            after = rows[-1]["deployment_id"]

    async def over(self, deployments: Collection[DeploymentId], before: datetime) -> list[DeploymentId]:
        """Those of *deployments* that there are not, or that came to their end by *before*."""
        params = {"deployments": json.dumps(list(deployments)), "before": to_ms(before)}
        return [DeploymentId(row["id"]) for row in await self._db.all(OVER, params)]


async def alone_bytes(reader: Transaction, deployments: Collection[DeploymentId]) -> int:
    """The bytes of the blobs that nobody but *deployments* holds."""
    row = await reader.one(ALONE, {"deployments": json.dumps(list(deployments))})
    return int(row["size_bytes"]) if row else 0


async def is_as_seen(tx: Transaction, seen: Ended) -> bool:
    """Whether nothing has changed of what the rules go by."""
    row = await tx.one(ONE, {"id": seen.id})
    return row is not None and _read(row) == seen


async def log_dropped(tx: Transaction, deployment: DeploymentId) -> None:
    """Note that its log's time was over. Repeatable."""
    await tx.run(LOG_DROPPED, {"id": deployment})


async def note_gone(tx: Transaction, now: datetime) -> None:
    """Those that are gone are swept up after now, for the first time."""
    await tx.run(NOTE_GONE, {"now": to_ms(now)})


async def forget_gone(tx: Transaction, before: datetime) -> None:
    """Nothing comes any more for those that were first swept up after by *before*."""
    await tx.run(FORGET_GONE, {"before": to_ms(before)})


def _read(row: sqlite3.Row) -> Ended:
    return Ended(
        id=DeploymentId(row["id"]),
        sequence=row["sequence"],
        environment=Environment(row["environment"]),
        state=State(row["state"]),
        is_kept=bool(row["kept"]),
        is_shown=bool(row["shown"]),
        ended_at=from_ms(row["ended_at"]),
        left_at=from_ms_or_none(row["left_at"]),
        is_log_dropped=bool(row["log_dropped"]),
    )
