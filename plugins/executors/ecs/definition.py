"""The task definition: the operator's own, or one that we register and keep as the settings want it."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from plugins.executors.ecs.aws import Aws
from plugins.executors.ecs.config import EcsConfig
from scalemesh.errors import RefusedError

CONTAINER: Final = "builder"
LOG_PREFIX: Final = "scalemesh"
STAMP: Final = "scalemesh.definition"
USER: Final = "1000:1000"
#: Kept where the builder starts as root: to run commands as another user and to clean up after them. Fargate can add
#: none to an empty set, so all others of Docker's usual ones are dropped by name.
ROOT_DROPS: Final = (
    "AUDIT_WRITE",
    "FSETID",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SYS_CHROOT",
)
_LEAST: Final = {"cpu": "256", "memory": "512"}  #: a definition on Fargate must have a size; each task brings its own
_REMEMBERED: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a task is made from."""

    arn: str
    container: str
    log_group: str = ""
    log_region: str = ""
    log_prefix: str = ""


def family(config: EcsConfig) -> str:
    """The definition's name without its revision."""
    if config.task_definition:
        return config.task_definition.rsplit("/", 1)[-1].partition(":")[0]
    return f"scalemesh-{config.owner}"


def wanted(config: EcsConfig) -> dict[str, Any]:
    """The words for RegisterTaskDefinition."""
    words: dict[str, Any] = {
        "family": family(config),
        "networkMode": "awsvpc" if config.subnets else "bridge",
        "requiresCompatibilities": ["FARGATE" if config.on_fargate else "EC2"],
        "containerDefinitions": [_container(config)],
        # Without a path on the host these are fresh, and go with the task.
        "volumes": [{"name": "work"}, {"name": "tmp"}],
        **_LEAST,
    }
    if config.on_fargate:
        words["runtimePlatform"] = {"operatingSystemFamily": "LINUX"}
        if config.architecture != "X86_64":  # which is what Fargate takes by itself
            words["runtimePlatform"]["cpuArchitecture"] = config.architecture
    if config.execution_role_arn:
        words["executionRoleArn"] = config.execution_role_arn
    if config.task_role_arn:
        words["taskRoleArn"] = config.task_role_arn
    words["containerDefinitions"][0]["dockerLabels"] = {STAMP: _stamp(words)}
    return words


def _container(config: EcsConfig) -> dict[str, Any]:
    drop = list(ROOT_DROPS) if config.start_as_root else ["ALL"]
    linux: dict[str, Any] = {"capabilities": {"drop": drop}}
    words: dict[str, Any] = {
        "name": CONTAINER,
        "image": config.image,
        "essential": True,
        "user": "0:0" if config.start_as_root else USER,
        "readonlyRootFilesystem": True,
        "privileged": False,
        "linuxParameters": linux,
        "ulimits": [
            {"name": "core", "softLimit": 0, "hardLimit": 0},
            {"name": "nofile", "softLimit": 65536, "hardLimit": 65536},
        ],
        "mountPoints": [
            {"sourceVolume": "work", "containerPath": "/work"},
            {"sourceVolume": "tmp", "containerPath": "/tmp"},  # noqa: S108 - a folder inside the container
        ],
        "stopTimeout": 2,
    }
    if not config.on_fargate:  # Fargate refuses the others and names no init; there the builder itself comes first
        linux |= {"maxSwap": 0, "initProcessEnabled": True}
        words["dockerSecurityOptions"] = ["no-new-privileges"]
    if config.registry_secret_arn:
        words["repositoryCredentials"] = {"credentialsParameter": config.registry_secret_arn}
    if config.log_group:
        words["logConfiguration"] = _log(config)
    return words


def _log(config: EcsConfig) -> dict[str, Any]:
    options = {
        "awslogs-group": config.log_group,
        "awslogs-region": config.log_region or config.region,
        "awslogs-stream-prefix": LOG_PREFIX,
        "mode": "non-blocking",  # a log that cannot be written must not hold up the build
        "max-buffer-size": "1m",
    }
    return {"logDriver": "awslogs", "options": options}


def _stamp(words: dict[str, Any]) -> str:
    """Differs wherever the content does. Comparing the content itself would see what ECS fills in by itself."""
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:32]


class Definitions:
    """Finds, and where it is ours registers, what tasks are made from."""

    def __init__(self, aws: Aws, config: EcsConfig, tags: list[dict[str, str]]) -> None:
        self._aws = aws
        self._config = config
        self._tags = tags
        self._seen: dict[str, Definition] = {}

    async def ready(self) -> Definition:
        """The one for new tasks. Ours is registered where the newest revision is not what the settings want.

        Raises:
            UnreachableError, RefusedError: as AWS answered; RefusedError also where it is not clear which of
            several containers is the builder.
        """
        if self._config.task_definition:
            return await self.of(self._config.task_definition, fresh=True)
        words = wanted(self._config)
        try:
            newest = await self._described(words["family"])
        except RefusedError as error:
            if "Unable to describe" not in error.why:  # how ECS says that there is none yet
                raise
            newest = {}
        if newest and _is_as(newest, words):
            return self._read(newest)
        made = await self._aws.call("ecs", "register_task_definition", **words, tags=self._tags)
        return self._read(made["taskDefinition"])

    async def of(self, name: str, *, fresh: bool = False) -> Definition:
        """The definition of that ARN, of a revision that never changes; *fresh*: of a name, whose newest may."""
        if fresh or name not in self._seen:
            return self._read(await self._described(name))
        return self._seen[name]

    async def _described(self, name: str) -> dict[str, Any]:
        answer = await self._aws.call("ecs", "describe_task_definition", taskDefinition=name)
        found: dict[str, Any] = answer["taskDefinition"]
        return found

    def _read(self, told: dict[str, Any]) -> Definition:
        container = _builder_of(told)
        options = container.get("logConfiguration", {}).get("options", {})
        read = Definition(
            arn=told["taskDefinitionArn"],
            container=container["name"],
            log_group=options.get("awslogs-group", ""),
            log_region=options.get("awslogs-region", ""),
            log_prefix=options.get("awslogs-stream-prefix", ""),
        )
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[read.arn] = read
        return read


def _is_as(newest: dict[str, Any], words: dict[str, Any]) -> bool:
    """Whether the newest revision was made from these words, and by us: one copied by hand may have gained a role."""
    container = newest["containerDefinitions"][0]
    ours = words["containerDefinitions"][0]
    return (
        newest.get("status", "ACTIVE") == "ACTIVE"
        and container.get("dockerLabels", {}).get(STAMP) == ours["dockerLabels"][STAMP]
        and container["image"] == ours["image"]
        and (newest.get("taskRoleArn") or "") == words.get("taskRoleArn", "")
        and len(newest["containerDefinitions"]) == 1
    )


def _builder_of(told: dict[str, Any]) -> dict[str, Any]:
    containers: list[dict[str, Any]] = told["containerDefinitions"]
    named = [item for item in containers if item["name"] == CONTAINER]
    if not named and len(containers) != 1:
        raise RefusedError(
            f"it is not clear which container of {told['taskDefinitionArn']} is the builder",
            why=f"it has {', '.join(item['name'] for item in containers)}",
            fix=f'name the one with the builder\'s image "{CONTAINER}"',
        )
    return (named or containers)[0]
