"""The services over a real database, disk store and log, with an executor that a test steers."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from scalemesh.assembly import Plugins, Services, assemble
from scalemesh.config import Builds, Config, Hosts
from scalemesh.db.database import open_database
from scalemesh.edge.visit import Visits
from scalemesh.ports import Store
from scalemesh.services import homes
from scalemesh.services.builds import Attempt, Success
from scalemesh.services.deployer import Wanted
from scalemesh.services.explaining import Explainer
from scalemesh.services.home_store import HomeStore, Place
from scalemesh.services.listings import OutputFile
from scalemesh.services.openings import openings
from scalemesh.values import Blob, Deployment, DeploymentId, Digest, Project, State, User
from tests.contracts.executors import EndsWhenTold
from tests.contracts.openers import BUSES, LOG_STORES, STORES

URL = "https://git.example/a/site"
PAGE = b"<!doctype html><title>hello</title>"


@dataclass
class Life:
    """One life of a daemon; ``tests`` may begin another one in the same folder."""

    services: Services
    executor: EndsWhenTold
    user: User
    explainer: Explainer
    executors: Mapping[str, EndsWhenTold]  #: by kind; ``executor`` is the first
    store: HomeStore

    async def project(self, url: str = URL) -> Project:
        return await self.services.projects.of_source(self.user, url)

    async def submit(self, wanted: Wanted | None = None, url: str = URL) -> DeploymentId:
        """Queue a deployment of *url*."""
        return (await self.services.deployer.submit(self.user, await self.project(url), wanted or Wanted())).id

    async def ready(self, data: bytes, wanted: Wanted | None = None) -> DeploymentId:
        """A deployment of one page, brought to its good end."""
        deployment = await self.submit(wanted)
        await self.built(deployment, data)
        await self.until(deployment, State.READY)
        await self.last_words(deployment)  # the routes follow the row a moment later, and the last words both
        return deployment

    def live(self, host: str = "site.localhost") -> DeploymentId | None:
        """What *host* shows."""
        route = self.services.routes.find(host)
        return route.deployment if route else None

    async def until(self, deployment: DeploymentId, *states: State) -> Deployment:
        """The deployment, once it is in one of *states*."""
        while (found := await self.services.deployer.get(deployment)).state not in states:
            await asyncio.sleep(0.002)
        return found

    async def upload(self, attempt: Attempt, data: bytes) -> OutputFile:
        """Send one file as a builder does."""
        digest = Digest(hashlib.sha256(data).hexdigest())
        await self.services.builds.receive(attempt, Blob(sha256=digest, size_bytes=len(data)), once(data))
        return OutputFile(path="index.html", sha256=digest, size_bytes=len(data))

    async def built(self, deployment: DeploymentId, data: bytes = PAGE, attempt: int = 1) -> State:
        """Play the builder of a started job: claim, upload one page, finish, end."""
        executor = self.executors[(await self.services.deployer.get(deployment)).executor or ""]
        await executor.job(deployment, attempt)
        mine = Attempt(deployment, attempt, "nonce")
        await self.services.builds.claim(mine, "nonce")
        file = await self.upload(mine, data)
        success = Success(files=[file], framework="static", output_directory=".")
        state = await self.services.builds.finish(mine, success)
        await executor.end(deployment, attempt)
        return state

    async def last_words(self, deployment: DeploymentId) -> str:
        """The line that tells the end: it is written just after the state."""
        while not (lines := [line for line in await self.services.logs.read(deployment) if line.step == "end"]):
            await asyncio.sleep(0.002)
        return lines[-1].text

    async def log(self, deployment: DeploymentId) -> list[str]:
        return [line.text for line in await self.services.logs.read(deployment)]


@asynccontextmanager
async def begin(
    folder: Path,
    executors: EndsWhenTold | Mapping[str, EndsWhenTold],
    builds: Builds | None = None,
    *,
    hosts: Hosts | None = None,
    open_store: Callable[[Path], AbstractAsyncContextManager[Store]] = STORES["disk"],
    configured: str = "disk",
) -> AsyncIterator[Life]:
    """Open everything below *folder* and run the background work, as the daemon does. One executor is "local".

    *configured*: the kind of store that the config names; whatever it is, it is a folder of that name.
    """
    executors = executors if isinstance(executors, Mapping) else {"local": executors}
    builds = builds or Builds(total_memory_mib=8192)
    kinds: dict[str, object] = {"kind": list(executors)}
    config = replace(Config(), data_dir=folder, builds=builds, hosts=hosts or Hosts(), executor=kinds)
    config = replace(config, store={"kind": configured, "other": {}})
    async with (
        open_database(folder / "scalemesh.db") as database,
        openings(partial(place_below, folder, open_store)) as stores,
        LOG_STORES["sqlite"](folder) as logs,
        BUSES["memory"](64) as bus,
    ):
        home = await homes.settle(database, configured, lambda: datetime.now(UTC))
        store = HomeStore(await stores.open(home.kind), await stores.former(home))
        plugins = Plugins(executors=executors, store=store, stores=stores, logs=logs, bus=bus)
        services = assemble(config, database, plugins, 8080)
        await services.ledger.load()
        publisher, janitor, chores = services.publisher, services.upkeep.janitor, services.storage.chores
        serving = (publisher.serve, services.scheduler.serve, janitor.serve, chores.serve)
        work = [asyncio.create_task(serve()) for serve in serving]
        try:
            visits = Visits(services.routes, store)
            explainer = Explainer(visits.explain, control=config.hosts.control)
            executor = next(iter(executors.values()))
            yield Life(services, executor, await services.accounts.owner(), explainer, executors, store)
        finally:
            for task in work:
                task.cancel()
            for task in work:
                with suppress(asyncio.CancelledError):
                    await task


@asynccontextmanager
async def place_below(
    folder: Path, open_store: Callable[[Path], AbstractAsyncContextManager[Store]], kind: str
) -> AsyncIterator[Place]:
    """A store that goes by the name *kind*, in a folder of its own unless it is the usual one."""
    async with open_store(folder if kind == "disk" else folder / kind) as store:
        yield Place(kind, store, store)


async def once(data: bytes) -> AsyncGenerator[bytes]:
    yield data
