"""What a restart needs: builds that went on without us are found again, jobs that belong to nobody are reaped."""

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

from scalemesh.db import deployments
from scalemesh.db.database import Database
from scalemesh.db.deployments import DeploymentRows
from scalemesh.errors import ScaleMeshError
from scalemesh.services.executors import Executors, answered
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.values import Deployment, DeploymentId, JobRef, State

log = logging.getLogger(__name__)
AWAY_WORDS: Final = 5  #: number of what is said once in a log; those below are others'


class Adoption:
    def __init__(
        self, database: Database, executors: Executors, logs: LogPipeline, *, lease: Callable[[], datetime]
    ) -> None:
        """*lease*: until when a builder that was just heard need not be heard again."""
        self._db, self._rows, self._executors, self._lease = database, DeploymentRows(database), executors, lease
        self._logs = logs
        self._told: set[DeploymentId] = set()  #: whose logs say that they wait for an executor

    async def at_last(self, kind: str) -> list[Deployment]:
        """The builds of one executor to see through, once it answers: it may come up later than we do."""
        return await answered(partial(self._tried, kind), "running builds cannot be adopted yet", kind)

    async def _tried(self, kind: str) -> list[Deployment]:
        """As ``_once``; those that wait for the executor meanwhile are told why, each once."""
        try:
            return await self._once(kind)
        except ScaleMeshError as error:
            for waiting in await self._rows.in_state(State.QUEUED):
                is_new = waiting.source_ready and waiting.id not in self._told
                if is_new and self._executors.kind_of(waiting) == kind:
                    self._told.add(waiting.id)
                    text = f"Builds cannot start now, trying again: {error}"
                    await self._logs.write(waiting.id, "queue", text, once=AWAY_WORDS)
            raise

    async def _once(self, kind: str) -> list[Deployment]:
        executor = self._executors.named(kind)
        async with self._db.transaction() as tx:
            await deployments.renew_all(tx, kind, self._lease(), default=self._executors.default)
        running = {(ref.deployment, ref.attempt): ref for ref in await executor.running()}
        building = await self._rows.in_state(State.BUILDING)
        builds = {(one.id, one.attempt): one for one in building if self._executors.kind_of(one) == kind}
        for key, ref in running.items():
            if key not in builds:
                log.info("reaping a job that nobody waits for", extra={"deployment": ref.deployment, "executor": kind})
                await executor.stop(ref)
        return [await self._found_again(build, running.get(key)) for key, build in builds.items()]

    async def _found_again(self, build: Deployment, ref: JobRef | None) -> Deployment:
        """*build* with the words that find its job. Without any, a start (idempotent) makes or finds it."""
        if ref is not None and ref.where != build.job:
            async with self._db.transaction() as tx:
                await deployments.set_job(tx, build.id, build.attempt, ref.where)
            return await self._rows.get(build.id)
        return build
