"""Which blobs the store must have, in the order of their digests, and who holds one."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from scalemesh.db.database import Database
from scalemesh.values import Digest

EXPECTED: Final = """
SELECT sha256 FROM blob WHERE state = 1 AND sha256 > :after AND sha256 <= :last ORDER BY sha256 LIMIT :limit
"""
KNOWN: Final = "SELECT sha256, state FROM blob JOIN json_each(:digests) AS asked ON blob.sha256 = asked.value"
HOLDERS: Final = """
SELECT DISTINCT project.name AS project, holder.deployment_id AS deployment, deployment.sequence
FROM blob JOIN hold ON hold.blob = blob.id JOIN holder ON holder.id = hold.holder
    JOIN project ON project.id = holder.project_id
    LEFT JOIN deployment ON deployment.id = holder.deployment_id
WHERE blob.sha256 = :sha256 ORDER BY deployment.sequence DESC, project.name LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class HeldBy:
    """Who needs a blob."""

    project: str  #: its name
    deployment: str | None  #: None: its asset window, a cache, or what was published long ago


class ExpectedRows:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def between(self, after: Digest, last: Digest, limit: int) -> list[Digest]:
        """The first *limit* blobs above *after* up to *last* that the store must have."""
        rows = await self._db.all(EXPECTED, {"after": after, "last": last, "limit": limit})
        return [Digest(row["sha256"]) for row in rows]

    async def states(self, digests: Collection[Digest]) -> dict[Digest, int]:
        """Of those of *digests* that are known, where they are on their way: see ``db.blobs``."""
        rows = await self._db.all(KNOWN, {"digests": json.dumps(list(digests))})
        return {Digest(row["sha256"]): row["state"] for row in rows}

    async def holders(self, sha256: Digest, limit: int) -> list[HeldBy]:
        """The newest *limit* that hold it."""
        rows = await self._db.all(HOLDERS, {"sha256": sha256, "limit": limit})
        return [HeldBy(row["project"], row["deployment"]) for row in rows]
