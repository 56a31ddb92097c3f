"""Jobs as Jobs of a real cluster, whose node is this machine."""

import asyncio
import dataclasses
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from plugins.executors.kubernetes import KubernetesConfig, KubernetesExecutor
from scalemesh.values import BuildJob, JobRef, Limits
from tests.contracts.executor.stand_in import make_job
from tests.rigs.cluster import HOST, kubeconfig, kubectl, namespace, need_cluster, processes_of
from tests.rigs.images import stand_in_image


class KubernetesPlace:
    holds = frozenset({"memory"})  # the kubelet alone can limit processes of a pod; the builder's own watch does
    stop_s = 8.0  # two for the processes; then the kubelet has to notice and to tell

    def __init__(self, image: str, **settings: Any) -> None:
        """*settings*: beside or instead of those that every test has."""
        self.config = KubernetesConfig(
            **{
                "image": image,
                "namespace": namespace(),
                "kubeconfig": kubeconfig(),
                "cpu_request": 0.05,
                "owner": secrets.token_hex(6),
                "url": f"http://{HOST}:1",
                **settings,
            }
        )

    def open(self) -> AbstractAsyncContextManager[KubernetesExecutor]:
        return KubernetesExecutor.open(self.config, grace_s=0)

    def job(
        self, program: str, *, deployment: str = "dpl_one", attempt: int = 1, within: Limits | None = None
    ) -> BuildJob:
        made = make_job(program, Path("/nowhere/builds.sock"), deployment=deployment, attempt=attempt, within=within)
        return dataclasses.replace(made, url=self.config.url)

    async def processes(self, ref: JobRef) -> list[int]:
        return await asyncio.to_thread(processes_of, ref.where.split()[0])

    async def vanish(self, ref: JobRef) -> None:
        words = ("-n", self.config.namespace, "delete", "pod", "-l", f"job-name={ref.where.split()[0]}", "--wait=false")
        await asyncio.to_thread(kubectl, *words)

    async def leftovers(self) -> list[str]:
        words = ("-n", self.config.namespace, "get", "jobs,pods,secrets", "-o", "name")
        return (await asyncio.to_thread(kubectl, *words, "-l", f"scalemesh.dev/owner={self.config.owner}")).split()


@asynccontextmanager
async def open_place(_folder: Path) -> AsyncIterator[KubernetesPlace]:
    need_cluster()
    place = KubernetesPlace(await asyncio.to_thread(stand_in_image))
    try:
        yield place
    finally:
        await asyncio.to_thread(_end_all, place.config)


def _end_all(config: KubernetesConfig) -> None:
    words = ("-n", config.namespace, "delete", "jobs,secrets", "--wait=false", "--ignore-not-found")
    kubectl(*words, "-l", f"scalemesh.dev/owner={config.owner}", may_fail=True)
