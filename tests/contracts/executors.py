"""Executors that do one thing wrong, or nothing at all until a test says so."""

import asyncio
from collections.abc import Sequence

from scalemesh.errors import RefusedError, UnreachableError
from scalemesh.ports import Finding
from scalemesh.values import BuildEnd, BuildJob, DeploymentId, EndCause, JobRef

Key = tuple[DeploymentId, int]


class EndsWhenTold:
    """Keeps jobs, also over a restart of the daemon, and ends them when the test does."""

    uses_this_machine = True

    def __init__(self) -> None:
        self.jobs: dict[Key, BuildJob] = {}
        self.ends: dict[Key, BuildEnd] = {}
        self.stopped: list[Key] = []
        self.starts = 0
        self._changed = asyncio.Condition()

    async def start(self, job: BuildJob) -> JobRef:
        key = job.deployment, job.attempt
        if key not in self.jobs:
            self.jobs[key] = job
            self.starts += 1
        await self._tell()
        return JobRef(deployment=job.deployment, attempt=job.attempt, where="here")

    async def wait(self, ref: JobRef) -> BuildEnd:
        key = ref.deployment, ref.attempt
        async with self._changed:
            await self._changed.wait_for(lambda: key in self.ends or key not in self.jobs)
        return self.ends.get(key, BuildEnd(cause=EndCause.LOST))

    async def stop(self, ref: JobRef) -> None:
        self.stopped.append((ref.deployment, ref.attempt))
        self.jobs.pop((ref.deployment, ref.attempt), None)
        await self._tell()

    async def running(self) -> Sequence[JobRef]:
        return [JobRef(deployment=deployment, attempt=attempt, where="here") for deployment, attempt in self.jobs]

    async def check(self) -> Sequence[Finding]:
        return [Finding(ok=True, what="jobs end when told")]

    async def end(self, deployment: DeploymentId, attempt: int = 1, cause: EndCause = EndCause.OK) -> None:
        """Let the job end."""
        self.ends[deployment, attempt] = BuildEnd(cause=cause, exit_code=0 if cause is EndCause.OK else 1)
        await self._tell()

    async def lose(self, deployment: DeploymentId, attempt: int = 1) -> None:
        """Let the job vanish without an end."""
        self.jobs.pop((deployment, attempt))
        await self._tell()

    async def job(self, deployment: DeploymentId, attempt: int = 1) -> BuildJob:
        """The job, once it was started."""
        key = deployment, attempt
        async with self._changed:
            await self._changed.wait_for(lambda: key in self.jobs)
        return self.jobs[key]

    async def attempt_of(self, deployment: DeploymentId) -> int:
        """The number of the attempt whose job there is, once there is one."""
        async with self._changed:
            await self._changed.wait_for(lambda: any(one == deployment for one, _ in self.jobs))
        return next(attempt for one, attempt in self.jobs if one == deployment)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class RunsElsewhere(EndsWhenTold):
    """Its jobs take nothing of this machine's memory."""

    uses_this_machine = False


class IsDown(EndsWhenTold):
    """Answers nothing until the test lets it."""

    is_up = False
    asked = 0  #: how often a start was asked for

    async def start(self, job: BuildJob) -> JobRef:
        self.asked += 1
        self._answer()
        return await super().start(job)

    async def stop(self, ref: JobRef) -> None:
        self._answer()
        await super().stop(ref)

    async def running(self) -> Sequence[JobRef]:
        self._answer()
        return await super().running()

    def _answer(self) -> None:
        if not self.is_up:
            raise UnreachableError("no route to the cluster")


class NeverAnswers(EndsWhenTold):
    """Lets whoever asks wait for ever."""

    async def running(self) -> Sequence[JobRef]:
        await asyncio.Event().wait()
        return []


class Breaks(EndsWhenTold):
    """Has a bug."""

    async def running(self) -> Sequence[JobRef]:
        raise RuntimeError("a client library's own")


class Refuses(EndsWhenTold):
    """Says no to every job."""

    async def start(self, job: BuildJob) -> JobRef:
        raise RefusedError("no user namespaces", fix="sysctl …")


class StartsWhenTold(EndsWhenTold):
    """Takes its time to start a job."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.told = asyncio.Event(), asyncio.Event()

    async def start(self, job: BuildJob) -> JobRef:
        self.asked.set()
        await self.told.wait()
        return await super().start(job)


class StartsThenIsDown(StartsWhenTold):
    """The same, and does not answer whoever wants it stopped, until the test lets it."""

    is_down = True

    async def stop(self, ref: JobRef) -> None:
        if self.is_down:
            raise UnreachableError("no route to the cluster")
        await super().stop(ref)


class ComesUpLate(EndsWhenTold):
    """Cannot say yet what runs when it is asked first."""

    asked = 0

    async def running(self) -> Sequence[JobRef]:
        self.asked += 1
        if self.asked == 1:
            raise UnreachableError("the socket is closed")
        return await super().running()


class StartsUnheard(EndsWhenTold):
    """Starts a job, and the answer to the first who asked is lost."""

    async def start(self, job: BuildJob) -> JobRef:
        is_first = self.starts == 0
        ref = await super().start(job)
        if is_first:
            raise UnreachableError("the connection was reset")
        return ref
