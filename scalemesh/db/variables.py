"""Environment variables of projects in the database, sealed before they get here."""

from datetime import datetime
from typing import Final

from scalemesh.db.columns import to_ms
from scalemesh.db.database import Database, Transaction
from scalemesh.values import Environment, ProjectId

NAMES: Final = (
    "SELECT name, environment, updated_at FROM variable WHERE project_id = :project ORDER BY name, environment"
)
SEALED: Final = "SELECT name, sealed FROM variable WHERE project_id = :project AND environment = :environment"
SET: Final = """
INSERT INTO variable (project_id, name, environment, sealed, updated_at)
VALUES (:project, :name, :environment, :sealed, :now)
ON CONFLICT (project_id, name, environment) DO UPDATE SET sealed = :sealed, updated_at = :now
"""
COUNT: Final = "SELECT count(*) AS n FROM variable WHERE project_id = :project"
DELETE: Final = """
DELETE FROM variable WHERE project_id = :project AND name = :name
    AND (:environment IS NULL OR environment = :environment)
"""


class VariableRows:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def names(self, project: ProjectId) -> list[tuple[str, Environment, int]]:
        """Name, environment and time of the last change (ms): values never come back out."""
        rows = await self._db.all(NAMES, {"project": project})
        return [(row["name"], Environment(row["environment"]), row["updated_at"]) for row in rows]

    async def sealed(self, project: ProjectId, environment: Environment) -> dict[str, bytes]:
        rows = await self._db.all(SEALED, {"project": project, "environment": environment})
        return {row["name"]: row["sealed"] for row in rows}

    async def count(self, project: ProjectId) -> int:
        row = await self._db.one(COUNT, {"project": project})
        return int(row["n"]) if row else 0


async def put(
    tx: Transaction, project: ProjectId, name: str, environment: Environment, *, sealed: bytes, now: datetime
) -> None:
    params = {"project": project, "name": name, "environment": environment, "sealed": sealed, "now": to_ms(now)}
    await tx.run(SET, params)


async def delete(tx: Transaction, project: ProjectId, name: str, environment: Environment | None) -> bool:
    """True if there was one; without *environment*, in both."""
    return bool(await tx.run(DELETE, {"project": project, "name": name, "environment": environment}))
