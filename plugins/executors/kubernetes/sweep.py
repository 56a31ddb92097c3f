"""Removes what a daemon that was killed half-way left in the cluster."""

from datetime import UTC, datetime
from typing import Final

from plugins.executors.kubernetes.cluster import Cluster, Found
from plugins.executors.kubernetes.findings import PROOF_PREFIX
from plugins.executors.kubernetes.jobs import Jobs
from plugins.executors.kubernetes.recipe import STOP_S, Recipe, ref_of

OLD_S: Final = 60.0  #: a younger one may be somebody's who is starting a job this moment
OLD_PROOF_S: Final = 300.0


async def sweep(cluster: Cluster, jobs: Jobs, recipe: Recipe, *, old_s: float = OLD_S) -> None:
    """Secrets and pods without a Job go; a Secret that does not know its Job is told; checks that were cut off end.

    Jobs come last in the order of looking: whatever was seen before had its Job already, if it ever gets one.
    *old_s*: younger Secrets stay all the same.
    """
    secrets, pods = await cluster.secrets(recipe.selector()), await cluster.pods(recipe.selector())
    known = {job["metadata"]["name"]: job for job in await cluster.jobs(recipe.selector())}
    for secret in secrets:
        meta = secret["metadata"]
        if meta["name"] in known and not meta.get("ownerReferences"):
            await jobs.own_secret(known[meta["name"]])
        elif meta["name"] not in known and _age_s(secret) > old_s:
            await cluster.delete_secret(meta["name"])
    for pod in pods:
        meta = pod["metadata"]
        if meta.get("labels", {}).get("job-name") not in known and not meta.get("deletionTimestamp"):
            await cluster.delete_pod(meta["name"], STOP_S)
    for job in known.values():
        ref = ref_of(job)
        if ref is not None and ref.deployment.startswith(PROOF_PREFIX) and _age_s(job) > OLD_PROOF_S:
            await jobs.end(ref.deployment, ref.attempt, waits=False)


def _age_s(found: Found) -> float:
    made = datetime.fromisoformat(found["metadata"]["creationTimestamp"])
    return (datetime.now(UTC) - made).total_seconds()
