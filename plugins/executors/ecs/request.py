"""One build job as the words for RunTask."""

import hashlib
import json
from typing import Any, Final

from plugins.executors.ecs.config import EcsConfig
from plugins.executors.ecs.definition import Definition
from plugins.executors.ecs.sizes import MIB, fargate_disk_gib, fargate_size
from plugins.executors.ecs.tasks import JOB_VARIABLE, Label
from scalemesh.errors import RefusedError
from scalemesh.values import BuildJob

MOST_OVERRIDES: Final = 8192  #: characters of JSON that ECS takes as overrides
WORK: Final = "/work"


def run_words(config: EcsConfig, job: BuildJob, definition: Definition, label: Label) -> dict[str, Any]:
    """The words for RunTask.

    Raises:
        RefusedError: the job has no address of the daemon, or does not fit a task.
    """
    if job.url is None:
        raise RefusedError(
            "a task on ECS cannot reach the daemon",
            why="builds.public_url is not set",
            fix="set builds.public_url to an address of this daemon that the subnets can reach",
        )
    overrides = _overrides(config, job, definition.container, _variables(config, job, label))
    words: dict[str, Any] = {
        "cluster": config.cluster,
        "taskDefinition": definition.arn,
        "count": 1,
        "startedBy": config.owner,
        "tags": [*tags(config), *_job_tags(label)],
        "overrides": overrides,
        "enableExecuteCommand": False,
        **_place(config),
    }
    if config.propagate_tags:
        words["propagateTags"] = "TASK_DEFINITION"
    return words


def client_token(label: Label, forgotten: int = 0) -> str:
    """Names the job for ECS: a second RunTask of it starts nothing. At most 64 printable characters.

    *forgotten*: how many of its tasks were stopped and are not to be found by it.
    """
    named = f"{label.owner} {label.deployment} {label.attempt} {forgotten}"
    return hashlib.sha256(named.encode()).hexdigest()


def tags(config: EcsConfig) -> list[dict[str, str]]:
    """Those of all that we make at AWS."""
    pairs = {**config.tags, "scalemesh.owner": config.owner}
    return [{"key": key, "value": value} for key, value in pairs.items()]


def _job_tags(label: Label) -> list[dict[str, str]]:
    pairs = {"scalemesh.deployment": label.deployment, "scalemesh.attempt": str(label.attempt)}
    return [{"key": key, "value": value} for key, value in pairs.items()]


def _variables(config: EcsConfig, job: BuildJob, label: Label) -> dict[str, str]:
    found = {
        "SCALEMESH_URL": job.url or "",
        "SCALEMESH_TOKEN": str(job.token),
        "SCALEMESH_WORK": WORK,
        "SCALEMESH_SANDBOX": "container",
        "HOME": f"{WORK}/home",
        "TMPDIR": f"{WORK}/tmp",  # noqa: S108 - where the builder counts it
        JOB_VARIABLE: str(label),
    }
    return found | ({"SCALEMESH_CA": config.ca_path} if config.ca_path else {})


def _overrides(config: EcsConfig, job: BuildJob, container: str, variables: dict[str, str]) -> dict[str, Any]:
    memory_mib = max(1, job.limits.memory_bytes // MIB)
    cpu, task_mib = fargate_size(config.cpu, memory_mib) if config.on_fargate else (config.cpu, memory_mib)
    override = {
        "name": container,
        "environment": [{"name": name, "value": value} for name, value in variables.items()],
        "memory": memory_mib,  # exactly; the task's size may be the next larger one
    }
    words: dict[str, Any] = {"cpu": str(cpu), "memory": str(task_mib), "containerOverrides": [override]}
    if config.on_fargate:
        disk_gib = fargate_disk_gib(job.limits.disk_bytes, config.ephemeral_storage_gib)
        words |= {"ephemeralStorage": {"sizeInGiB": disk_gib}} if disk_gib else {}
    length = len(json.dumps(words))
    if length > MOST_OVERRIDES:
        raise RefusedError(
            "the job's variables are too long for ECS",
            why=f"as overrides they have {length} characters; ECS takes {MOST_OVERRIDES}",
            fix="shorten builds.public_url or executor.ecs.ca_path",
        )
    return words


def _place(config: EcsConfig) -> dict[str, Any]:
    words: dict[str, Any] = {}
    if config.capacity_providers:
        words["capacityProviderStrategy"] = [
            {"capacityProvider": item.name, "weight": item.weight, "base": item.base}
            for item in config.capacity_providers
        ]
    else:
        words["launchType"] = config.launch_type
    if config.on_fargate and config.platform_version:
        words["platformVersion"] = config.platform_version
    if config.subnets:
        network: dict[str, Any] = {"subnets": list(config.subnets)}
        if config.security_groups:
            network["securityGroups"] = list(config.security_groups)
        if config.on_fargate:
            network["assignPublicIp"] = "ENABLED" if config.assign_public_ip else "DISABLED"
        words["networkConfiguration"] = {"awsvpcConfiguration": network}
    return words
