"""Deployments in the database: the queue, the fenced moves, the readers."""

import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Final, LiteralString

from scalemesh.db.columns import digest_or_none, from_ms, from_ms_or_none, settings_from_json, settings_to_json, to_ms
from scalemesh.db.database import Database, Transaction
from scalemesh.errors import ConflictError, GoneError, NotFoundError
from scalemesh.values import (
    Deployment,
    DeploymentId,
    Digest,
    Environment,
    ProjectId,
    Reason,
    SourceKind,
    State,
    UserId,
    moved,
)

SELECT: Final = """
SELECT deployment.*, project.name AS project_name
FROM deployment JOIN project ON project.id = deployment.project_id
"""
BY_ID: Final = SELECT + " WHERE deployment.id = :id"
LIST: Final = (
    SELECT
    + """ WHERE (:project IS NULL OR deployment.project_id = :project) AND deployment.sequence < :before
ORDER BY deployment.sequence DESC LIMIT :limit"""
)
IN_STATE: Final = SELECT + " WHERE deployment.state = :state ORDER BY deployment.sequence"
ABANDONED: Final = (
    SELECT + " WHERE deployment.state = 'queued' AND NOT deployment.source_ready AND deployment.created_at < :before"
)
HAS_ANY: Final = "SELECT 1 FROM deployment WHERE project_id = :project LIMIT 1"
TALLIES: Final = "SELECT state, count(*) AS n FROM deployment GROUP BY state"
EXPIRED: Final = SELECT + " WHERE deployment.state = 'building' AND deployment.lease_until < :now"
INSERT: Final = """
INSERT INTO deployment (id, project_id, user_id, environment, state, source_kind, source_ready, source_listing, git_url,
    branch, commit_sha, commit_message, commit_author, settings, memory_bytes, executor, uses_cache, place,
    created_at)
VALUES (:id, :project, :user, :environment, 'queued', :source, :source_ready, :source_listing, :git_url,
    :branch, :commit_sha, :commit_message, :commit_author, :settings, :memory_bytes, :executor, :uses_cache, :place,
    :created_at)
"""
TAKE_OWN_PLACE: Final = "UPDATE deployment SET place = sequence WHERE id = :id AND place < 0"
MOVE: Final = """
UPDATE deployment SET state = :new, reason = coalesce(:reason, reason), message = :message,
    finished_at = coalesce(:finished_at, finished_at)
WHERE id = :id AND state = :old
"""
START: Final = """
UPDATE deployment SET state = 'building', attempt = attempt + 1, nonce = NULL, job = NULL, reported = NULL,
    started_at = :now, lease_until = :lease_until, passed_over_at = NULL, message = ''
WHERE id = :id AND state = 'queued'
"""
REQUEUE: Final = """
UPDATE deployment SET state = 'queued', losses = losses + :losses, not_before = :not_before, message = :message
WHERE id = :id AND state = 'building' AND attempt = :attempt
"""
CLAIM: Final = """
UPDATE deployment SET nonce = :nonce, lease_until = :lease_until
WHERE id = :id AND state = 'building' AND attempt = :attempt AND (nonce IS NULL OR nonce = :nonce)
"""
RENEW: Final = """
UPDATE deployment SET lease_until = :lease_until WHERE id = :id AND state = 'building' AND attempt = :attempt
"""
RENEW_ALL: Final = """
UPDATE deployment SET lease_until = :lease_until
WHERE state = 'building' AND coalesce(executor, :default) = :executor
"""
CHOOSE: Final = "UPDATE deployment SET executor = :executor WHERE id = :id AND state = 'queued'"
SET_JOB: Final = "UPDATE deployment SET job = :job WHERE id = :id AND attempt = :attempt"
FACTS: Final = """
UPDATE deployment SET commit_sha = :commit_sha, commit_message = :message, commit_author = :author,
    branch = coalesce(branch, :branch)
WHERE id = :id AND state = 'building' AND attempt = :attempt
"""
REPORT: Final = """
UPDATE deployment SET reported = :reported WHERE id = :id AND state = 'building' AND attempt = :attempt
"""
FINISH: Final = """
UPDATE deployment SET state = 'publishing', listing = :listing, framework = :framework
WHERE id = :id AND state = :old AND attempt = :attempt
"""
SOURCE_READY: Final = """
UPDATE deployment SET source_ready = 1, source_listing = :listing
WHERE id = :id AND state = 'queued' AND NOT source_ready
"""
READY: Final = """
UPDATE deployment SET state = 'ready', manifest = :manifest, finished_at = :now, message = ''
WHERE id = :id AND state = 'publishing'
"""
UNCLEAN: Final = (
    SELECT
    + """ WHERE NOT deployment.cleaned AND deployment.state IN ('ready', 'failed', 'canceled', 'superseded')
  AND deployment.finished_at < :before
ORDER BY deployment.sequence"""
)
KEEP: Final = "UPDATE deployment SET kept = :kept WHERE id = :id"
CLEANED: Final = "UPDATE deployment SET cleaned = 1 WHERE id = :id"
DELETE: Final = "DELETE FROM deployment WHERE id = :id"


