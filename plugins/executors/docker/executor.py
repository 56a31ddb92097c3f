"""Runs each build in a container of its own. See ``ports.Executor`` for the contract."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, Self, TypeVar
from weakref import WeakValueDictionary

from docker.errors import ImageNotFound, NotFound

from plugins.executors.docker import ends, findings, images
from plugins.executors.docker.config import DockerConfig
from plugins.executors.docker.engine import Engine
from plugins.executors.docker.recipe import ATTEMPT, DEPLOYMENT, NEVER_BEGAN, OWNER, PART, PROOF_PREFIX, Recipe, ref_of
from plugins.executors.docker.watcher import RENEW_S, Watcher
from scalemesh.errors import RefusedError, ScaleMeshError, UnreachableError
from scalemesh.ports import Finding
from scalemesh.values import BuildEnd, BuildJob, DeploymentId, EndCause, JobRef, Network

T = TypeVar("T")
log = logging.getLogger(__name__)
GRACE_S: Final = 30.0  #: a builder may go on so long after its time limit, which it keeps itself
ASK_AGAIN_S: Final = 2.0  #: while the engine does not answer
SWEEP_S: Final = 600.0
HOLDER_S: Final = 20.0  #: a container's Python takes so long to begin on a machine that is busy
CHECK_S: Final = 9.0
FORGET_S: Final = 0.8
TOLD_WITHIN_S: Final = 60.0
PULLED_WITHIN_S: Final = 20.0  #: a job waits so long for its image, then its turn comes again later


class DockerExecutor:
    """One container, one volume and, for a network of its own, one holder of that a job."""

    Config = DockerConfig

    def __init__(
        self,
        config: DockerConfig,
        engine: Engine,
        watcher: Watcher,
        *,
        grace_s: float,
        patience_s: float,
        holder_s: float,
    ) -> None:
        self._config, self._engine, self._watcher = config, engine, watcher
        self._patience_s, self._holder_s = patience_s, holder_s
        self._recipe = Recipe(config, grace_s)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._pull: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        config: DockerConfig,
        *,
        grace_s: float = GRACE_S,
        renew_s: float = RENEW_S,
        patience_s: float = PULLED_WITHIN_S,
        holder_s: float = HOLDER_S,
    ) -> AsyncIterator[Self]:
        """Begin to listen to the engine, which need not be up; running jobs go on when this ends."""
        engine = Engine(config)
        watcher = Watcher(engine, config.owner)
        executor = cls(config, engine, watcher, grace_s=grace_s, patience_s=patience_s, holder_s=holder_s)
        tasks = [asyncio.create_task(executor._sweep()), asyncio.create_task(watcher.renew(renew_s))]
        try:
            yield executor
        finally:
            tasks += [executor._pull] if executor._pull else []
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(watcher.close)
            await engine.close()

    @property
    def uses_this_machine(self) -> bool:
        """See the port."""
        return self._config.is_local

    async def start(self, job: BuildJob) -> JobRef:
        """See the port."""
        async with self._locked(job.deployment):
            name = self._recipe.name(job.deployment, job.attempt)
            known = await self._container(name)
            if known is not None and known.status != NEVER_BEGAN:
                return ref_of(known.labels, name)
            for attempt in {int(found.labels[ATTEMPT]) for found in await self._containers(job.deployment)}:
                await self._forget(job.deployment, attempt)  # older ones, and what a killed daemon began of this
            await self._provide_image()
            await self._launch(job, name, [])
            return JobRef(deployment=job.deployment, attempt=job.attempt, where=name)

    async def wait(self, ref: JobRef) -> BuildEnd:
        """See the port."""
        name = self._recipe.name(ref.deployment, ref.attempt)
        with self._watcher.listening(name) as happened:
            while True:
                happened.clear()
                try:
                    found = await self._container(name)
                    if found is None:
                        return BuildEnd(cause=EndCause.LOST, detail="its container is gone")
                    if found.status == NEVER_BEGAN:
                        return BuildEnd(cause=EndCause.LOST, detail="its container was made but never started")
                    if found.status in ends.FINAL:
                        return await self._engine.call(partial(_with, ends.end_of, found))
                    left_s = ends.left_s(found)
                    if left_s <= 0:
                        await self._engine.call(partial(_with, ends.kill, found))
                except (UnreachableError, RefusedError, NotFound) as error:
                    log.warning("the docker engine is waited for", extra={"error": str(error)})
                    left_s = ASK_AGAIN_S
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(left_s, ASK_AGAIN_S / 4)):
                        await happened.wait()

    async def stop(self, ref: JobRef) -> None:
        """See the port."""
        async with self._locked(ref.deployment):
            try:
                await self._forget(ref.deployment, ref.attempt)
            except RefusedError as error:
                raise UnreachableError("the container cannot be removed", why=str(error), fix=error.fix) from error

    async def running(self) -> Sequence[JobRef]:
        """See the port."""
        try:
            containers = await self._containers(None)
        except RefusedError as error:
            raise UnreachableError("containers cannot be listed", why=str(error), fix=error.fix) from error
        return [
            ref_of(found.labels, found.name)
            for found in containers
            if found.labels.get(PART) == "job" and not found.labels[DEPLOYMENT].startswith(PROOF_PREFIX)
            if found.status != NEVER_BEGAN  # a start that was cut off: the next does it anew, else it is swept
        ]

    async def check(self) -> Sequence[Finding]:
        """Ask the engine, look at the image, run a job of seconds."""
        found: list[Finding] = []
        try:
            async with asyncio.timeout(CHECK_S):
                await self._engine.ping()
                found += await self._engine.call(lambda client: findings.of_engine(client, self._config))
                if await self._is_image_later():
                    return [*found, findings.image_later(self._config)]
                await self._engine.call(lambda client: images.see(client, self._config))
                found.append(Finding(ok=True, what=f"image {self._config.image_name}"))
                return [*found, *await self._prove()]
        except TimeoutError:
            what = f"a job of a second did not end within {CHECK_S:.0f} s" if found else "the docker engine is too slow"
            return [*found, Finding(ok=False, what=what, fix="look at the engine's log and at the load of its machine")]
        except ScaleMeshError as error:
            what = f"{error.what}: {error.why}" if error.why else error.what
            return [*found, Finding(ok=False, what=what, fix=error.fix)]

    async def _is_image_later(self) -> bool:
        if self._config.pull == "always":  # what is there may do for the proof
            return False
        return await self._engine.call(lambda client: images.is_wanted(client, self._config))

    async def _prove(self) -> list[Finding]:
        """Run a job of seconds, held as builds are."""
        job = findings.proof_job(self._config)
        name = self._recipe.name(job.deployment, job.attempt)
        try:
            await self._launch(job, name, ["proof"])
            end = await self.wait(JobRef(deployment=job.deployment, attempt=job.attempt, where=name))
            container = await self._container(name)
            said = await self._engine.call(lambda _: ends.output(container)) if container else ""
            return findings.of_proof(end, said, self._config)
        finally:
            with suppress(ScaleMeshError, TimeoutError):  # else it is swept
                async with asyncio.timeout(FORGET_S):
                    await self._forget(job.deployment, job.attempt)

    async def _provide_image(self) -> None:
        """See that the image is there. It is pulled once for all who wait, and goes on when they wait no longer."""
        is_wanted = await self._engine.call(lambda client: images.is_wanted(client, self._config))
        if self._pull or is_wanted:
            pull = self._pull = self._pull or self._begin_pull()
            await asyncio.wait([pull], timeout=self._patience_s)
            if not pull.done():
                raise UnreachableError(f"image {self._config.image_name} is still being pulled")
            self._drop(pull)
            pull.result()
        await self._engine.call(lambda client: images.see(client, self._config))

    def _begin_pull(self) -> asyncio.Task[None]:
        """Its end is kept a minute for who comes back to ask, no longer: a registry may have been mended since."""
        pull = asyncio.create_task(self._engine.call_apart(lambda client: images.pull(client, self._config)))
        loop = asyncio.get_running_loop()
        pull.add_done_callback(lambda done: loop.call_later(TOLD_WITHIN_S, self._drop, done))
        return pull

    def _drop(self, pull: asyncio.Task[None]) -> None:
        if not pull.cancelled():
            pull.exception()  # whoever asked has been told, or has gone
        if self._pull is pull:
            self._pull = None

    async def _launch(self, job: BuildJob, name: str, words: list[str]) -> None:
        """Make all that the job needs, the job last; after a failure nothing is left."""
        try:
            holder = None
            if job.network is Network.FULL:
                holder = f"{name}-net"
                await self._hold_network(job, holder)
            volume_labels = self._recipe.labels(job.deployment, job.attempt, "work")
            await self._engine.call(lambda client: client.volumes.create(name=name, labels=volume_labels))
            await self._engine.call(
                lambda client: client.containers.create(
                    name=name, **self._recipe.job(job, holder=holder, volume=name, words=words)
                ).start()
            )
        except (ScaleMeshError, NotFound, asyncio.CancelledError) as error:
            with suppress(ScaleMeshError):
                await asyncio.shield(self._forget(job.deployment, job.attempt))
            if isinstance(error, ImageNotFound):
                raise images.absent(self._config.image_name) from error
            if isinstance(error, NotFound):
                raise RefusedError("the container could not be made", why=str(error)[-300:]) from error
            raise

    async def _hold_network(self, job: BuildJob, name: str) -> None:
        """Start the container whose network the job shares, and wait until it has shut it."""
        made = await self._engine.call(lambda client: client.containers.create(name=name, **self._recipe.holder(job)))
        await self._engine.call(lambda _: made.start())
        said = await self._engine.call(lambda _: ends.first_line(made, self._holder_s))
        if not said:  # a machine under load: not the holder's word on this engine
            why = f"the container that shuts it said nothing within {self._holder_s:g} s"
            raise UnreachableError("the network of a build is not shut yet", why=why)
        if said != "ready":
            fix = "look at the engine's log, or set builds.network to packages"
            raise RefusedError("the network of builds cannot be shut in this engine", why=said, fix=fix)

    async def _forget(self, deployment: DeploymentId, attempt: int) -> None:
        """Kill and remove all of one attempt. Repeatable."""
        name = self._recipe.name(deployment, attempt)
        await self._engine.call(lambda client: ends.remove(client, name))
        await self._engine.call(lambda client: ends.remove(client, f"{name}-net"))
        await self._engine.call(lambda client: ends.remove_volume(client, name))

    async def _containers(self, deployment: DeploymentId | None) -> list[Any]:
        labels = [f"{OWNER}={self._config.owner}", *([f"{DEPLOYMENT}={deployment}"] if deployment else [])]
        return list(
            await self._engine.call(
                lambda client: client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
            )
        )

    async def _container(self, name: str) -> Any | None:
        try:
            return await self._engine.call(lambda client: client.containers.get(name))
        except NotFound:
            return None

    async def _sweep(self) -> None:
        """Now and then: what a daemon that was killed left of jobs without a container, images of former releases."""
        while True:
            pause_s = SWEEP_S
            try:
                await self._engine.call(lambda client: images.sweep_orphans(client, self._config.owner))
                await self._engine.call(lambda client: images.sweep_images(client, self._config))
            except (ScaleMeshError, NotFound) as error:
                log.debug("leftovers cannot be swept yet", extra={"error": str(error)})
                pause_s = ASK_AGAIN_S
            await asyncio.sleep(pause_s)

    def _locked(self, deployment: str) -> asyncio.Lock:
        return self._locks.setdefault(deployment, asyncio.Lock())


def _with(work: Callable[[Any], T], container: Any, _client: Any) -> T:
    return work(container)
