"""Looks at what builds on ECS need, one thing after another, and says what is missing and how to mend it."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Final

from plugins.executors.ecs.proof import Prover
from plugins.executors.ecs.words import POLICY
from scalemesh.errors import RefusedError, ScaleMeshError
from scalemesh.ports import Finding

_LEAST_S: Final = 1.0
_NETWORKS: Final = {
    "full": "ECS itself keeps no build from private networks: the security groups decide what builds reach",
    "packages": 'builds.network = "packages" is not held by ECS: builds reach whatever the security groups allow',
    "none": 'builds.network = "none" is not held by ECS: builds reach whatever the security groups allow',
}


async def look(prover: Prover, within_s: float) -> Sequence[Finding]:
    """All findings; nothing is raised, and it takes no longer than *within_s*."""
    found: list[Finding] = []
    until = time.monotonic() + within_s
    try:
        async with asyncio.timeout(within_s):
            async for finding in _steps(prover, until):
                found.append(finding)  # noqa: PERF401 - what was found before the time is up counts
    except TimeoutError:
        found.append(Finding(ok=False, what=f"AWS did not answer within {within_s:.0f} s", fix="run the check again"))
    except ScaleMeshError as error:
        found.append(_bad(error))
    return found


async def _steps(prover: Prover, until: float) -> AsyncIterator[Finding]:
    config, aws = prover.config, prover.aws
    who = await aws.call("sts", "get_caller_identity")
    yield Finding(ok=True, what=f"AWS answers; the daemon is {who.get('Arn', '')}")
    for finding in settings(prover):
        yield finding
    cluster = await _cluster(prover)
    network = await asyncio.gather(
        _known(config.subnets, aws.call("ec2", "describe_subnets", SubnetIds=list(config.subnets))),
        _known(
            config.security_groups,
            aws.call("ec2", "describe_security_groups", GroupIds=list(config.security_groups)),
        ),
    )
    for found in (cluster, *(item for item in network if item)):
        yield found
    if cluster.ok and config.url:
        yield await prover.prove(max(_LEAST_S, until - time.monotonic() - _LEAST_S))


def settings(prover: Prover) -> list[Finding]:
    """What the settings alone tell."""
    config = prover.config
    found = []
    if not config.url:
        fix = "set builds.public_url to an address of this daemon that the subnets can reach"
        found.append(Finding(ok=False, what="builds.public_url is not set: no task could reach the daemon", fix=fix))
    what = _NETWORKS[config.build_network]
    fix = "a security group that lets out ports 443 and 22 alone, in a VPC of its own: see docs/executors.md, AWS ECS"
    found.append(Finding(ok=True, what=what, fix=fix))
    if not config.on_fargate:
        what = "on EC2 a build may reach the instance's own role by the metadata address"
        fix = "set ECS_AWSVPC_BLOCK_IMDS=true for the agent and use subnets (awsvpc), or an IMDS hop limit of 1"
        found.append(Finding(ok=True, what=what, fix=fix))
    if config.task_role_arn:
        what = f"code of builds may do at AWS what {config.task_role_arn} may"
        found.append(Finding(ok=True, what=what, fix="leave executor.ecs.task_role_arn empty"))
    return found


async def _cluster(prover: Prover) -> Finding:
    name = prover.config.cluster
    answer = await prover.aws.call("ecs", "describe_clusters", clusters=[name])
    known = [item for item in answer.get("clusters", []) if item.get("status", "ACTIVE") == "ACTIVE"]
    if known:
        return Finding(ok=True, what=f"cluster: {name}, {known[0].get('runningTasksCount', 0)} tasks running")
    fix = "check executor.ecs.cluster and executor.ecs.region"
    return Finding(ok=False, what=f"there is no cluster {name} that is active in that region", fix=fix)


async def _known(ids: Sequence[str], asked: Coroutine[Any, Any, object]) -> Finding | None:
    """Whether EC2 knows the ids; whoever may not ask is told so, and it is no mistake."""
    if not ids:
        asked.close()  # without ids EC2 would tell of all there are
        return None
    named = ", ".join(ids)
    try:
        await asked
    except RefusedError as error:
        if error.what.startswith("AWS does not allow"):
            return Finding(ok=True, what=f"not looked at: {named}", fix=f"allow it, see {POLICY}")
        return _bad(error)
    return Finding(ok=True, what=f"known to EC2: {named}")


def _bad(error: ScaleMeshError) -> Finding:
    return Finding(ok=False, what=": ".join(filter(None, (error.what, error.why))), fix=error.fix)
