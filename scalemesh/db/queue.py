"""The queue, which is the deployment table: its order, its load, who waits for whom."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from scalemesh.db.columns import from_ms_or_none, to_ms
from scalemesh.db.database import Database, Transaction
from scalemesh.db.deployments import SELECT, read_deployment
from scalemesh.values import Deployment, DeploymentId, Environment, ProjectId, State

QUEUE: Final = (
    SELECT  # noqa: S608 -- constants alone
    + """ JOIN user ON user.id = deployment.user_id
WHERE deployment.state = 'queued' AND deployment.source_ready AND deployment.source_kind != 'prebuilt'
  AND deployment.not_before <= :now
  AND coalesce(deployment.executor, :default) IN (SELECT value FROM json_each(:executors))
  AND :per_project > (SELECT count(*) FROM deployment AS building
                      WHERE building.state = 'building' AND building.project_id = deployment.project_id)
ORDER BY deployment.passed_over_at IS NULL OR deployment.passed_over_at > :patience, user.served_at, user.id,
  deployment.environment = 'preview', deployment.place, deployment.sequence
LIMIT :limit"""
)
NEXT_DUE: Final = "SELECT min(not_before) AS due FROM deployment WHERE state = 'queued' AND not_before > :now"
QUEUED_OLDER: Final = (
    SELECT
    + """ WHERE deployment.project_id = :project AND deployment.state = 'queued' AND deployment.source_kind = 'git'
  AND deployment.branch IS :branch AND deployment.environment = :environment"""
)
COUNT_QUEUED: Final = "SELECT count(*) AS n FROM deployment WHERE state = 'queued'"
BUILDING_LOAD: Final = """
SELECT coalesce(executor, :default) AS executor, count(*) AS n, coalesce(sum(memory_bytes), 0) AS memory
FROM deployment WHERE state = 'building' GROUP BY 1
"""
TALLIES: Final = """
SELECT coalesce(executor, :default) AS executor, state, count(*) AS n FROM deployment
WHERE state IN ('queued', 'building') AND source_kind != 'prebuilt' GROUP BY 1, 2
"""
WAITED_ENOUGH: Final = "SELECT 1 FROM deployment WHERE id = :id AND passed_over_at <= :patience"
SERVED: Final = "UPDATE user SET served_at = :now WHERE id = (SELECT user_id FROM deployment WHERE id = :id)"
PASSED_OVER: Final = "UPDATE deployment SET passed_over_at = coalesce(passed_over_at, :now) WHERE id = :id"


async def queue(
    tx: Transaction,
    now: datetime,
    *,
    executors: Sequence[str],
    default: str,
    patience: datetime,
    per_project: int,
    limit: int,
) -> list[Deployment]:
    """The queue of *executors* in its order: who was passed over since before *patience* first, then the fair order.

    Without those whose project builds *per_project* already: however many they are, nobody waits behind them. A
    deployment that names no executor is of *default*.
    """
    params = {
        "now": to_ms(now), "patience": to_ms(patience), "per_project": per_project, "limit": limit,
        "executors": json.dumps(list(executors)), "default": default,
    }  # fmt: skip
    return [read_deployment(row) for row in await tx.all(QUEUE, params)]


async def queue_length(tx: Transaction) -> int:
    row = await tx.one(COUNT_QUEUED)
    return int(row["n"]) if row else 0


async def building_load(tx: Transaction, default: str) -> dict[str, tuple[int, int]]:
    """By executor: how many build now, and their memory in bytes."""
    return {row["executor"]: (row["n"], row["memory"]) for row in await tx.all(BUILDING_LOAD, {"default": default})}


async def tallies(database: Database, default: str) -> dict[tuple[str, State], int]:
    """By executor and state: how many wait for a build or build now; where there are none it is left out."""
    rows = await database.all(TALLIES, {"default": default})
    return {(row["executor"], State(row["state"])): row["n"] for row in rows}


async def queued_of_branch(
    tx: Transaction, project: ProjectId, branch: str | None, environment: Environment
) -> list[tuple[Deployment, int]]:
    """Queued Git deployments that a newer push to the same branch replaces, with their places."""
    params = {"project": project, "branch": branch, "environment": environment}
    return [(read_deployment(row), row["place"]) for row in await tx.all(QUEUED_OLDER, params)]


async def served(tx: Transaction, deployment: DeploymentId, now: datetime) -> None:
    """Its user has had a turn: those who had theirs before come first now."""
    await tx.run(SERVED, {"id": deployment, "now": to_ms(now)})


async def passed_over(tx: Transaction, deployment: DeploymentId, now: datetime) -> None:
    await tx.run(PASSED_OVER, {"id": deployment, "now": to_ms(now)})


async def has_waited_enough(tx: Transaction, deployment: DeploymentId, patience: datetime) -> bool:
    """Whether it has been passed over since before *patience*: nothing may overtake it any more."""
    return await tx.one(WAITED_ENOUGH, {"id": deployment, "patience": to_ms(patience)}) is not None


async def next_due(database: Database, now: datetime) -> datetime | None:
    """When the first of those that wait for a later time may start."""
    row = await database.one(NEXT_DUE, {"now": to_ms(now)})
    return from_ms_or_none(row["due"]) if row else None
