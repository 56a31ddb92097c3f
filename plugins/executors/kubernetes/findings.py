"""What ``check`` tells of a cluster, of our rights in it, and of the job of seconds that it ran."""

import asyncio
import json
import secrets
from pathlib import Path
from typing import Final

from builder.protocol import EXIT_OK, EXIT_OTHER_BUILDER, EXIT_UNREACHED
from plugins.executors.kubernetes.cluster import Cluster
from plugins.executors.kubernetes.config import KubernetesConfig
from plugins.executors.kubernetes.words import RIGHTS
from scalemesh.errors import ScaleMeshError
from scalemesh.ports import Finding
from scalemesh.values import BuildEnd, BuildJob, DeploymentId, EndCause, Limits, Network, Secret

PROOF_PREFIX: Final = "proof-"  #: of the tiny jobs' deployments, which none of ours begins with
#: (verb, API group, resource): all that is ever asked for; config/kubernetes/rbac.yaml grants the same.
NEEDED: Final = (
    *(("create", "batch", "jobs"), ("get", "batch", "jobs"), ("list", "batch", "jobs")),
    *(("watch", "batch", "jobs"), ("delete", "batch", "jobs")),
    *(("list", "", "pods"), ("watch", "", "pods"), ("delete", "", "pods")),
    *(("create", "", "secrets"), ("list", "", "secrets"), ("patch", "", "secrets"), ("delete", "", "secrets")),
    *(("list", "", "events"),),
)
_LIMITS: Final = Limits(
    memory_bytes=128 << 20,
    pids=64,
    cpu_weight=100,
    time_s=60,
    disk_bytes=16 << 20,
    output_bytes=1,
    output_files=1,
    log_bytes=1,
)


async def of_cluster(cluster: Cluster, config: KubernetesConfig) -> list[Finding]:
    """Whether it answers, and whether we have every right."""
    try:
        version = await cluster.version()
        allowed = await asyncio.gather(*(cluster.may(*right) for right in NEEDED))
    except ScaleMeshError as error:
        what = f"{error.what}: {error.why}" if error.why else error.what
        return [Finding(ok=False, what=f"{cluster.address}: {what}", fix=error.fix)]
    found = [Finding(ok=True, what=f"Kubernetes {version} at {cluster.address}, namespace {config.namespace}")]
    denied = [f"{verb} {resource}" for (verb, _, resource), yes in zip(NEEDED, allowed, strict=True) if not yes]
    if denied:
        what = f"the daemon's account may not: {', '.join(denied)} (in namespace {config.namespace})"
        found.append(Finding(ok=False, what=what, fix=RIGHTS))
    if not config.url:
        fix = "set it to the http(s) address of the daemon, as pods of the cluster reach it"
        found.append(Finding(ok=False, what="builds.public_url is not set: builds have no way to the daemon", fix=fix))
    return [*found, _of_network(config)]


def proof_job(config: KubernetesConfig) -> BuildJob:
    """The job of seconds, held as builds are."""
    return BuildJob(
        deployment=DeploymentId(f"{PROOF_PREFIX}{secrets.token_hex(4)}"),
        attempt=1,
        socket=config.socket,
        url=config.url,
        token=Secret("proof"),
        limits=_LIMITS,
        network=Network(config.build_network),
    )


def of_proof(end: BuildEnd, config: KubernetesConfig) -> list[Finding]:
    """What the job saw."""
    try:
        seen = json.loads(end.detail)
        why, nodes = str(seen["why"]), ", ".join(seen["node"]) or "none"
    except (ValueError, KeyError, TypeError):
        what = f"a job was run and ended badly ({end.cause}): {end.detail or 'no word'}"[:500]
        return [Finding(ok=False, what=what, fix="see [executor.kubernetes] image; it must be the builder's")]
    if end.exit_code == EXIT_UNREACHED and config.socket and not Path(config.socket).exists():
        what = f"jobs run as user {seen['uid']}; that they reach the daemon is proven only while it runs"
        return [Finding(ok=True, what=what, fix="start the daemon and check again")]
    if end.cause is EndCause.OK and end.exit_code == EXIT_OK:
        return [Finding(ok=True, what=f"a job ran and reached the daemon: user {seen['uid']}, Node {nodes}")]
    fixes = {
        EXIT_UNREACHED: "builds.public_url must lead to the daemon from inside the cluster; see also NetworkPolicies",
        EXIT_OTHER_BUILDER: "make the image anew and push it (docs/builder-image.md); nodes keep one by its name",
    }
    told = f"{config.url}: {why}" if end.exit_code == EXIT_UNREACHED else why
    return [Finding(ok=False, what=f"a job ran, but {told}", fix=fixes.get(end.exit_code or 0, "mend the image"))]


def unproven(held_up: str, waited_s: float) -> Finding:
    """The cluster has not run the job in time; that may come."""
    what = f"a job of seconds did not end within {waited_s:.0f} s: {held_up}"
    return Finding(ok=False, what=what, fix="where an image is pulled or a node is added, check again in a minute")


def _of_network(config: KubernetesConfig) -> Finding:
    what = (
        f'network "{config.build_network}" is held by NetworkPolicies; whether this cluster enforces them is not seen'
    )
    if config.build_network == Network.FULL:
        return Finding(ok=True, what=what)
    return Finding(ok=True, what=what, fix="see docs/executors.md; allow lists need a proxy of yours")
