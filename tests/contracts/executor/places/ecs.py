"""Jobs as tasks of ECS, on a server whose tasks are containers of this machine."""

import asyncio
import dataclasses
import functools
import os
import secrets
import subprocess
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from plugins.executors.ecs import EcsConfig, EcsExecutor
from scalemesh.values import BuildJob, JobRef, Limits
from tests.contracts.executor.stand_in import make_job
from tests.rigs.docker import need_docker
from tests.rigs.images import stand_in_image
from tests.rigs.ministack import KEYS, LOG_GROUP, REGION, Ministack, ministack


class EcsPlace:
    holds: frozenset[str] = frozenset()  # the server takes limits and does not apply them
    stop_s = 2.0

    def __init__(self, server: Ministack, image: str) -> None:
        self._server = server
        self.config = EcsConfig(
            region=REGION,
            cluster=server.cluster,
            endpoint_url=server.url,
            image=image,
            subnets=(server.subnet,),
            execution_role_arn=server.role_arn,
            log_group=LOG_GROUP,
            owner=secrets.token_hex(6),
            url="http://172.17.0.1:1",
        )

    def open(self) -> AbstractAsyncContextManager[EcsExecutor]:
        return EcsExecutor.open(self.config, grace_s=0, poll_s=0.1)

    def job(
        self, program: str, *, deployment: str = "dpl_one", attempt: int = 1, within: Limits | None = None
    ) -> BuildJob:
        made = make_job(program, Path("/nowhere/builds.sock"), deployment=deployment, attempt=attempt, within=within)
        return dataclasses.replace(made, url=self.config.url)

    async def processes(self, ref: JobRef) -> list[int]:
        return await asyncio.to_thread(self._processes, ref.where.split()[-1])

    def _processes(self, arn: str) -> list[int]:
        told = self._server.client("ecs").describe_tasks(cluster=self._server.cluster, tasks=[arn])["tasks"]
        if told and told[0]["lastStatus"] in {"PROVISIONING", "PENDING", "ACTIVATING"}:
            return []  # asked to stop now, the server would answer before the container is gone
        return _pids(f"ministack-ecs-{arn.rsplit('/', 1)[-1][:8]}-builder")

    async def vanish(self, ref: JobRef) -> None:
        self._server.client("ecs").stop_task(cluster=self._server.cluster, task=ref.where.split()[-1], reason="by hand")

    def revisions(self) -> list[str]:
        """The task definitions of this installation."""
        family = f"scalemesh-{self.config.owner}"
        arns: list[str] = self._server.client("ecs").list_task_definitions(familyPrefix=family)["taskDefinitionArns"]
        return arns

    def copy_definition(self, **changes: str) -> None:
        """Let somebody make a revision of their own from the newest."""
        ecs = self._server.client("ecs")
        newest = ecs.describe_task_definition(taskDefinition=self.revisions()[-1])["taskDefinition"]
        taken = {"family", "networkMode", "requiresCompatibilities", "containerDefinitions", "volumes", "cpu", "memory"}
        ecs.register_task_definition(**{name: newest[name] for name in taken}, **changes)

    def definition_of(self, ref: JobRef) -> dict[str, Any]:
        """What the job's task was made from."""
        ecs = self._server.client("ecs")
        arn = ref.where.split()[-1]
        task = ecs.describe_tasks(cluster=self._server.cluster, tasks=[arn])["tasks"][0]
        found: dict[str, Any] = ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"])["taskDefinition"]
        return found

    async def leftovers(self) -> list[str]:
        ecs = self._server.client("ecs")
        arns: list[str] = ecs.list_tasks(cluster=self._server.cluster, startedBy=self.config.owner)["taskArns"]
        return arns + _containers(f"com.amazonaws.ecs.task-definition-family=scalemesh-{self.config.owner}")


@functools.cache
def _image() -> str:
    """The stand-in that ends at once when asked: the server gives it 5 s, whatever the task's definition says."""
    base = stand_in_image()
    tag = f"{base}-ecs"
    recipe = f"FROM {base}\nSTOPSIGNAL SIGKILL\n"
    words = ["docker", "build", "--quiet", "--tag", tag, "-"]
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    subprocess.run(words, input=recipe, text=True, env=environment, check=True, capture_output=True)
    return tag


def _containers(label: str) -> list[str]:
    """Running ones. The server keeps those that have ended for a while; they are its own."""
    return _docker("ps", "--quiet", "--no-trunc", "--filter", f"label={label}").split()


def _pids(container: str) -> list[int]:
    lines = _docker("top", container, "-eo", "pid,args").splitlines()[1:]
    tree = [(int(pid), words) for pid, words in (line.split(None, 1) for line in lines)]
    # The container's first process may still be on its way to the program.
    return [pid for pid, _ in tree] if any("stand_in" in words for _, words in tree) else []


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=False).stdout


@asynccontextmanager
async def open_place(folder: Path) -> AsyncIterator[EcsPlace]:
    need_docker()  # what the server runs tasks on
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        yield EcsPlace(ministack(), _image())
