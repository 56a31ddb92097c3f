"""An ECS executor, and an AWS that a test speaks for."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plugins.executors.ecs import EcsConfig, EcsExecutor
from plugins.executors.ecs.aws import Aws
from scalemesh.values import BuildJob, DeploymentId, JobRef
from tests.contracts.executor.stand_in import limits, make_job
from tests.rigs.aws_answers import Answers, error

OWNER = "0123456789ab"
FAMILY = f"arn:aws:ecs:eu-central-1:123456789012:task-definition/scalemesh-{OWNER}"
CONFIG = EcsConfig(
    region="eu-central-1", cluster="builds", image="registry.example/builder:1", subnets=("subnet-0a",), owner=OWNER
)
URL = "https://deploy.example"


def arn(number: int = 1) -> str:
    return f"arn:aws:ecs:eu-central-1:123456789012:task/builds/{number:032x}"


def task(
    number: int = 1, status: str = "RUNNING", *, deployment: str = "dpl_one", attempt: int = 1, **more: Any
) -> Any:
    label = f"{more.pop('owner', OWNER)} {deployment} {attempt} {more.pop('limit_s', 90)}"
    variables = [{"name": "SCALEMESH_JOB", "value": label}]
    return {
        "taskArn": arn(number),
        "taskDefinitionArn": f"{FAMILY}:1",
        "lastStatus": status,
        "desiredStatus": "STOPPED" if status == "STOPPED" else "RUNNING",
        "createdAt": datetime.now(UTC),
        "overrides": {"containerOverrides": [{"name": "builder", "environment": variables}]},
    } | more


def ended(number: int = 1, exit_code: int = 0, **more: Any) -> Any:
    containers = [{"name": "builder", "exitCode": exit_code}]
    return task(number, "STOPPED", stopCode="EssentialContainerExited", containers=containers, **more)


def ref(number: int = 1, deployment: str = "dpl_one") -> JobRef:
    return JobRef(deployment=DeploymentId(deployment), attempt=1, where=f"{deployment}/1 {arn(number)}")


def job(**changes: Any) -> BuildJob:
    made = make_job("token", Path("/nowhere/builds.sock"), within=limits(memory_mib=2500, time_s=60))
    return replace(made, url=URL, **changes)


@dataclass
class Cloud:
    """An executor and the AWS it talks to."""

    executor: EcsExecutor
    ecs: Answers
    aws: Aws

    def others(self) -> Answers:
        """Let also answer who is asked by a check; the subnets are told by what is returned."""
        sts, ec2 = Answers(self.aws.client("sts")), Answers(self.aws.client("ec2"))
        sts.say("GetCallerIdentity", {"Arn": "arn:aws:iam::123456789012:role/daemon"})
        ec2.say("DescribeSubnets", {"Subnets": []})
        self.ecs.say("DescribeClusters", {"clusters": [{"clusterName": "builds", "status": "ACTIVE"}]})
        return ec2


@asynccontextmanager
async def cloud(config: EcsConfig = CONFIG, check_s: float = 9, unseen_s: float = 60) -> AsyncIterator[Cloud]:
    """AWS knows a definition that is as the settings want it, and no task."""
    waits = {"poll_s": 0.01, "check_s": check_s, "unseen_s": unseen_s}
    async with Aws.open(config) as aws, EcsExecutor.open(config, aws=aws, **waits) as executor:
        ecs = Answers(aws.client("ecs"))
        ecs.say("ListTasks", {"taskArns": []})
        ecs.say("DescribeTaskDefinition", error("ClientException", "Unable to describe task definition."))
        ecs.say("RegisterTaskDefinition", registered)
        yield Cloud(executor, ecs, aws)


def registered(words: Mapping[str, Any]) -> Mapping[str, Any]:
    told = {name: value for name, value in words.items() if name != "tags"}
    return {"taskDefinition": {**told, "taskDefinitionArn": f"{FAMILY}:1", "revision": 1, "status": "ACTIVE"}}
