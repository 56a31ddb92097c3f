"""Aliases (host name -> deployment) in the database, and the generation that every change of routing takes."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import groupby
from operator import itemgetter
from typing import Final

from scalemesh.db.columns import digest_or_none
from scalemesh.db.database import Database, Transaction
from scalemesh.errors import ConflictError
from scalemesh.values import Deployment, DeploymentId, Digest, HostKind, ProjectId, Route, State

_ROUTES: Final = """
SELECT alias.host, alias.kind, alias.branch, project.id AS project_id, project.name AS project_name,
    deployment.id AS deployment_id, deployment.state AS state, deployment.manifest AS manifest,
    deployment.encodings AS encodings,
    CASE WHEN alias.kind IN ('production', 'domain') THEN project.asset_window END AS asset_window,
    (SELECT newest.state FROM deployment AS newest WHERE newest.project_id = project.id
     ORDER BY newest.sequence DESC LIMIT 1) AS newest_state
FROM alias JOIN project ON project.id = alias.project_id
    LEFT JOIN deployment ON deployment.id = alias.deployment_id
"""
ROUTES: Final = _ROUTES + " WHERE alias.project_id = :project ORDER BY alias.host"
ROUTES_AFTER: Final = (
    _ROUTES  # noqa: S608 -- constants
    + """
WHERE alias.project_id IN (SELECT id FROM project WHERE id > :after ORDER BY id LIMIT :projects)
ORDER BY alias.project_id, alias.host
"""
)
PAGE_PROJECTS: Final = 2000  #: whose routes are read at once: all of many would leave their memory behind
NEXT_GENERATION: Final = "UPDATE counter SET value = value + 1 WHERE name = 'generation' RETURNING value"
GENERATION: Final = "SELECT value FROM counter WHERE name = 'generation'"
INSERT: Final = """
INSERT INTO alias (host, project_id, kind, branch, deployment_id) VALUES (:host, :project, :kind, :branch, :deployment)
"""
RESERVE: Final = INSERT + " ON CONFLICT (host) DO NOTHING"
OWNER: Final = "SELECT project_id FROM alias WHERE host = :host"
POINT_NEWER: Final = """
UPDATE alias SET deployment_id = :deployment
WHERE host = :host AND project_id = :project AND :sequence > coalesce(
    (SELECT sequence FROM deployment WHERE deployment.id = alias.deployment_id), 0)
"""
POINT: Final = "UPDATE alias SET deployment_id = :deployment WHERE project_id = :project AND kind = 'production'"
POINTING: Final = "SELECT host, kind FROM alias WHERE deployment_id = :deployment AND kind != 'permalink'"
PREVIOUS: Final = """
SELECT id FROM deployment
WHERE project_id = :project AND state = 'ready' AND environment = 'production' AND sequence < :sequence
ORDER BY sequence DESC LIMIT 1
"""


class AliasRows:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def generation(self) -> int:
        """That of the last change of routing."""
        row = await self._db.one(GENERATION)
        return int(row["value"]) if row else 0

    async def all_routes(self) -> AsyncIterator[tuple[ProjectId, list[Route]]]:
        """Every project's routes, project by project."""
        after = ""
        while rows := await self._db.all(ROUTES_AFTER, {"after": after, "projects": PAGE_PROJECTS}):
            for project, found in groupby(rows, key=itemgetter("project_id")):
                yield ProjectId(project), read_routes(found)
            after = rows[-1]["project_id"]

    async def of_project(self, project: ProjectId) -> list[Route]:
        return read_routes(await self._db.all(ROUTES, {"project": project}))

    async def previous(self, project: ProjectId, before: int) -> DeploymentId | None:
        """The newest ready production deployment older than sequence *before*."""
        row = await self._db.one(PREVIOUS, {"project": project, "sequence": before})
        return DeploymentId(row["id"]) if row else None


async def pointing_at(tx: Transaction, deployment: DeploymentId) -> list[str]:
    """Hosts, besides its own permalink, that show *deployment*."""
    return [row["host"] for row in await tx.all(POINTING, {"deployment": deployment})]


async def snapshot(tx: Transaction, project: ProjectId) -> tuple[int, list[Route]]:
    """The project's routes as this transaction leaves them, under a new generation."""
    row = await tx.one(NEXT_GENERATION)
    routes = read_routes(await tx.all(ROUTES, {"project": project}))
    return (int(row["value"]) if row else 0), routes


async def reserve(
    tx: Transaction, host: str, project: ProjectId, kind: HostKind, *, branch: str | None = None,
    deployment: DeploymentId | None = None
) -> None:  # fmt: skip
    """Make *host* the project's own; a repeat changes nothing.

    Raises:
        ConflictError: another project has it.
    """
    params = {"host": host, "project": project, "kind": kind, "branch": branch, "deployment": deployment}
    await tx.run(RESERVE, params)
    row = await tx.one(OWNER, {"host": host})
    if row is None or row["project_id"] != project:
        raise ConflictError(f"the host name {host} is taken", fix="choose another project name")


async def is_taken(tx: Transaction, host: str) -> bool:
    return await tx.one(OWNER, {"host": host}) is not None


async def point_if_newer(tx: Transaction, host: str, deployment: Deployment) -> bool:
    """Move the alias unless what it shows is newer; True if it moved."""
    params = {
        "host": host,
        "project": deployment.project,
        "deployment": deployment.id,
        "sequence": deployment.sequence,
    }
    return bool(await tx.run(POINT_NEWER, params))


async def point_production(tx: Transaction, project: ProjectId, deployment: DeploymentId) -> None:
    """Move the production aliases, to an older deployment too."""
    await tx.run(POINT, {"project": project, "deployment": deployment})


def read_routes(rows: Iterable[sqlite3.Row]) -> list[Route]:
    """The routes of one project; what they say alike stands in memory once."""
    words: dict[str, str] = {}
    return [_read_route(row, lambda text: words.setdefault(text, text)) for row in rows]


def _read_route(row: sqlite3.Row, same: Callable[[str], str]) -> Route:
    ready = row["state"] == State.READY
    waiting = row["state"] or row["newest_state"]
    return Route(
        host=row["host"],
        kind=HostKind(row["kind"]),
        project=ProjectId(same(row["project_id"])),
        project_name=same(row["project_name"]),
        deployment=DeploymentId(same(row["deployment_id"])) if ready else None,
        manifest=Digest(same(row["manifest"])) if ready else None,
        waiting=None if ready or waiting is None else State(waiting),
        encodings=digest_or_none(row["encodings"]) if ready else None,
        window=digest_or_none(row["asset_window"]) if ready else None,
    )
