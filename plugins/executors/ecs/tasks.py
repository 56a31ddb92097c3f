"""Tasks of ECS as we see them: whose they are, what state they are in, and the calls that list, describe and stop."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from plugins.executors.ecs.aws import Aws
from scalemesh.errors import RefusedError
from scalemesh.values import DeploymentId, JobRef

#: The variable of a task that says whose it is. Tags say so too, but ECS drops those when a task stops.
JOB_VARIABLE: Final = "SCALEMESH_JOB"
BATCH: Final = 100  #: tasks that ECS describes at once
STOP: Final = "scalemesh: asked to stop"
NEWER: Final = "scalemesh: a newer attempt begins"
TIME_IS_UP: Final = "scalemesh: the time limit has passed"
NEVER_RAN: Final = "scalemesh: it did not begin to run in time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a task says of itself."""

    owner: str
    deployment: DeploymentId
    attempt: int
    limit_s: int  #: how long it may run, grace included

    def __str__(self) -> str:
        return f"{self.owner} {self.deployment} {self.attempt} {self.limit_s}"

    @classmethod
    def read(cls, text: str) -> Self | None:
        try:
            owner, deployment, attempt, limit_s = text.split(" ")
            return cls(owner=owner, deployment=DeploymentId(deployment), attempt=int(attempt), limit_s=int(limit_s))
        except ValueError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task as ECS described it."""

    arn: str
    definition: str
    status: str
    is_wanted: bool  #: nobody has asked it to stop, and it has not ended
    label: Label | None
    container: str  #: name of the builder's
    created_at: datetime | None
    started_at: datetime | None
    stopped_at: datetime | None
    stop_code: str
    stopped_reason: str
    containers: tuple[Mapping[str, Any], ...]

    @property
    def is_stopped(self) -> bool:
        return self.status == "STOPPED"

    @property
    def id(self) -> str:
        return self.arn.rsplit("/", 1)[-1]

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Self:
        container, label = _override(told)
        return cls(
            arn=told["taskArn"],
            definition=told.get("taskDefinitionArn", ""),
            status=told.get("lastStatus", ""),
            is_wanted=told.get("desiredStatus") != "STOPPED" and told.get("lastStatus") != "STOPPED",
            label=Label.read(label),
            container=container,
            created_at=told.get("createdAt"),
            started_at=told.get("startedAt"),
            stopped_at=told.get("stoppedAt"),
            stop_code=told.get("stopCode") or "",
            stopped_reason=told.get("stoppedReason") or "",
            containers=tuple(told.get("containers", ())),
        )


def _override(told: Mapping[str, Any]) -> tuple[str, str]:
    """The container that was given our variable, and its value."""
    for override in told.get("overrides", {}).get("containerOverrides", []):
        for item in override.get("environment", []):
            if item.get("name") == JOB_VARIABLE:
                return override.get("name", ""), item.get("value", "")
    return "", ""


def ref_of(deployment: DeploymentId, attempt: int, arn: str) -> JobRef:
    """``where`` repeats whose task it is: a ref that was mixed up then finds nothing, without asking AWS."""
    return JobRef(deployment=deployment, attempt=attempt, where=f"{deployment}/{attempt} {arn}")


def arn_of(ref: JobRef) -> str | None:
    """The task of *ref*; None if its words are not those of that job."""
    whose, _, arn = ref.where.partition(" ")
    return arn if arn and whose == f"{ref.deployment}/{ref.attempt}" else None


class Tasks:
    """The calls about tasks of one cluster."""

    def __init__(self, aws: Aws, cluster: str) -> None:
        self._aws = aws
        self._cluster = cluster

    async def describe(self, arns: Iterable[str]) -> dict[str, Task]:
        """Those that ECS knows, by their ARN. It forgets a task about an hour after its end."""
        wanted = sorted(set(arns))
        batches = [wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH)]
        answers = await asyncio.gather(
            *(self._aws.call("ecs", "describe_tasks", cluster=self._cluster, tasks=batch) for batch in batches)
        )
        return {told["taskArn"]: Task.read(told) for answer in answers for told in answer.get("tasks", [])}

    async def running(self, started_by: str) -> list[Task]:
        """Tasks begun with *started_by* that are not asked to stop."""
        arns = await self._list(startedBy=started_by)  # by contract the only filter beside the cluster
        return [task for task in (await self.describe(arns)).values() if task.is_wanted]

    async def stopped(self, family: str) -> list[Task]:
        """Tasks of the definition's family that ended within the last hour, or are just ending."""
        arns = await self._list(family=family, desiredStatus="STOPPED")
        return list((await self.describe(arns)).values())

    async def stop(self, arn: str, reason: str) -> None:
        """Ask ECS to end the task. One that has ended, or is not known any more, is no error."""
        try:
            await self._aws.call("ecs", "stop_task", cluster=self._cluster, task=arn, reason=reason)
        except RefusedError:  # an ended task has lost the tag by which a policy lets us stop it
            task = (await self.describe([arn])).get(arn)
            if task is not None and task.is_wanted:
                raise

    async def _list(self, **only: Any) -> list[str]:
        found: list[str] = []
        page: dict[str, Any] = {}
        while True:
            answer = await self._aws.call("ecs", "list_tasks", cluster=self._cluster, **only, **page)
            found += answer.get("taskArns", [])
            if not answer.get("nextToken"):
                return found
            page = {"nextToken": answer["nextToken"]}