class DeploymentRows:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def get(self, deployment: str) -> Deployment:
        """The deployment of that id.

        Raises:
            NotFoundError: there is none.
        """
        row = await self._db.one(BY_ID, {"id": deployment})
        if row is None:
            raise NotFoundError(f"no deployment {deployment!r}", fix="`scalemesh deployment list` shows them")
        return read_deployment(row)

    async def page(
        self, project: ProjectId | None = None, *, before: int | None = None, limit: int = 50
    ) -> list[Deployment]:
        """Newest first, of one project or of all; *before* is the sequence that the last page ended with."""
        before = before if before is not None else 1 << 62
        rows = await self._db.all(LIST, {"project": project, "before": before, "limit": limit})
        return [read_deployment(row) for row in rows]

    async def in_state(self, state: State) -> list[Deployment]:
        """All deployments in *state*, oldest first."""
        return [read_deployment(row) for row in await self._db.all(IN_STATE, {"state": state})]

    async def tallies(self) -> dict[State, int]:
        """How many there are in each state."""
        return {State(row["state"]): row["n"] for row in await self._db.all(TALLIES)}

    async def expired(self, now: datetime) -> list[Deployment]:
        """Builds whose lease has run out."""
        return [read_deployment(row) for row in await self._db.all(EXPIRED, {"now": to_ms(now)})]

    async def abandoned(self, before: datetime) -> list[Deployment]:
        """Uploads begun before *before* and never finished."""
        return [read_deployment(row) for row in await self._db.all(ABANDONED, {"before": to_ms(before)})]

    async def unclean(self, before: datetime) -> list[Deployment]:
        """Those that came to their end before *before*, but what they left behind has not been cleaned up."""
        return [read_deployment(row) for row in await self._db.all(UNCLEAN, {"before": to_ms(before)})]


async def get(tx: Transaction, deployment: DeploymentId) -> Deployment:
    """As ``DeploymentRows.get``, inside a transaction."""
    row = await tx.one(BY_ID, {"id": deployment})
    if row is None:
        raise NotFoundError(f"no deployment {deployment!r}")
    return read_deployment(row)


async def has_any(tx: Transaction, project: ProjectId) -> bool:
    return await tx.one(HAS_ANY, {"project": project}) is not None


async def insert(tx: Transaction, deployment: Deployment, *, place: int | None = None) -> None:
    """Add a queued deployment; without *place* it takes its own in the order of arrival."""
    await tx.run(
        INSERT,
        {
            "id": deployment.id,
            "project": deployment.project,
            "user": deployment.user,
            "environment": deployment.environment,
            "source": deployment.source,
            "source_ready": int(deployment.source_ready),
            "source_listing": deployment.source_listing,
            "git_url": deployment.git_url,
            "branch": deployment.branch,
            "commit_sha": deployment.commit_sha,
            "commit_message": deployment.commit_message,
            "commit_author": deployment.commit_author,
            "settings": settings_to_json(deployment.settings),
            "memory_bytes": deployment.memory_bytes,
            "executor": deployment.executor,
            "uses_cache": int(deployment.uses_cache),
            "place": -1 if place is None else place,
            "created_at": to_ms(deployment.created_at),
        },
    )
    await tx.run(TAKE_OWN_PLACE, {"id": deployment.id})


