"""Encodings of deployments in the database: who waits for them, and where they are kept."""

from collections.abc import Collection
from typing import Final

from scalemesh.db.database import Database, Transaction
from scalemesh.db.deployments import SELECT, read_deployment
from scalemesh.values import Deployment, DeploymentId, Digest, ProjectId

#: What is visited most comes first: what an alias other than the permalink shows, and the newest of those.
UNENCODED: Final = (
    SELECT  # noqa: S608 -- both halves are constants
    + """ WHERE deployment.state = 'ready' AND deployment.encodings IS NULL
ORDER BY EXISTS (SELECT 1 FROM alias WHERE alias.deployment_id = deployment.id AND alias.kind != 'permalink') DESC,
    deployment.sequence DESC
LIMIT :limit"""
)
KNOWN: Final = """
SELECT encodings FROM deployment
WHERE project_id = :project AND encodings IS NOT NULL ORDER BY sequence DESC LIMIT :limit
"""
SET: Final = "UPDATE deployment SET encodings = :encodings WHERE id = :id AND state = 'ready'"


class EncodingRows:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def next_unencoded(self, passed_over: Collection[DeploymentId]) -> Deployment | None:
        """The ready deployment whose files should be encoded next, without those of *passed_over*."""
        for row in await self._db.all(UNENCODED, {"limit": len(passed_over) + 1}):
            if row["id"] not in passed_over:
                return read_deployment(row)
        return None

    async def known(self, project: ProjectId, limit: int) -> list[Digest]:
        """Blobs of encodings of the project's deployments, those of the newest first."""
        rows = await self._db.all(KNOWN, {"project": project, "limit": limit})
        return list(dict.fromkeys(Digest(row["encodings"]) for row in rows))


async def put(tx: Transaction, deployment: DeploymentId, encodings: Digest) -> bool:
    """Name the blob of its encodings; False if the deployment is gone."""
    return bool(await tx.run(SET, {"id": deployment, "encodings": encodings}))
