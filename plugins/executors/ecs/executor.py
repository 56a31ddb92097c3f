"""Build jobs as tasks of ECS. AWS keeps them while the daemon is away."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from weakref import WeakValueDictionary

from plugins.executors.ecs.aws import Aws
from plugins.executors.ecs.config import EcsConfig
from plugins.executors.ecs.definition import Definitions, family
from plugins.executors.ecs.ends import end_of
from plugins.executors.ecs.findings import look
from plugins.executors.ecs.printed import last_words
from plugins.executors.ecs.proof import Prover
from plugins.executors.ecs.request import client_token, run_words, tags
from plugins.executors.ecs.tasks import NEWER, STOP, Label, Task, Tasks, arn_of, ref_of
from plugins.executors.ecs.watch import UNSEEN_S, Watch
from plugins.executors.ecs.words import known_by_token, refused_to_run
from scalemesh.errors import RefusedError, UnreachableError
from scalemesh.ports import Executor, Finding
from scalemesh.values import BuildEnd, BuildJob, DeploymentId, EndCause, JobRef

GRACE_S: Final = 30.0  #: the builder keeps the exact time limit; we end a builder that does not
POLL_S: Final = 1.5
CHECK_S: Final = 9.0


class EcsExecutor:
    """Runs each build as a task of its own. See ``ports.Executor`` for the contract."""

    Config = EcsConfig
    uses_this_machine: ClassVar[bool] = False

    def __init__(self, config: EcsConfig, aws: Aws, watch: Watch, tasks: Tasks, grace_s: float, check_s: float) -> None:
        self._config = config
        self._aws = aws
        self._watch = watch
        self._tasks = tasks
        self._grace_s = grace_s
        self._check_s = check_s
        self._definitions = Definitions(aws, config, tags(config))
        self._registering = asyncio.Lock()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._started: dict[DeploymentId, JobRef] = {}  # until it is stopped; AWS's own lists lag behind

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        config: EcsConfig,
        *,
        aws: Aws | None = None,
        grace_s: float = GRACE_S,
        poll_s: float = POLL_S,
        check_s: float = CHECK_S,
        unseen_s: float = UNSEEN_S,
    ) -> AsyncIterator[Self]:
        """Yield; tasks go on afterwards. Nothing is asked of AWS before it is needed.

        *grace_s*: how long a builder may go on after its time limit, which it keeps itself. *check_s*: how long a
        check may take. *unseen_s*: how long a task is waited for that ECS has not told of at all.
        """
        async with AsyncExitStack() as opened:
            if aws is None:
                aws = await opened.enter_async_context(Aws.open(config))
            tasks = Tasks(aws, config.cluster)
            watch = Watch(
                tasks,
                interval_s=poll_s,
                start_s=config.start_timeout_s,
                now=lambda: datetime.now(UTC),
                unseen_s=unseen_s,
            )
            await opened.enter_async_context(watch.open())
            yield cls(config, aws, watch, tasks, grace_s, check_s)

    async def start(self, job: BuildJob) -> JobRef:
        """See the port."""
        async with self._locks.setdefault(job.deployment, asyncio.Lock()):
            tasks = await self._of(job.deployment)
            forgotten = [task for task in tasks if task.stopped_reason in {STOP, NEWER}]
            for found in self._refs([task for task in tasks if task not in forgotten], job.deployment):
                if found.attempt == job.attempt:
                    return found
                await self._stop(found, NEWER)
            ref = await self._run(job, forgotten=len(forgotten))
            self._started[job.deployment] = ref
            return ref

    async def wait(self, ref: JobRef) -> BuildEnd:
        """See the port."""
        arn = arn_of(ref)
        task = await self._watch.ended(arn) if arn else None
        if task is None:
            return end_of(None)
        end = end_of(task)
        if end.cause is EndCause.FAILED:
            return end_of(task, await last_words(self._aws, self._definitions, task))
        return end

    async def stop(self, ref: JobRef) -> None:
        """See the port. ECS keeps a record of an ended task for an hour, and nothing else."""
        if self._started.get(ref.deployment) == ref:
            del self._started[ref.deployment]
        try:
            await self._stop(ref, STOP)
        except RefusedError as error:
            raise UnreachableError("the task cannot be stopped", why=str(error), fix=error.fix) from error

    async def running(self) -> Sequence[JobRef]:
        """See the port. An ended task leaves nothing to clean up, so it is not listed; its ref still finds its end."""
        try:
            found = await self._tasks.running(self._config.owner)
        except RefusedError as error:
            raise UnreachableError("running tasks cannot be listed", why=str(error), fix=error.fix) from error
        return [ref for task in found if (ref := self._ref(task)) is not None]

    async def check(self) -> Sequence[Finding]:
        """See the port."""
        prover = Prover(
            config=self._config,
            aws=self._aws,
            tasks=self._tasks,
            watch=self._watch,
            definitions=self._definitions,
        )
        return await look(prover, self._check_s)

    async def _of(self, deployment: DeploymentId) -> list[Task]:
        """The tasks of *deployment*, running or ended within the hour."""
        groups = await asyncio.gather(
            self._tasks.running(self._config.owner), self._tasks.stopped(family(self._config))
        )
        found = [(task, self._ref(task)) for group in groups for task in group]
        return [task for task, ref in found if ref is not None and ref.deployment == deployment]

    def _refs(self, tasks: Sequence[Task], deployment: DeploymentId) -> list[JobRef]:
        """The jobs of the tasks, and the one that AWS may not list yet."""
        found = [ref for task in tasks if (ref := self._ref(task)) is not None]
        known = self._started.get(deployment)
        return found if known is None or known in found else [*found, known]

    def _ref(self, task: Task) -> JobRef | None:
        label = task.label
        if label is None or label.owner != self._config.owner:
            return None
        return ref_of(label.deployment, label.attempt, task.arn)

    async def _run(self, job: BuildJob, *, forgotten: int) -> JobRef:
        """*forgotten*: how many of its tasks were stopped; by its client token none of them is to be found again."""
        async with self._registering:
            definition = await self._definitions.ready()
        label = Label(
            owner=self._config.owner,
            deployment=job.deployment,
            attempt=job.attempt,
            limit_s=int(job.limits.time_s + self._grace_s),
        )
        words = run_words(self._config, job, definition, label)
        words["clientToken"] = client_token(label, forgotten)
        return ref_of(job.deployment, job.attempt, await self._run_once(words))

    async def _run_once(self, words: dict[str, Any]) -> str:
        """The ARN of the task; also of one with the same client token, from a call whose answer was lost."""
        try:
            answer = await self._aws.call("ecs", "run_task", **words)
        except RefusedError as error:
            if known := known_by_token(error):
                return known
            raise
        if not answer.get("tasks"):
            raise refused_to_run(answer.get("failures", []))
        arn: str = answer["tasks"][0]["taskArn"]
        return arn

    async def _stop(self, ref: JobRef, reason: str) -> None:
        arn = arn_of(ref)
        if arn is not None:
            await self._tasks.stop(arn, reason)


if TYPE_CHECKING:
    _fits: type[Executor] = EcsExecutor