async def start(tx: Transaction, deployment: DeploymentId, *, now: datetime, lease_until: datetime) -> None:
    """Queued -> building, as a new attempt. The number of none is given again.

    Raises:
        ConflictError: it is queued no longer.
    """
    params = {"id": deployment, "now": to_ms(now), "lease_until": to_ms(lease_until)}
    _require(await tx.run(START, params), f"{deployment} is not queued any more")


async def requeue(tx: Transaction, old: Deployment, *, not_before: datetime, message: str, counts: bool) -> None:
    """Building -> queued: after a loss, or after a start that nobody answered, which *counts* as none."""
    moved(old.state, State.QUEUED)
    params = {
        "id": old.id, "attempt": old.attempt, "losses": int(counts), "not_before": to_ms(not_before), "message": message
    }  # fmt: skip
    _require(await tx.run(REQUEUE, params), f"{old.id} is not building any more")


async def move(
    tx: Transaction,
    old: Deployment,
    new: State,
    *,
    now: datetime,
    reason: Reason | None = None,
    message: str = "",
) -> None:
    """Move *old* to the final state *new*.

    Raises:
        ConflictError: the table of moves, or another move meanwhile, does not allow it.
    """
    moved(old.state, new)
    params = {
        "id": old.id, "old": old.state, "new": new, "reason": reason, "message": message, "finished_at": to_ms(now)
    }  # fmt: skip
    _require(await tx.run(MOVE, params), f"{old.id} is not {old.state} any more")


async def claim(
    tx: Transaction, deployment: DeploymentId, attempt: int, *, nonce: str, lease_until: datetime
) -> Deployment:
    """Give the attempt to the builder with that nonce; the same one may ask again.

    Raises:
        ConflictError: another builder has it.
        GoneError: that attempt is over.
    """
    params = {"id": deployment, "attempt": attempt, "nonce": nonce, "lease_until": to_ms(lease_until)}
    if await tx.run(CLAIM, params):
        return await get(tx, deployment)
    found = await _fenced(tx, deployment, attempt)
    raise ConflictError(f"another builder has attempt {found.attempt} of {deployment}")


async def renew(tx: Transaction, deployment: DeploymentId, attempt: int, lease_until: datetime) -> None:
    """Hold the lease longer.

    Raises:
        GoneError: that attempt is over.
    """
    await _fenced_run(tx, RENEW, deployment, attempt, {"lease_until": to_ms(lease_until)})


async def renew_all(tx: Transaction, executor: str, lease_until: datetime, *, default: str) -> None:
    """Begin every lease of *executor* anew: time counts only while the daemon listens. *default* has those without."""
    await tx.run(RENEW_ALL, {"executor": executor, "default": default, "lease_until": to_ms(lease_until)})


async def choose(tx: Transaction, deployment: DeploymentId, executor: str) -> None:
    """Let a queued deployment build on *executor*."""
    await tx.run(CHOOSE, {"id": deployment, "executor": executor})


async def set_job(tx: Transaction, deployment: DeploymentId, attempt: int, where: str) -> None:
    await tx.run(SET_JOB, {"id": deployment, "attempt": attempt, "job": where})


async def facts(tx: Transaction, deployment: DeploymentId, attempt: int, known: Mapping[str, str | None]) -> None:
    """Note what Git says: commit_sha, message, author, branch.

    Raises:
        GoneError: that attempt is over.
    """
    await _fenced_run(tx, FACTS, deployment, attempt, known)


async def report(tx: Transaction, deployment: DeploymentId, attempt: int, reported: str) -> None:
    """Keep the failure that the builder told, until the executor says how the job ended.

    Raises:
        GoneError: that attempt is over.
    """
    await _fenced_run(tx, REPORT, deployment, attempt, {"reported": reported})


