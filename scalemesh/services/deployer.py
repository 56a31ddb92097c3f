"""What people ask of deployments: submit, upload, cancel, redeploy, delete."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from scalemesh.config import Builds
from scalemesh.db import aliases, deployments, projects, queue
from scalemesh.db.database import Transaction
from scalemesh.db.deployments import DeploymentRows
from scalemesh.errors import ConflictError, InvalidError, RefusedError, ScaleMeshError, TooManyError
from scalemesh.faults import fault
from scalemesh.ports import Executor
from scalemesh.rules import Dialect
from scalemesh.services import hosts
from scalemesh.services.asset_windows import AssetWindows
from scalemesh.services.caches import Caches
from scalemesh.services.endings import Endings
from scalemesh.services.executors import Executors
from scalemesh.services.ids import new_id
from scalemesh.services.ledger import Ledger
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.services.outgoing import check_fetchable
from scalemesh.services.room import Room
from scalemesh.services.sources import check_branch, check_commit
from scalemesh.values import (
    Deployment,
    DeploymentId,
    Environment,
    HostKind,
    JobRef,
    Project,
    ProjectId,
    SourceKind,
    State,
    User,
)

log = logging.getLogger(__name__)
ID_TRIES: Final = 5
STOP_S: Final = 10.0  #: an executor that takes longer to stop a job holds up no cancel


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What somebody wants deployed."""

    source: SourceKind = SourceKind.GIT
    branch: str | None = None  #: None: the project's production branch
    commit: str | None = None  #: None: the newest of the branch
    production: bool | None = None  #: None: decided by the branch
    uses_cache: bool = True  #: its build takes over what earlier ones kept
    dialect: Dialect | None = None  #: how its rule files are read; None: as the project's settings say


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorNow:
    """One executor and what it does."""

    kind: str
    parallel: int  #: builds that it takes at once
    building: int
    queued: int


