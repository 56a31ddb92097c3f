"""Runs each build as a Job. See ``ports.Executor`` for the contract."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, ClassVar, Final, Self
from weakref import WeakValueDictionary

from plugins.executors.kubernetes import ends, findings
from plugins.executors.kubernetes.cluster import Cluster
from plugins.executors.kubernetes.config import KubernetesConfig
from plugins.executors.kubernetes.jobs import Jobs
from plugins.executors.kubernetes.patience import Patience
from plugins.executors.kubernetes.recipe import Recipe, ref_of
from plugins.executors.kubernetes.sweep import sweep
from plugins.executors.kubernetes.watch import News, Watch
from scalemesh.errors import RefusedError, ScaleMeshError, UnreachableError
from scalemesh.ports import Executor, Finding
from scalemesh.values import BuildEnd, BuildJob, DeploymentId, EndCause, JobRef

log = logging.getLogger(__name__)
GRACE_S: Final = 120.0  #: for the builder to end, beside all the time that a start may take
ASK_AGAIN_S: Final = 1.0  #: while the API does not answer
SWEEP_S: Final = 600.0
SWEEP_AGAIN_S: Final = 10.0
PROOF_S: Final = 9.0


class KubernetesExecutor:
    """One Job and one Secret a build, in one namespace."""

    Config = KubernetesConfig
    uses_this_machine: ClassVar[bool] = False

    def __init__(self, config: KubernetesConfig, cluster: Cluster, watch: Watch, grace_s: float) -> None:
        self._config, self._cluster, self._watch = config, cluster, watch
        self._recipe = Recipe(config, grace_s)
        self._jobs = Jobs(cluster, self._recipe)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._ends: dict[JobRef, BuildEnd] = {}  #: until the job is stopped

    @classmethod
    @asynccontextmanager
    async def open(cls, config: KubernetesConfig, *, grace_s: float | None = None) -> AsyncIterator[Self]:
        """Yield; the cluster need not answer yet. Jobs go on when this ends.

        *grace_s*: how much longer than the build's time limit, which the builder keeps itself, a pod may be there. Its
        start counts in: pulling the image must not take from the time of the build.
        """
        if grace_s is None:
            grace_s = GRACE_S + config.start_timeout_s
        async with AsyncExitStack() as opened:
            cluster = await opened.enter_async_context(Cluster.open(config))
            watch = await opened.enter_async_context(Watch.open(cluster, Recipe(config, grace_s).selector()))
            executor = cls(config, cluster, watch, grace_s)
            sweeping = asyncio.create_task(executor._sweep())
            try:
                yield executor
            finally:
                sweeping.cancel()
                await asyncio.wait([sweeping])

    async def start(self, job: BuildJob) -> JobRef:
        """See the port."""
        if not job.url:
            raise RefusedError(
                "builds in the cluster have no way to the daemon",
                why="builds.public_url is not set",
                fix="set it to the http(s) address of the daemon, as pods of the cluster reach it",
            )
        async with self._locked(job.deployment):
            return await self._jobs.start(job)

    async def wait(self, ref: JobRef) -> BuildEnd:
        """See the port. An outage of the API is waited through."""
        known = self._ends.get(ref)
        if known is not None:
            return known
        with self._watch.following(self._name(ref)) as news:
            end = await self._end(ref, news)
        if news.job is not None:
            self._ends[ref] = end
        return end

    async def stop(self, ref: JobRef) -> None:
        """See the port. Processes that ignore the word have two seconds."""
        async with self._locked(ref.deployment):
            try:
                await self._jobs.end(ref.deployment, ref.attempt)
            except RefusedError as error:
                raise UnreachableError("the job cannot be stopped", why=str(error), fix=error.fix) from error
        self._ends.pop(ref, None)

    async def running(self) -> Sequence[JobRef]:
        """See the port."""
        try:
            found = await self._cluster.jobs(self._recipe.selector())
        except RefusedError as error:
            raise UnreachableError("jobs cannot be listed", why=str(error), fix=error.fix) from error
        refs = [ref for job in found if (ref := ref_of(job)) is not None]
        return [ref for ref in refs if not ref.deployment.startswith(findings.PROOF_PREFIX)]

    async def check(self) -> Sequence[Finding]:
        """Ask for our rights, then run a job of seconds."""
        found: list[Finding] = []
        job = findings.proof_job(self._config)
        try:
            async with asyncio.timeout(PROOF_S):
                found += await findings.of_cluster(self._cluster, self._config)
                if any(not finding.ok for finding in found):
                    return found
                ref = await self._jobs.start(job, words=("proof",))
                with self._watch.following(self._name(ref)) as news:  # nobody asks for its end again
                    end = await self._end(ref, news)
                return [*found, *findings.of_proof(end, self._config)]
        except TimeoutError:
            return [*found, findings.unproven(await self._held_up(job.deployment), PROOF_S)]
        except ScaleMeshError as error:
            return [*found, Finding(ok=False, what=f"no job can be run: {error.what}: {error.why}", fix=error.fix)]
        finally:
            with suppress(ScaleMeshError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._jobs.end(job.deployment, job.attempt)

    async def _end(self, ref: JobRef, news: News) -> BuildEnd:
        """How the job ends: by what its pod tells, or, after a look at what there is, by what is missing."""
        patience = Patience(self._config.start_timeout_s, asyncio.get_running_loop().time)
        while True:
            news.happened.clear()
            end = ends.of_pods(news)
            if end is not None:
                return end
            due_s = 0.0 if news.is_doubtful else patience.due_s(news)
            if due_s != 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(due_s):
                        await news.happened.wait()
            elif not await self._look(ref, news):
                await asyncio.sleep(ASK_AGAIN_S)
            elif news.job is None:
                return BuildEnd(cause=EndCause.LOST, detail="the cluster knows no such job")
            elif not news.is_doubtful and ends.of_pods(news) is None and patience.due_s(news) == 0:
                return await self._concluded(ref, news)

    async def _look(self, ref: JobRef, news: News) -> bool:
        """Read what there is of the job; False: that cannot be told now."""
        name, selector = self._name(ref), self._recipe.selector(ref.deployment, ref.attempt)
        try:
            job = await self._cluster.job(name)
            pods = await self._cluster.pods(selector)
        except ScaleMeshError as error:
            log.debug("a job cannot be looked at", extra={"job": name, "error": str(error)})
            return False
        is_it = job is not None and job["metadata"]["uid"] == ref.where.rpartition(" ")[2]
        news.look(job if is_it else None, pods)
        return True

    async def _concluded(self, ref: JobRef, news: News) -> BuildEnd:
        """The end of a job whose pod tells none. It may still begin or run anew in the cluster: that is ended, too."""
        end = ends.of_rest(news)
        if end is None:
            waited_s = self._config.start_timeout_s
            end = ends.never_began(news, self._config.image, waited_s, await self._warnings(news))
        if end.cause in {EndCause.LOST, EndCause.REFUSED}:
            with suppress(ScaleMeshError):
                await self._jobs.end(ref.deployment, ref.attempt, waits=False)
        return end

    async def _warnings(self, news: News) -> list[str]:
        """What the cluster said last of why the job does not begin."""
        uids = [found["metadata"]["uid"] for found in (*news.pods.values(), news.job) if found]
        told: list[str] = []
        with suppress(ScaleMeshError):
            for uid in uids:
                events = await self._cluster.events(uid)
                told += [str(event.get("message", "")) for event in events if event.get("type") == "Warning"]
        return told

    async def _held_up(self, deployment: DeploymentId) -> str:
        with suppress(ScaleMeshError, TimeoutError):
            async with asyncio.timeout(1):
                pods = await self._cluster.pods(self._recipe.selector(deployment))
            return ends.held_up(pods, self._config.image)
        return "the cluster does not say why"

    async def _sweep(self) -> None:
        """Now and then, and at the beginning as soon as the cluster answers."""
        while True:
            pause_s = SWEEP_S
            try:
                await sweep(self._cluster, self._jobs, self._recipe)
            except ScaleMeshError as error:
                log.debug("leftovers cannot be swept yet", extra={"error": str(error)})
                pause_s = SWEEP_AGAIN_S
            await asyncio.sleep(pause_s)

    def _name(self, ref: JobRef) -> str:
        return self._recipe.name(ref.deployment, ref.attempt)

    def _locked(self, deployment: str) -> asyncio.Lock:
        return self._locks.setdefault(deployment, asyncio.Lock())


if TYPE_CHECKING:
    _fits: type[Executor] = KubernetesExecutor
