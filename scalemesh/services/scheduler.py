"""One scheduler, one counter, one transaction: takes from the queue, starts jobs, sees them to their end.

Also what a restart needs: builds that went on without us are adopted, jobs that belong to nobody are reaped.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from scalemesh.config import Builds
from scalemesh.db import aliases, deployments, queue
from scalemesh.db.deployments import DeploymentRows
from scalemesh.errors import ConflictError, NotFoundError, RefusedError, ScaleMeshError, UnreachableError
from scalemesh.faults import fault
from scalemesh.ports import Executor
from scalemesh.services.endings import Endings
from scalemesh.services.ledger import Ledger
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.services.vault import BuildTokens
from scalemesh.services.verdict import verdict
from scalemesh.values import BuildEnd, BuildJob, Deployment, DeploymentId, EndCause, JobRef, Reason, State

log = logging.getLogger(__name__)
QUEUE_LOOK: Final = 50  #: how far down the queue a build that fits is looked for
IDLE_S: Final = 30.0  #: at the latest the queue is looked at again
UPLOAD_HOURS: Final = 24  #: an upload that was begun and not finished by then has failed
RETRY_START_S: Final = 15
RETRY_QUEUE_S: Final = 2.0
ASK_S: Final = 2.0  #: an end that is known is told at once
MAX_ATTEMPTS: Final = 2


class Scheduler:
    def __init__(
        self,
        ledger: Ledger,
        executor: Executor,
        endings: Endings,
        logs: LogPipeline,
        tokens: BuildTokens,
        *,
        builds: Builds,
        memory_bytes: int,
        socket: str,
        now: Callable[[], datetime],
    ) -> None:
        """*memory_bytes* is what all builds together may use; *socket* is where local builders find the daemon."""
        self._ledger, self._db, self._rows = ledger, ledger.database, DeploymentRows(ledger.database)
        self._executor, self._endings, self._logs, self._tokens = executor, endings, logs, tokens
        self._builds, self._memory_bytes, self._socket, self._now = builds, memory_bytes, socket, now
        self._woken = asyncio.Event()
        #: (deployment, attempt) of each job that there is, also while it is cleared away after its build
        self._in_hand: set[tuple[str, int]] = set()

    def wake(self) -> None:
        """Look at the queue: something came, or something ended."""
        self._woken.set()

    async def serve(self) -> None:
        """Adopt what runs, then build what is queued, until cancelled. Cancelling leaves running jobs alone."""
        async with asyncio.TaskGroup() as group:
            for deployment in await self._adopted_at_last():
                self._take_in_hand(deployment, group)
            group.create_task(self._clean_rest())
            group.create_task(self._watch_leases())
            while True:
                self._woken.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(await self._take_all(group)):
                        await self._woken.wait()

    async def _take_all(self, group: asyncio.TaskGroup) -> float:
        """Start what may start now; return after how many seconds the queue is worth another look."""
        try:
            while taken := await self._take_next():
                self._take_in_hand(taken, group)
            return await self._until_due()
        except UnreachableError as error:
            log.warning("the queue cannot move", extra={"error": str(error)})
        except Exception:
            log.exception("a bug: the queue cannot move")
        return RETRY_QUEUE_S

    async def _take_next(self) -> Deployment | None:
        """Move the first deployment that may start now to building, and return it."""
        now = self._now()
        patience = now - timedelta(seconds=self._builds.overtake_limit_s)
        async with self._db.transaction() as tx:
            building, used_bytes = await queue.building_load(tx)
            if max(building, len(self._in_hand)) >= self._builds.parallel:
                return None
            per_project = self._builds.parallel_per_project
            for waiting in await queue.queue(tx, now, patience=patience, per_project=per_project, limit=QUEUE_LOOK):
                if waiting.memory_bytes > self._memory_bytes - used_bytes:
                    await queue.passed_over(tx, waiting.id, now)
                    if await queue.has_waited_enough(tx, waiting.id, patience):
                        return None
                    continue
                await deployments.start(tx, waiting.id, now=now, lease_until=self._lease())
                started = await deployments.get(tx, waiting.id)
                generation, routes = await aliases.snapshot(tx, started.project)
                break
            else:
                return None
        await self._ledger.apply(started.project, generation, routes)
        return started

    def _take_in_hand(self, deployment: Deployment, group: asyncio.TaskGroup) -> None:
        self._in_hand.add((deployment.id, deployment.attempt))
        group.create_task(self._see_through(deployment))

    async def _see_through(self, deployment: Deployment) -> None:
        """Start the job (or find it, if it runs already), wait for its end, draw the conclusion, clean up.

        What fails here, on a full disk say, must not end the daemon: the lease runs out, and the build is looked
        after then.
        """
        try:
            ref = await self._started(deployment)
            if ref is not None:
                await self._ended(deployment, await self._executor.wait(ref))
                await self._executor.stop(ref)
        except UnreachableError as error:
            log.warning("a build's end is not written yet", extra={"deployment": deployment.id, "error": str(error)})
        except Exception:
            log.exception("a bug: a build's task failed", extra={"deployment": deployment.id})
        finally:
            self._in_hand.discard((deployment.id, deployment.attempt))
            self.wake()

    async def _started(self, deployment: Deployment) -> JobRef | None:
        """The job, found or started; None if it cannot start now or at all, which is written down."""
        if deployment.job:
            return JobRef(deployment=deployment.id, attempt=deployment.attempt, where=deployment.job)
        try:
            return await self._start(deployment)
        except RefusedError as error:
            await self._endings.fail(deployment, Reason.REJECTED, str(error))
        except UnreachableError as error:
            with suppress(ConflictError):  # canceled or deleted meanwhile
                await self._try_later(deployment, str(error))
        return None

    async def _start(self, deployment: Deployment) -> JobRef:
        job = BuildJob(
            deployment=deployment.id,
            attempt=deployment.attempt,
            socket=self._socket,
            url=self._builds.public_url,
            token=self._tokens.make(deployment.id, deployment.attempt),
            limits=self._builds.limits(),
        )
        fault("start.before")
        ref = await self._executor.start(job)
        fault("start.after")
        log.info("build started", extra={"deployment": deployment.id, "attempt": deployment.attempt})
        async with self._db.transaction() as tx:
            await deployments.set_job(tx, deployment.id, deployment.attempt, ref.where)
        if await self._is_unwanted(deployment.id):
            await self._executor.stop(ref)  # the cancel came before there was a job to kill
        return ref

    async def _is_unwanted(self, deployment: DeploymentId) -> bool:
        try:
            return (await self._rows.get(deployment)).state is State.CANCELED
        except NotFoundError:  # its project was deleted
            return True

    async def _ended(self, started: Deployment, end: BuildEnd) -> None:
        """What the job's end means, if the deployment is still in that attempt."""
        try:
            deployment = await self._rows.get(started.id)
        except NotFoundError:
            return
        if deployment.state is not State.BUILDING or deployment.attempt != started.attempt:
            return
        reported = json.loads(deployment.reported) if deployment.reported else None
        found = verdict(end, reported, self._builds.limits())
        if found.reason is Reason.LOST and reported is None and deployment.attempt < MAX_ATTEMPTS:
            with suppress(ConflictError):  # canceled or deleted meanwhile
                await self._retry(deployment)
            return
        await self._endings.fail(deployment, found.reason, found.message)

    async def _retry(self, deployment: Deployment) -> None:
        text = "The build was lost; it starts once more"
        async with self._db.transaction() as tx:
            await deployments.requeue(tx, deployment, not_before=self._now(), message=text, counts=True)
        await self._logs.write(deployment.id, "queue", text)

    async def _try_later(self, deployment: Deployment, why: str) -> None:
        """The place where builds run does not answer: back into the queue, without counting an attempt."""
        not_before = self._now() + timedelta(seconds=RETRY_START_S)
        async with self._db.transaction() as tx:
            await deployments.requeue(tx, deployment, not_before=not_before, message=why, counts=False)
        await self._logs.write(deployment.id, "queue", f"Builds cannot start now, trying again: {why}")

    async def _adopted_at_last(self) -> list[Deployment]:
        """As ``_adopted``; where builds run may come up later than we do, and the sites do not wait for it."""
        while True:
            try:
                return await self._adopted()
            except UnreachableError as error:
                log.warning("running builds cannot be adopted yet", extra={"error": str(error)})
                await asyncio.sleep(RETRY_QUEUE_S)

    async def _adopted(self) -> list[Deployment]:
        """At the start: reap jobs that belong to no build, return the builds to see through."""
        async with self._db.transaction() as tx:
            await deployments.renew_all(tx, self._lease())
        builds = {(found.id, found.attempt): found for found in await self._rows.in_state(State.BUILDING)}
        running = {(ref.deployment, ref.attempt): ref for ref in await self._executor.running()}
        for key, ref in running.items():
            if key not in builds:
                log.info("reaping a job that nobody waits for", extra={"deployment": ref.deployment})
                await self._executor.stop(ref)
        return [await self._found_again(build, running.get(key)) for key, build in builds.items()]

    async def _clean_rest(self) -> None:
        try:
            await self._endings.clean_rest()
        except UnreachableError as error:  # the next start tries again
            log.warning("ended deployments not cleaned up", extra={"error": str(error)})

    async def _found_again(self, build: Deployment, ref: JobRef | None) -> Deployment:
        """*build* with the words that find its job. Without any, a start (idempotent) makes or finds it."""
        if ref is not None and ref.where != build.job:
            async with self._db.transaction() as tx:
                await deployments.set_job(tx, build.id, build.attempt, ref.where)
            return await self._rows.get(build.id)
        return build

    async def _watch_leases(self) -> None:
        """Ends builds whose builder has not been heard for a lease, and uploads that nobody finishes."""
        while True:
            await asyncio.sleep(self._builds.lease_s / 4)
            try:
                await self._look_after(self._now())
            except ScaleMeshError as error:
                log.warning("leases could not be looked after", extra={"error": str(error)})
            except Exception:
                log.exception("a bug: leases could not be looked after")

    async def _look_after(self, now: datetime) -> None:
        for deployment in await self._rows.expired(now):
            log.warning("lease ran out", extra={"deployment": deployment.id, "attempt": deployment.attempt})
            ref = JobRef(deployment=deployment.id, attempt=deployment.attempt, where=deployment.job or "")
            end = await self._asked(ref)
            await self._executor.stop(ref)
            await self._ended(deployment, end)
            self._in_hand.discard((deployment.id, deployment.attempt))
            self.wake()
        for upload in await self._rows.abandoned(now - timedelta(hours=UPLOAD_HOURS)):
            text = f"The upload was not finished within {UPLOAD_HOURS} hours"
            await self._endings.fail(upload, Reason.LOST, text)

    async def _asked(self, ref: JobRef) -> BuildEnd:
        """How the job ended, if its executor knows; a job that still runs, unheard, is lost."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ASK_S):
                return await self._executor.wait(ref)
        return BuildEnd(cause=EndCause.LOST, detail="the builder was not heard of")

    async def _until_due(self) -> float:
        due = await queue.next_due(self._db, self._now())
        return min(IDLE_S, max(0.0, (due - self._now()).total_seconds())) if due else IDLE_S

    def _lease(self) -> datetime:
        return self._now() + timedelta(seconds=self._builds.lease_s)