class Deployer:
    def __init__(
        self,
        ledger: Ledger,
        executors: Executors,
        room: Room,
        endings: Endings,
        logs: LogPipeline,
        caches: Caches,
        windows: AssetWindows,
        *,
        builds: Builds,
        base: str,
        wake: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        """*wake* tells the scheduler that the queue changed."""
        self._ledger, self._endings = ledger, endings
        self._rows, self._windows = DeploymentRows(ledger.database), windows
        self._executors, self._room, self._logs, self._caches = executors, room, logs, caches
        self._builds, self._base = builds, base
        self._wake, self._now = wake, now

    async def get(self, deployment: str) -> Deployment:
        """The deployment of that id.

        Raises:
            NotFoundError: there is none.
        """
        return await self._rows.get(deployment)

    async def page(self, project: ProjectId | None, *, before: int | None, limit: int) -> list[Deployment]:
        """Newest first; *before* is the sequence that the last page ended with."""
        return await self._rows.page(project, before=before, limit=limit)

    async def tallies(self) -> dict[State, int]:
        """How many deployments are in each state; states without any are left out."""
        return await self._rows.tallies()

    async def executors(self) -> list[ExecutorNow]:
        """All that the config lists, the default first."""
        tallies = await queue.tallies(self._ledger.database, self._executors.default)
        return [
            ExecutorNow(
                kind=kind,
                parallel=self._room.parallel[kind],
                building=tallies.get((kind, State.BUILDING), 0),
                queued=tallies.get((kind, State.QUEUED), 0),
            )
            for kind in self._executors.kinds
        ]

    async def submit(self, user: User, project: Project, wanted: Wanted) -> Deployment:
        """Queue a deployment. An older one of the same branch that still waits is superseded: this takes its place.

        An upload waits for its files before the queue counts it.

        Raises:
            InvalidError: branch or commit is none, or the project has no Git URL.
            TooManyError: the queue is full.
            RefusedError: it could never fit into the memory there is, or its executor is not configured any more.
        """
        self._check(project, wanted)
        wanted = _named(project, wanted)
        async with self._ledger.change(project.id) as tx:
            if await queue.queue_length(tx) >= self._builds.queue_length:
                raise TooManyError(
                    f"{self._builds.queue_length} deployments wait already", fix="wait, or raise builds.queue_length"
                )
            environment = await self._environment(tx, project, wanted)
            replaced, place = await self._supersede(tx, project, wanted, environment)
            deployment = await self._insert(tx, user, project, wanted, environment, place)
        fault("submit.after_commit")
        for old in replaced:
            await self._endings.clean(old, f"Superseded by {deployment.id}")
        if deployment.source_ready:
            await self._logs.write(deployment.id, "queue", "Queued")
            self._wake()
        return deployment

    async def redeploy(
        self, user: User, deployment: Deployment, project: Project, *, uses_cache: bool = True
    ) -> Deployment:
        """The same source once more, with today's settings and variables; a dialect that was set by hand stays.

        Raises:
            ConflictError: a finished site that was uploaded: promote it instead.
        """
        if deployment.source is not SourceKind.GIT:
            raise ConflictError("an upload cannot be built again from here", fix="deploy the folder again")
        wanted = Wanted(
            branch=deployment.branch,
            commit=deployment.commit_sha,
            production=deployment.environment is Environment.PRODUCTION,
            uses_cache=uses_cache,
            dialect=deployment.settings.dialect,
        )
        return await self.submit(user, project, wanted)

    async def cancel(self, deployment: str) -> Deployment:
        """End it wherever it is; its job is killed, wholly and alone. One that was canceled before stays so.

        Raises:
            ConflictError: it is ready or has failed already.
        """
        found = await self._endings.cancel(await self._rows.get(deployment), "Canceled by hand")
        executor = self._executors.find(found)
        if found.attempt and executor is not None:
            await self._stop(executor, JobRef(deployment=found.id, attempt=found.attempt, where=found.job or ""))
        fault("cancel.after_stop")
        await self._endings.clean(found, "Canceled by hand")
        self._wake()
        return await self._rows.get(found.id)

    async def keep(self, deployment: str, *, kept: bool) -> Deployment:
        """Keep it whatever the rules of retention say, or leave it to them again. Repeatable.

        Raises:
            NotFoundError: there is none.
        """
        found = await self._rows.get(deployment)
        async with self._ledger.database.transaction() as tx:
            await deployments.keep(tx, found.id, kept=kept)
            return await deployments.get(tx, found.id)

    async def delete(self, deployment: str, *, only_if: Callable[[Transaction], Awaitable[bool]] | None = None) -> None:
        """Forget a deployment, its log and its permalink; its files answer nowhere any more.

        Raises:
            ConflictError: it is live, has not come to an end, or *only_if* says no in the very transaction.
        """
        found = await self._rows.get(deployment)
        if not found.is_final:
            raise ConflictError(f"{found.id} is {found.state}", fix="cancel it first")

        async def forget(tx: Transaction) -> None:
            if shown := await aliases.pointing_at(tx, found.id):  # here: its aliases would go with it
                raise ConflictError(f"{found.id} is what {shown[0]} shows", fix="promote another deployment first")
            if only_if is not None and not await only_if(tx):
                raise ConflictError(f"{found.id} has changed meanwhile")
            await deployments.delete(tx, found.id)

        await self._windows.delete(found, forget)
        fault("delete.after_commit")
        await self._logs.drop(found.id)

    async def delete_project(self, project: Project) -> None:
        """Forget a project with its deployments, hosts, variables and logs; running builds are canceled."""
        before: int | None = None
        while page := await self._rows.page(project.id, before=before, limit=200):
            for deployment in page:
                if not deployment.is_final:
                    with suppress(ConflictError):  # it came to its end meanwhile
                        await self.cancel(deployment.id)
                await self._logs.drop(deployment.id)
            before = page[-1].sequence
        # What was submitted meanwhile goes with it: its builder is told so by a 410.
        async with self._ledger.database.transaction() as tx:
            await projects.delete(tx, project.id)
        await self._ledger.forget(project.id)
        await self._caches.drop(project.id)

    def _check(self, project: Project, wanted: Wanted) -> None:
        if wanted.source is SourceKind.GIT and project.git_url is None:
            raise InvalidError(f"{project.name} has no Git URL", fix="set one, or deploy a folder")
        if wanted.branch is not None:
            check_branch(wanted.branch)
        if wanted.commit is not None:
            check_commit(wanted.commit)
        if wanted.source is SourceKind.PREBUILT:
            return
        if wanted.source is SourceKind.GIT and project.git_url is not None:
            check_fetchable(project.git_url, self._builds.network)
        kind = self._executors.chosen(project)
        if kind not in self._executors.kinds:
            raise RefusedError(
                f"{project.name} cannot be built: {self._executors.why_not(kind)}",
                fix=f"scalemesh project change {project.name} --executor {self._executors.default}",
            )
        self._room.check(kind, self._builds.limits().memory_bytes)

    async def _stop(self, executor: Executor, ref: JobRef) -> None:
        """End the job. Where its executor does not, the scheduler asks it again; the builder is told."""
        try:
            async with asyncio.timeout(STOP_S):
                await executor.stop(ref)
        except (ScaleMeshError, TimeoutError) as error:
            log.warning(
                "a canceled build is not stopped yet", extra={"deployment": ref.deployment, "error": str(error)}
            )

    async def _environment(self, tx: Transaction, project: Project, wanted: Wanted) -> Environment:
        is_production = wanted.production
        if is_production is None:
            is_first = not await deployments.has_any(tx, project.id)
            is_production = is_first or wanted.branch in (None, project.production_branch)
        return Environment.PRODUCTION if is_production else Environment.PREVIEW

    async def _supersede(
        self, tx: Transaction, project: Project, wanted: Wanted, environment: Environment
    ) -> tuple[list[Deployment], int | None]:
        if wanted.source is not SourceKind.GIT or wanted.commit is not None:
            return [], None
        older = await queue.queued_of_branch(tx, project.id, wanted.branch, environment)
        for old, _ in older:
            await deployments.move(tx, old, State.SUPERSEDED, now=self._now(), message="A newer push took its place")
        return [old for old, _ in older], min((place for _, place in older), default=None)

    async def _insert(
        self,
        tx: Transaction,
        user: User,
        project: Project,
        wanted: Wanted,
        environment: Environment,
        place: int | None,
    ) -> Deployment:
        deployment_id = await self._free_id(tx, project)
        deployment = Deployment(
            id=deployment_id,
            sequence=0,
            project=project.id,
            project_name=project.name,
            user=user.id,
            environment=environment,
            state=State.QUEUED,
            source=wanted.source,
            source_ready=wanted.source is SourceKind.GIT,
            git_url=project.git_url if wanted.source is SourceKind.GIT else None,
            branch=wanted.branch,
            commit_sha=wanted.commit,
            settings=replace(project.settings, dialect=wanted.dialect or project.settings.dialect),
            memory_bytes=self._builds.limits().memory_bytes,
            executor=None if wanted.source is SourceKind.PREBUILT else self._executors.chosen(project),
            uses_cache=wanted.uses_cache,
            created_at=self._now(),
        )
        await deployments.insert(tx, deployment, place=place)
        permalink = f"{hosts.permalink_label(project.name, deployment_id)}.{self._base}"
        await aliases.reserve(tx, permalink, project.id, HostKind.PERMALINK, deployment=deployment_id)
        if wanted.branch is not None:
            host = f"{hosts.branch_label(project.name, wanted.branch)}.{self._base}"
            await aliases.reserve(tx, host, project.id, HostKind.BRANCH, branch=wanted.branch)
        return await deployments.get(tx, deployment_id)

    async def _free_id(self, tx: Transaction, project: Project) -> DeploymentId:
        for _ in range(ID_TRIES):
            deployment = DeploymentId(new_id("dpl"))
            host = f"{hosts.permalink_label(project.name, deployment)}.{self._base}"
            if not await aliases.is_taken(tx, host):
                return deployment
        raise ConflictError("no free permalink was found", fix="try again")


def _named(project: Project, wanted: Wanted) -> Wanted:
    """*wanted* with the production branch by name, where it is known and nobody named another."""
    if wanted.source is not SourceKind.GIT or wanted.branch is not None or wanted.commit is not None:
        return wanted
    return replace(wanted, branch=project.production_branch)
