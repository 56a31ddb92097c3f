"""One scheduler, one counter, one transaction: takes from the queue, starts jobs, sees them to their end.

Each executor goes its own way: one that is full or does not answer keeps only its own builds waiting.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from scalemesh.config import Builds, Git
from scalemesh.db import aliases, deployments, projects, queue
from scalemesh.db.database import Transaction
from scalemesh.db.deployments import DeploymentRows
from scalemesh.errors import ConflictError, NotFoundError, RefusedError, ScaleMeshError, UnreachableError
from scalemesh.faults import fault
from scalemesh.ports import Executor
from scalemesh.services.absences import Absences
from scalemesh.services.adoption import Adoption
from scalemesh.services.disk_room import DiskRoom
from scalemesh.services.endings import Endings
from scalemesh.services.executors import Executors, answered
from scalemesh.services.ledger import Ledger
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.services.room import Load, Pool, Room
from scalemesh.services.sources import repository_folder
from scalemesh.services.vault import BuildTokens
from scalemesh.services.verdict import verdict
from scalemesh.values import BuildEnd, BuildJob, Deployment, DeploymentId, EndCause, JobRef, Reason, State

log = logging.getLogger(__name__)
QUEUE_LOOK: Final = 50  #: how far down the queue a build that fits is looked for
IDLE_S: Final = 30.0  #: at the latest the queue is looked at again
UPLOAD_HOURS: Final = 24  #: an upload that was begun and not finished by then has failed
BEHIND_S: Final = 1.0  #: a build whose start nobody answered lets another one try first
RETRY_QUEUE_S: Final = 2.0
ASK_S: Final = 2.0  #: an end that is known is told at once
STOP_S: Final = 10.0  #: an executor that takes longer to stop a job is asked again
MOST_START: Final = timedelta(days=1)  #: the longest that a place may be allowed to take until a job begins
MAX_LOSSES: Final = 2
CLEAN_EVERY_S: Final = 60.0  #: what was not cleaned up is tried again
DISK_WORDS: Final = 4  #: number of what is said once in a log; the publisher has those below
START_WORDS: Final = 6  #: the adoption has the one between
CLEARING: Final = "a build is not cleared away yet"
MEND: Final = "choose another for the project and deploy again"


class Scheduler:
    def __init__(
        self,
        ledger: Ledger,
        executors: Executors,
        room: Room,
        endings: Endings,
        logs: LogPipeline,
        tokens: BuildTokens,
        disk: DiskRoom,
        *,
        builds: Builds,
        git: Git,
        socket: str,
        now: Callable[[], datetime],
    ) -> None:
        """*socket* is where local builders find the daemon."""
        self._ledger, self._db, self._rows = ledger, ledger.database, DeploymentRows(ledger.database)
        self._executors, self._room, self._disk = executors, room, disk
        self._told: set[DeploymentId] = set()  #: whose logs say that they wait for the disk
        self._endings, self._logs, self._tokens = endings, logs, tokens
        self._builds, self._git, self._socket, self._now = builds, git, socket, now
        self._adoption = Adoption(ledger.database, executors, logs, lease=self._lease)
        self._absences = Absences(now)
        self._woken = asyncio.Event()
        self._open: set[str] = set()  #: executors whose running builds are adopted: they take from the queue
        #: (deployment, attempt) of each job that there is, also while it is cleared away after its build: its executor
        self._in_hand: dict[tuple[str, int], str] = {}

    def wake(self) -> None:
        """Look at the queue: something came, or something ended."""
        self._woken.set()

    async def serve(self) -> None:
        """Adopt what runs, then build what is queued, until cancelled. Cancelling leaves running jobs alone."""
        async with asyncio.TaskGroup() as group:
            for kind in self._executors.kinds:
                group.create_task(self._adopt(kind, group))
            group.create_task(self._clean_rest())
            group.create_task(self._watch_leases())
            while True:
                self._woken.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(await self._take_all(group)):
                        await self._woken.wait()

    async def _take_all(self, group: asyncio.TaskGroup) -> float:
        """Start what may start now; return after how many seconds the queue is worth another look."""
        begun = self._now()
        try:
            while self._disk.takes_builds and (taken := await self._take_next()):
                self._absences.begins(self._executors.kind_of(taken))
                self._take_in_hand(taken, group)
            await self._tell_of_disk()
            return await self._until_due(begun)
        except UnreachableError as error:
            log.warning("the queue cannot move", extra={"error": str(error)})
        except Exception:
            log.exception("a bug: the queue cannot move")
        return RETRY_QUEUE_S

    async def _tell_of_disk(self) -> None:
        """Say in the log of each that waits, once, that it waits for room on the disk."""
        if self._disk.takes_builds:
            self._told.clear()
            return
        text = f"Waiting for room: {self._disk.why()}"
        for waiting in await self._rows.in_state(State.QUEUED):
            if waiting.source_ready and waiting.id not in self._told:
                self._told.add(waiting.id)
                await self._logs.write(waiting.id, "queue", text, once=DISK_WORDS)

    async def _take_next(self) -> Deployment | None:
        """Move the first deployment that may start now to building, and return it."""
        now = self._now()
        async with self._db.transaction() as tx:
            for free in self._room.free(await self._loads(tx), self._absences.here(self._open)):
                if waiting := await self._first_that_fits(tx, free, now):
                    break
            else:
                return None
            await deployments.start(tx, waiting.id, now=now, lease_until=self._lease())
            if not self._absences.is_doubtful(self._executors.kind_of(waiting)):
                await queue.served(tx, waiting.id, now)
            started = await deployments.get(tx, waiting.id)
            generation, routes = await aliases.snapshot(tx, started.project)
        await self._ledger.apply(started.project, generation, routes)
        return started

    async def _loads(self, tx: Transaction) -> dict[str, Load]:
        """What builds where: whichever are more, the rows that say so or the jobs that there are."""
        building, in_hand = await queue.building_load(tx, self._executors.default), Counter(self._in_hand.values())
        found = {kind: (*building.get(kind, (0, 0)), in_hand[kind]) for kind in {*building, *in_hand}}
        return {kind: Load(max(rows, jobs), memory_bytes) for kind, (rows, memory_bytes, jobs) in found.items()}

    async def _first_that_fits(self, tx: Transaction, free: Pool, now: datetime) -> Deployment | None:
        """The first of the queue of *free* whose memory is there; those before it are passed over, for a while."""
        patience = now - timedelta(seconds=self._builds.overtake_limit_s)
        waiting = await queue.queue(
            tx, now, executors=free.kinds, default=self._executors.default,
            patience=patience, per_project=self._builds.parallel_per_project, limit=QUEUE_LOOK,
        )  # fmt: skip
        for deployment in waiting:
            if free.holds(deployment.memory_bytes):
                return deployment
            await queue.passed_over(tx, deployment.id, now)
            if await queue.has_waited_enough(tx, deployment.id, patience):
                return None
        return None

    def _take_in_hand(self, deployment: Deployment, group: asyncio.TaskGroup) -> None:
        self._in_hand[deployment.id, deployment.attempt] = self._executors.kind_of(deployment)
        group.create_task(self._see_through(deployment))

    async def _see_through(self, deployment: Deployment) -> None:
        """Start the job (or find it, if it runs already), wait for its end, draw the conclusion, clean up.

        What fails here, on a full disk say, must not end the daemon: the lease runs out, and the build is looked
        after then.
        """
        try:
            ref = await self._started(deployment)
            if ref is not None:
                kind, executor = self._executors.kind_of(deployment), self._executors.of(deployment)
                end = await answered(partial(executor.wait, ref), "a build's end is not known yet", kind)
                await self._ended(deployment, end)
                await answered(partial(executor.stop, ref), CLEARING, kind)
        except UnreachableError as error:
            log.warning("a build's end is not written yet", extra={"deployment": deployment.id, "error": str(error)})
        except Exception:
            log.exception("a bug: a build's task failed", extra={"deployment": deployment.id})
        finally:
            self._in_hand.pop((deployment.id, deployment.attempt), None)
            self.wake()

    async def _started(self, deployment: Deployment) -> JobRef | None:
        """The job, found or started; None if it cannot start now or at all, which is written down."""
        if deployment.job:
            return JobRef(deployment=deployment.id, attempt=deployment.attempt, where=deployment.job)
        kind = self._executors.kind_of(deployment)
        try:
            return await self._start(deployment, kind)
        except RefusedError as error:
            self._absences.answered(kind)
            await self._endings.fail(deployment, Reason.REJECTED, str(error))
        except UnreachableError as error:
            with suppress(ConflictError):  # canceled or deleted meanwhile
                await self._try_later(deployment, self._absences.silent(kind), str(error))
        except Exception:
            self._absences.silent(kind)
            raise
        return None

    async def _start(self, deployment: Deployment, kind: str) -> JobRef:
        job = BuildJob(
            deployment=deployment.id,
            attempt=deployment.attempt,
            socket=self._socket,
            url=self._builds.url,
            token=self._tokens.make(deployment.id, deployment.attempt),
            limits=self._builds.limits(),
            network=self._builds.network,
            repository=repository_folder(deployment.git_url or "", self._git),
        )
        executor, was_doubtful = self._executors.named(kind), self._absences.is_doubtful(kind)
        fault("start.before")
        ref = await executor.start(job)
        self._absences.answered(kind)
        if was_doubtful:
            self.wake()
        fault("start.after")
        log.info("build started", extra={"deployment": deployment.id, "attempt": deployment.attempt})
        async with self._db.transaction() as tx:
            await deployments.set_job(tx, deployment.id, deployment.attempt, ref.where)
            if was_doubtful:
                await queue.served(tx, deployment.id, self._now())
        if await self._is_unwanted(deployment.id):
            # The cancel came before there was a job to kill.
            await answered(partial(executor.stop, ref), CLEARING, kind)
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
        if found.reason is Reason.LOST and reported is None and deployment.losses + 1 < MAX_LOSSES:
            with suppress(ConflictError):  # canceled or deleted meanwhile
                await self._retry(deployment)
            return
        await self._endings.fail(deployment, found.reason, found.message)

    async def _retry(self, deployment: Deployment) -> None:
        text = "The build was lost; it starts once more"
        async with self._db.transaction() as tx:
            await deployments.requeue(tx, deployment, not_before=self._now(), message=text, counts=True)
            if self._executors.find(deployment) is None:
                project = await projects.get(tx, deployment.project)
                await deployments.choose(tx, deployment.id, self._executors.chosen(project))
        await self._logs.write(deployment.id, "queue", text)

    async def _try_later(self, deployment: Deployment, until: datetime, why: str) -> None:
        """The place where builds run does not answer: back into the queue, which is no loss."""
        kind, not_before = self._executors.kind_of(deployment), until + timedelta(seconds=BEHIND_S)
        log.warning("builds cannot start", extra={"executor": kind, "deployment": deployment.id, "error": why})
        async with self._db.transaction() as tx:
            await deployments.requeue(tx, deployment, not_before=not_before, message=why, counts=False)
        text = f"Builds cannot start now, trying again: {why}"
        await self._logs.write(deployment.id, "queue", text, once=START_WORDS)

    async def _adopt(self, kind: str, group: asyncio.TaskGroup) -> None:
        """See through what runs on one executor; from then on it takes from the queue."""
        try:
            for deployment in await self._adoption.at_last(kind):
                self._take_in_hand(deployment, group)
        except Exception:  # sites and the other executors go on
            log.exception("a bug: running builds cannot be adopted", extra={"executor": kind})
            return
        self._open.add(kind)
        self.wake()

    async def _clean_rest(self) -> None:
        """Do what a daemon that died had still to do, and from then on what failed, such as on a full disk."""
        ended_before = self._now()
        while True:
            try:
                await self._end_homeless()
                await self._endings.clean_rest(ended_before)
            except UnreachableError as error:
                log.warning("ended deployments not cleaned up yet", extra={"error": str(error)})
            except Exception:
                log.exception("a bug: ended deployments cannot be cleaned up")
            await asyncio.sleep(CLEAN_EVERY_S)
            ended_before = self._now() - timedelta(seconds=CLEAN_EVERY_S)  # those of now are being cleaned up

    async def _end_homeless(self) -> None:
        """End what is of an executor that the config lists no more: builds are lost, those that wait have failed."""
        for build in await self._rows.in_state(State.BUILDING):
            if self._executors.find(build) is None:
                why = self._executors.why_not(self._executors.kind_of(build))
                log.warning("a build's executor is not in the config", extra={"deployment": build.id, "why": why})
                await self._ended(build, BuildEnd(cause=EndCause.LOST, detail=why))
        for waiting in await self._rows.in_state(State.QUEUED):
            if self._executors.find(waiting) is None:
                why = self._executors.why_not(self._executors.kind_of(waiting))
                await self._endings.fail(waiting, Reason.REJECTED, f"{why[0].upper()}{why[1:]}; {MEND}")
        self.wake()

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
        async with asyncio.TaskGroup() as group:
            for build in await self._rows.expired(now):
                if self._executors.kind_of(build) in self._open and not self._may_yet_begin(build, now):
                    group.create_task(self._end_unheard(build))
        for upload in await self._rows.abandoned(now - timedelta(hours=UPLOAD_HOURS)):
            text = f"The upload was not finished within {UPLOAD_HOURS} hours"
            await self._endings.fail(upload, Reason.LOST, text)

    def _may_yet_begin(self, build: Deployment, now: datetime) -> bool:
        """Whether no builder has claimed *build* yet, and we wait for its job.

        An image is pulled, a machine is found: how long that may take is for its executor to say, who tells what is
        wrong besides. The limit here is for one whose wait never returns.
        """
        if build.nonce is not None or build.started_at is None or (build.id, build.attempt) not in self._in_hand:
            return False
        return now < build.started_at + MOST_START + timedelta(seconds=self._builds.time_limit_s)

    async def _end_unheard(self, build: Deployment) -> None:
        """End a build; where its executor does not answer, the next look tries again.

        One that cannot stop the job, or takes too long to, keeps no build from its end: the builder is told, and the
        next attempt's start stops the job of this one.
        """
        known = {"deployment": build.id, "attempt": build.attempt}
        log.warning("lease ran out", extra=known)
        ref = JobRef(deployment=build.id, attempt=build.attempt, where=build.job or "")
        try:
            end = await self._asked(self._executors.of(build), ref)
            try:
                async with asyncio.timeout(STOP_S):
                    await self._executors.of(build).stop(ref)
            except (RefusedError, TimeoutError) as error:
                log.warning("an unheard build is not stopped", extra={**known, "error": str(error)})
            await self._ended(build, end)
            self._in_hand.pop((build.id, build.attempt), None)
            self.wake()
        except ScaleMeshError as error:
            log.warning("a build could not be looked after", extra={**known, "error": str(error)})
        except Exception:
            log.exception("a bug: a build could not be looked after", extra=known)

    async def _asked(self, executor: Executor, ref: JobRef) -> BuildEnd:
        """How the job ended, if its executor knows; a job that still runs, unheard, is lost."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ASK_S):
                return await executor.wait(ref)
        return BuildEnd(cause=EndCause.LOST, detail="the builder was not heard of")

    async def _until_due(self, since: datetime) -> float:
        """*since*: the begin of the look; what has become due during it may have been passed over."""
        due = [at for at in (await queue.next_due(self._db, since), self._absences.next(since)) if at is not None]
        return max(0.0, min([IDLE_S, *((at - self._now()).total_seconds() for at in due)]))

    def _lease(self) -> datetime:
        return self._now() + timedelta(seconds=self._builds.lease_s)