async def finish(tx: Transaction, old: Deployment, listing: Digest, framework: str | None) -> None:
    """-> publishing: from building, or from queued for a site that came finished.

    Raises:
        GoneError: that attempt is over.
    """
    moved(old.state, State.PUBLISHING)
    params = {"id": old.id, "attempt": old.attempt, "old": old.state, "listing": listing, "framework": framework}
    if not await tx.run(FINISH, params):
        raise GoneError(f"attempt {old.attempt} of {old.id} is over")


async def source_ready(tx: Transaction, deployment: DeploymentId, listing: Digest) -> None:
    """The uploaded source is whole: the queue may take it.

    Raises:
        GoneError: it is not waiting for its source any more.
    """
    if not await tx.run(SOURCE_READY, {"id": deployment, "listing": listing}):
        raise GoneError(f"{deployment} does not wait for an upload")


async def ready(tx: Transaction, deployment: DeploymentId, manifest: Digest, now: datetime) -> None:
    """Publishing -> ready.

    Raises:
        ConflictError: it is not publishing any more.
    """
    params = {"id": deployment, "manifest": manifest, "now": to_ms(now)}
    _require(await tx.run(READY, params), f"{deployment} is not publishing any more")


async def cleaned(tx: Transaction, deployment: DeploymentId) -> None:
    """Note that nothing is left to clean up. Repeatable."""
    await tx.run(CLEANED, {"id": deployment})


async def keep(tx: Transaction, deployment: DeploymentId, *, kept: bool) -> None:
    """Keep it whatever the rules of retention say, or leave it to them."""
    await tx.run(KEEP, {"id": deployment, "kept": int(kept)})


async def delete(tx: Transaction, deployment: DeploymentId) -> None:
    await tx.run(DELETE, {"id": deployment})


async def _fenced_run(
    tx: Transaction,
    sql: LiteralString,
    deployment: DeploymentId,
    attempt: int,
    params: Mapping[str, object],
) -> None:
    if not await tx.run(sql, {**params, "id": deployment, "attempt": attempt}):
        await _fenced(tx, deployment, attempt)


async def _fenced(tx: Transaction, deployment: DeploymentId, attempt: int) -> Deployment:
    """The deployment, if *attempt* is its running one; else GoneError."""
    row = await tx.one(BY_ID, {"id": deployment})
    found = read_deployment(row) if row else None
    if found is None or found.attempt != attempt or found.state is not State.BUILDING:
        state = found.state if found else "deleted"
        raise GoneError(f"attempt {attempt} of {deployment} is over", why=f"the deployment is {state}")
    return found


def _require(changed: int, why: str) -> None:
    if not changed:
        raise ConflictError("the deployment has moved on", why=why)


def read_deployment(row: sqlite3.Row) -> Deployment:
    return Deployment(
        id=DeploymentId(row["id"]),
        sequence=row["sequence"],
        project=ProjectId(row["project_id"]),
        project_name=row["project_name"],
        user=UserId(row["user_id"]),
        environment=Environment(row["environment"]),
        state=State(row["state"]),
        source=SourceKind(row["source_kind"]),
        git_url=row["git_url"],
        branch=row["branch"],
        commit_sha=row["commit_sha"],
        commit_message=row["commit_message"],
        commit_author=row["commit_author"],
        settings=settings_from_json(row["settings"]),
        memory_bytes=row["memory_bytes"],
        executor=row["executor"],
        attempt=row["attempt"],
        losses=row["losses"],
        nonce=row["nonce"],
        job=row["job"],
        reported=row["reported"],
        source_ready=bool(row["source_ready"]),
        source_listing=digest_or_none(row["source_listing"]),
        listing=digest_or_none(row["listing"]),
        manifest=digest_or_none(row["manifest"]),
        framework=row["framework"],
        reason=Reason(row["reason"]) if row["reason"] else None,
        message=row["message"],
        created_at=from_ms(row["created_at"]),
        started_at=from_ms_or_none(row["started_at"]),
        finished_at=from_ms_or_none(row["finished_at"]),
        is_cleaned=bool(row["cleaned"]),
        is_kept=bool(row["kept"]),
        uses_cache=bool(row["uses_cache"]),
    )
