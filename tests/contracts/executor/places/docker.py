"""Jobs as containers of the engine on this machine."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from plugins.executors.docker import DockerConfig, DockerExecutor
from scalemesh.values import BuildJob, JobRef, Limits
from tests.contracts.executor.stand_in import make_job
from tests.rigs.docker import docker, need_docker, processes_of, until_quick
from tests.rigs.images import stand_in_image


class DockerPlace:
    holds = frozenset({"memory", "pids"})
    stop_s = 2.0

    def __init__(self, folder: Path, image: str) -> None:
        self.owner = secrets.token_hex(6)
        self.sockets = folder / "sockets"
        self.sockets.mkdir(mode=0o711)
        socket = str(self.sockets / "api.sock")
        # Images of other checkouts, whose tests may run beside these, are not ours to sweep.
        self.config = DockerConfig(image=image, pull="never", keep_images=1000, owner=self.owner, socket=socket)

    def open(self) -> AbstractAsyncContextManager[DockerExecutor]:
        return DockerExecutor.open(self.config, grace_s=0)

    def job(
        self, program: str, *, deployment: str = "dpl_one", attempt: int = 1, within: Limits | None = None
    ) -> BuildJob:
        return make_job(program, self.sockets / "api.sock", deployment=deployment, attempt=attempt, within=within)

    async def processes(self, ref: JobRef) -> list[int]:
        return await asyncio.to_thread(processes_of, ref.where)

    async def vanish(self, ref: JobRef) -> None:
        await asyncio.to_thread(docker, "rm", "--force", ref.where)

    async def leftovers(self) -> list[str]:
        mine = f"label=scalemesh.owner={self.owner}"
        containers = docker("ps", "--all", "--filter", mine, "--format", "{{.Names}}")
        return (containers + "\n" + docker("volume", "ls", "--filter", mine, "--format", "{{.Name}}")).split()


@asynccontextmanager
async def open_place(folder: Path) -> AsyncIterator[DockerPlace]:
    need_docker()
    await asyncio.to_thread(until_quick)
    place = DockerPlace(folder, await asyncio.to_thread(stand_in_image))
    try:
        yield place
    finally:
        left = docker("ps", "--all", "--quiet", "--filter", f"label=scalemesh.owner={place.owner}").split()
        if left:
            docker("rm", "--force", "--volumes", *left)
        if volumes := docker("volume", "ls", "--quiet", "--filter", f"label=scalemesh.owner={place.owner}").split():
            docker("volume", "rm", *volumes)
