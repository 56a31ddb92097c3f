"""Projects in the database."""

import sqlite3
from typing import Final

from scalemesh.db.columns import (
    from_ms,
    retention_from_json,
    retention_to_json,
    settings_from_json,
    settings_to_json,
    to_ms,
)
from scalemesh.db.database import Database, Transaction
from scalemesh.errors import ConflictError, NotFoundError
from scalemesh.values import DeploymentId, OwnRetention, Project, ProjectId, UserId

SELECT: Final = """
SELECT project.*, alias.deployment_id AS live
FROM project LEFT JOIN alias ON alias.project_id = project.id AND alias.kind = 'production'
"""
ALL: Final = SELECT + " ORDER BY project.name LIMIT :limit OFFSET :offset"
BY_NAME: Final = SELECT + " WHERE project.name = :name OR project.id = :name"
BY_SOURCE: Final = SELECT + " WHERE project.canonical_url = :canonical_url AND project.root_directory = :root_directory"
INSERT: Final = """
INSERT INTO project (id, name, user_id, git_url, canonical_url, root_directory, production_branch, settings, executor,
    created_at)
VALUES (:id, :name, :user, :git_url, :canonical_url, :root_directory, :production_branch, :settings, :executor,
    :created_at)
"""
CHANGE: Final = """
UPDATE project SET git_url = :git_url, canonical_url = :canonical_url, root_directory = :root_directory,
    production_branch = :production_branch, settings = :settings, executor = :executor WHERE id = :id
"""
RETAIN: Final = "UPDATE project SET retention = :retention WHERE id = :id"
PIN: Final = "UPDATE project SET pinned = :pinned WHERE id = :id"
LEARN_BRANCH: Final = """
UPDATE project SET production_branch = :branch WHERE id = :id AND production_branch IS NULL
"""
DELETE: Final = "DELETE FROM project WHERE id = :id"


class ProjectRows:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def all(self, *, limit: int = 1000, offset: int = 0) -> list[Project]:
        """By name."""
        return [read_project(row) for row in await self._db.all(ALL, {"limit": limit, "offset": offset})]

    async def named(self, name: str) -> Project:
        """The project of that name or id.

        Raises:
            NotFoundError: there is none.
        """
        row = await self._db.one(BY_NAME, {"name": name})
        if row is None:
            raise NotFoundError(f"no project {name!r}", fix="`scalemesh project list` shows them")
        return read_project(row)

    async def of_source(self, canonical_url: str, root_directory: str) -> Project | None:
        row = await self._db.one(BY_SOURCE, {"canonical_url": canonical_url, "root_directory": root_directory})
        return read_project(row) if row else None


async def get(tx: Transaction, project: ProjectId) -> Project:
    """The project, as this transaction sees it.

    Raises:
        NotFoundError: there is none.
    """
    row = await tx.one(BY_NAME, {"name": project})
    if row is None:
        raise NotFoundError(f"no project {project!r}")
    return read_project(row)


async def is_taken(tx: Transaction, name: str) -> bool:
    """Whether a project has *name*, or has it as its id."""
    return await tx.one(BY_NAME, {"name": name}) is not None


async def insert(tx: Transaction, project: Project, canonical_url: str | None) -> None:
    """Add *project*.

    Raises:
        ConflictError: its name, or its source, is taken.
    """
    try:
        await tx.run(INSERT, {**_columns(project, canonical_url), "created_at": to_ms(project.created_at)})
    except sqlite3.IntegrityError as error:
        if "project.name" in str(error):
            raise ConflictError(f"a project {project.name!r} exists already", fix="choose another name") from error
        raise _source_taken() from error


async def change(tx: Transaction, project: Project, canonical_url: str | None) -> None:
    """Write the source and the settings of *project*.

    Raises:
        ConflictError: another project has that source.
    """
    try:
        await tx.run(CHANGE, _columns(project, canonical_url))
    except sqlite3.IntegrityError as error:
        raise _source_taken() from error


async def retain(tx: Transaction, project: ProjectId, retention: OwnRetention) -> None:
    """Write what the project keeps."""
    await tx.run(RETAIN, {"id": project, "retention": retention_to_json(retention)})


async def pin(tx: Transaction, project: ProjectId, *, pinned: bool) -> None:
    await tx.run(PIN, {"id": project, "pinned": int(pinned)})


async def learn_branch(tx: Transaction, project: ProjectId, branch: str) -> None:
    """Set the production branch where nobody has set one."""
    await tx.run(LEARN_BRANCH, {"id": project, "branch": branch})


async def delete(tx: Transaction, project: ProjectId) -> None:
    """Forget the project with its deployments, aliases and variables."""
    await tx.run(DELETE, {"id": project})


def _source_taken() -> ConflictError:
    return ConflictError(
        "another project has that Git URL and root directory", fix="deploy that one, or name another root directory"
    )


def _columns(project: Project, canonical_url: str | None) -> dict[str, object]:
    return {
        "id": project.id,
        "name": project.name,
        "user": project.user,
        "git_url": project.git_url,
        "canonical_url": canonical_url,
        "root_directory": project.settings.root_directory,
        "production_branch": project.production_branch,
        "settings": settings_to_json(project.settings),
        "executor": project.executor,
    }


def read_project(row: sqlite3.Row) -> Project:
    return Project(
        id=ProjectId(row["id"]),
        name=row["name"],
        user=UserId(row["user_id"]),
        git_url=row["git_url"],
        production_branch=row["production_branch"],
        settings=settings_from_json(row["settings"]),
        executor=row["executor"],
        pinned=bool(row["pinned"]),
        created_at=from_ms(row["created_at"]),
        live=DeploymentId(row["live"]) if row["live"] else None,
        retention=retention_from_json(row["retention"]),
    )
