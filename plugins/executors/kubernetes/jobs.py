"""Begins and ends jobs: what is made, in which order, and how all of it goes away."""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Final

from plugins.executors.kubernetes import ends
from plugins.executors.kubernetes.cluster import Cluster, Found
from plugins.executors.kubernetes.recipe import ATTEMPT, DEPLOYMENT, OWNER, STOP_S, Recipe, ref_of
from scalemesh.errors import ConflictError, NotFoundError, RefusedError, ScaleMeshError
from scalemesh.values import BuildJob, DeploymentId, JobRef

log = logging.getLogger(__name__)
DYING_S: Final = 20.0  #: after which a pod that does not die is left to the cluster: its node is away
LOOK_S: Final = 0.2
MOST_AUTHORITIES: Final = 900_000  #: bytes; a Secret holds one MiB


class Jobs:
    """The Jobs of this installation. One call at a time for a deployment: see to that."""

    def __init__(self, cluster: Cluster, recipe: Recipe) -> None:
        self._cluster, self._recipe = cluster, recipe

    async def start(self, job: BuildJob, words: tuple[str, ...] = ()) -> JobRef:
        """Find or make the job; those of other attempts are ended first. *words*: for the builder."""
        known = None
        for found in await self._cluster.jobs(self._recipe.selector(job.deployment)):
            ref = ref_of(found)
            if ref is not None and ref.attempt == job.attempt:
                known = found
            elif ref is not None:
                await self.end(ref.deployment, ref.attempt)
        made = known or await self._made(job, words)
        await self.own_secret(made)
        ref = ref_of(made)
        if ref is None:
            raise RefusedError("the cluster changed the labels of a Job that we made", why=str(made["metadata"])[:300])
        return ref

    async def end(self, deployment: DeploymentId, attempt: int, *, waits: bool = True) -> None:
        """Remove Job, pods and Secret of one attempt; returns when its processes are dead. Repeatable.

        The Secret goes last: a kubelet that misses it does not come round to ending the pod for a minute. So it must
        not go with the Job, either.

        *waits*: False returns as soon as the cluster was told; the Secret stays for whoever comes later.
        """
        name, selector = self._recipe.name(deployment, attempt), self._recipe.selector(deployment, attempt)
        await self._cluster.patch_secret(name, self._recipe.owned(None))
        await self._cluster.delete_job(name)
        pods = await self._end_pods(selector)
        if not waits:
            return
        began = asyncio.get_running_loop().time()
        while alive := [pod for pod in pods if not ends.is_dead(pod)]:
            waited_s = asyncio.get_running_loop().time() - began
            if waited_s > DYING_S:
                log.warning("a pod does not die", extra={"job": name, "pods": len(alive)})
                break
            if waited_s > STOP_S:
                await self._remind(alive)
            await asyncio.sleep(LOOK_S)
            pods = await self._end_pods(selector)
        await self._cluster.delete_secret(name)

    async def own_secret(self, job: Found) -> None:
        """Let the Secret go away with its Job, should nobody be there to remove it."""
        await self._cluster.patch_secret(job["metadata"]["name"], self._recipe.owned(job))

    async def _end_pods(self, selector: str) -> list[Found]:
        pods = await self._cluster.pods(selector)
        for pod in pods:
            if not pod["metadata"].get("deletionTimestamp"):
                await self._cluster.delete_pod(pod["metadata"]["name"], STOP_S)
        return await self._cluster.pods(selector) if pods else []

    async def _remind(self, pods: list[Found]) -> None:
        """Say it again, in other words: kubelets before 1.22 pass over the end of a pod that they are just starting."""
        for pod in pods:
            if pod["metadata"].get("deletionGracePeriodSeconds") == STOP_S:
                await self._cluster.delete_pod(pod["metadata"]["name"], STOP_S - 1)

    async def _made(self, job: BuildJob, words: tuple[str, ...]) -> Found:
        """The Secret first: a pod whose Secret is missing would wait for it."""
        authorities = await asyncio.to_thread(_authorities, self._recipe.config.ca_bundle)
        name = self._recipe.name(job.deployment, job.attempt)
        try:
            await self._make_secret(name, self._recipe.secret(job, authorities))
            return await self._make_job(name, self._recipe.job(job, words=words, trusts=bool(authorities)))
        except NotFoundError as error:
            namespace = self._recipe.config.namespace
            fix = "kubectl apply -f config/kubernetes/namespace.yaml, or set executor.kubernetes.namespace"
            raise RefusedError(f"the cluster has no namespace {namespace}", why=error.why, fix=fix) from error
        except RefusedError:
            with suppress(ScaleMeshError):
                await self._cluster.delete_secret(name)
            raise

    async def _make_secret(self, name: str, body: Found) -> None:
        try:
            await self._cluster.create_secret(body)
        except ConflictError:  # of a start that was cut off: its token may be too old by now
            await self._cluster.delete_secret(name)
            await self._cluster.create_secret(body)

    async def _make_job(self, name: str, body: Found) -> Found:
        try:
            return await self._cluster.create_job(body)
        except ConflictError as error:
            found = await self._cluster.job(name)
            if found is not None and _is_same(found, body):
                return found
            fix = f"kubectl -n {self._recipe.config.namespace} delete job {name}"
            raise RefusedError("the cluster has a Job of that name that is not ours", why=error.why, fix=fix) from error


def _is_same(found: Found, wanted: Found) -> bool:
    ours, theirs = (each["metadata"].get("labels") or {} for each in (wanted, found))
    return all(ours[label] == theirs.get(label) for label in (OWNER, DEPLOYMENT, ATTEMPT))


def _authorities(path: str) -> str:
    """What the file of ``builds.ca_bundle`` holds; empty where none is set."""
    if not path:
        return ""
    fix = "correct builds.ca_bundle"
    try:
        text = Path(path).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise RefusedError("the authorities for builds cannot be read", why=str(error), fix=fix) from error
    if len(text) > MOST_AUTHORITIES:
        why = f"{path} has more than {MOST_AUTHORITIES} bytes"
        raise RefusedError("the authorities for builds do not fit into a Secret", why=why, fix=fix)
    return text
