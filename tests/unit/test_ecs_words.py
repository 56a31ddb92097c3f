"""How what AWS says becomes an end, an error, a size: with answers as its documentation shows them."""

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore import exceptions as aws

from plugins.executors.ecs import CapacityProvider, EcsConfig
from plugins.executors.ecs.ends import end_of
from plugins.executors.ecs.sizes import FARGATE_SIZES, GIB, fargate_disk_gib, fargate_size
from plugins.executors.ecs.tasks import NEVER_RAN, NEWER, STOP, TIME_IS_UP, Task, arn_of, ref_of
from plugins.executors.ecs.words import refused_to_run, translated
from scalemesh.errors import RefusedError, ScaleMeshError, UnreachableError
from scalemesh.values import DeploymentId, EndCause

ARN = "arn:aws:ecs:eu-central-1:123456789012:task/builds/0123456789abcdef0123456789abcdef"
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/scalemesh-builder:1"
PULL = (
    "CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref "
    f"{IMAGE}: {IMAGE}: not found"
)
OOM = "OutOfMemoryError: Container killed due to memory usage"
SPOT = "Your Spot Task was interrupted."


def stopped(code: str, why: str, *, ran: bool = True, **container: Any) -> Task:
    told: dict[str, Any] = {
        "taskArn": ARN,
        "lastStatus": "STOPPED",
        "desiredStatus": "STOPPED",
        "stopCode": code,
        "stoppedReason": why,
        "createdAt": datetime.now(UTC),
        "containers": [{"name": "sidecar", "exitCode": 0}, {"name": "builder", "image": IMAGE, **container}],
        "overrides": {
            "containerOverrides": [
                {"name": "builder", "environment": [{"name": "SCALEMESH_JOB", "value": "owner dpl_one 1 60"}]}
            ]
        },
    }
    return Task.read(told | ({"startedAt": datetime.now(UTC)} if ran else {}))


EXITED = "EssentialContainerExited", "Essential container in task exited"
ENDS = {
    "ended well": (stopped(*EXITED, exitCode=0), EndCause.OK, 0, ""),
    "failed": (stopped(*EXITED, exitCode=3), EndCause.FAILED, 3, ""),
    "memory": (stopped(*EXITED, exitCode=137, reason=OOM), EndCause.OOM, 137, "OutOfMemoryError"),
    "memory of the task": (stopped(EXITED[0], OOM, exitCode=137), EndCause.OOM, 137, "OutOfMemoryError"),
    "killed, but not for memory": (stopped(*EXITED, exitCode=137), EndCause.FAILED, 137, ""),
    "image": (stopped("TaskFailedToStart", PULL, ran=False), EndCause.REFUSED, None, IMAGE),
    "image, told by the container": (
        stopped("TaskFailedToStart", "Task failed to start", ran=False, reason=PULL),
        EndCause.REFUSED,
        None,
        "ecr:BatchGetImage",
    ),
    "secret": (
        stopped(
            "TaskFailedToStart",
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval "
            "failed: unable to retrieve secret from asm",
            ran=False,
        ),
        EndCause.REFUSED,
        None,
        "may read the secret",
    ),
    "log group": (
        stopped(
            "TaskFailedToStart",
            "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: "
            "failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist",
            ran=False,
        ),
        EndCause.REFUSED,
        None,
        "executor.ecs.log_group",
    ),
    "no capacity": (
        stopped(
            "TaskFailedToStart",
            "Capacity is unavailable at this time. Please try again later or in a different availability zone",
            ran=False,
        ),
        EndCause.LOST,
        None,
        "now",
    ),
    "no memory left": (stopped("TaskFailedToStart", "RESOURCE:MEMORY", ran=False), EndCause.LOST, None, "now"),
    "network card": (
        stopped("TaskFailedToStart", "Timeout waiting for network interface provisioning to complete.", ran=False),
        EndCause.LOST,
        None,
        "now",
    ),
    "spot": (stopped("SpotInterruption", SPOT, exitCode=143), EndCause.LOST, None, SPOT),
    "maintenance": (
        stopped("TerminationNotice", "Task stopped due to AWS maintenance", exitCode=0),
        EndCause.LOST,
        None,
        "AWS took the machine away",
    ),
    "instance": (
        stopped("", "Host EC2 (instance i-0123456789abcdef0) terminated."),
        EndCause.LOST,
        None,
        "terminated",
    ),
    "somebody": (
        stopped("UserInitiated", "Task stopped by user", exitCode=0),
        EndCause.LOST,
        None,
        "somebody stopped the task: Task stopped by user",
    ),
    "us": (stopped("UserInitiated", STOP, exitCode=143), EndCause.LOST, None, "stopped"),
    "newer attempt": (stopped("UserInitiated", NEWER, exitCode=143), EndCause.LOST, None, "stopped"),
    "time": (stopped("UserInitiated", TIME_IS_UP, exitCode=137), EndCause.TIMEOUT, None, ""),
    "never ran": (stopped("UserInitiated", NEVER_RAN, ran=False), EndCause.REFUSED, None, "did not begin"),
    "forgotten": (None, EndCause.LOST, None, "an hour"),
}


@pytest.mark.parametrize(("task", "cause", "exit_code", "word"), ENDS.values(), ids=ENDS)
def test_an_end_is_told_for_what_it_was(task: Task | None, cause: EndCause, exit_code: int | None, word: str) -> None:
    end = end_of(task)
    assert (end.cause, end.exit_code) == (cause, exit_code)
    assert word in end.detail


def test_the_last_words_of_a_job_are_cut_at_the_front() -> None:
    end = end_of(stopped(*EXITED, exitCode=1), "x" * 100_000 + "the end")
    assert len(end.detail) <= 4000
    assert end.detail.endswith("the end")


def denied(action: str) -> aws.ClientError:
    who = "arn:aws:sts::123456789012:assumed-role/daemon/i-0123456789abcdef0"
    message = f"User: {who} is not authorized to perform: {action} on resource: * because no policy allows it"
    return answer("AccessDeniedException", message, "RunTask")


def answer(code: str, message: str, operation: str = "RunTask", status: int = 400, **more: Any) -> aws.ClientError:
    told = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
    return aws.ClientError(told, operation)


URL = "https://ecs.eu-central-1.amazonaws.com/"
ERRORS: Mapping[str, tuple[Exception, type[ScaleMeshError], str]] = {
    "throttled": (answer("ThrottlingException", "Rate exceeded"), UnreachableError, "busy"),
    "server": (answer("ServerException", "Service Unavailable. Please try again later."), UnreachableError, "busy"),
    "status": (answer("503", "", status=503), UnreachableError, "busy"),
    "capacity": (
        answer("ClientException", "Capacity is unavailable at this time. Please try again later"),
        UnreachableError,
        "no room",
    ),
    "quota": (
        answer("ClientException", "You've reached the limit on the number of tasks you can run concurrently"),
        UnreachableError,
        "no room",
    ),
    "no instances": (
        answer("InvalidParameterException", "No Container Instances were found in your cluster."),
        UnreachableError,
        "no room",
    ),
    "connection": (aws.EndpointConnectionError(endpoint_url=URL), UnreachableError, "does not answer"),
    "slow": (aws.ReadTimeoutError(endpoint_url=URL), UnreachableError, "does not answer"),
    "expired": (answer("ExpiredTokenException", "The security token is expired"), UnreachableError, "expired"),
    "cluster": (answer("ClusterNotFoundException", "Cluster not found."), RefusedError, "executor.ecs.cluster"),
    "subnet": (
        answer(
            "InvalidParameterException",
            "Error retrieving subnet information for [subnet-0a]: The subnet ID 'subnet-0a' does not exist "
            "(ErrorCode: InvalidSubnetID.NotFound)",
        ),
        RefusedError,
        "executor.ecs.subnets",
    ),
    "security group": (
        answer(
            "InvalidParameterException",
            "Error retrieving security group information for [sg-0a]: The security group 'sg-0a' does not exist",
        ),
        RefusedError,
        "executor.ecs.security_groups",
    ),
    "role": (
        answer("ClientException", "ECS was unable to assume the role 'arn:aws:iam::123456789012:role/x'"),
        RefusedError,
        "execution_role_arn",
    ),
    "run": (denied("ecs:RunTask"), RefusedError, "allow ecs:RunTask to the daemon's role, see config/aws"),
    "pass role": (denied("iam:PassRole"), RefusedError, "allow iam:PassRole"),
    "key": (answer("UnrecognizedClientException", "The security token is invalid."), RefusedError, "credentials"),
    "no key": (aws.NoCredentialsError(), UnreachableError, "config/aws/ecs-policy.json"),
    "no region": (aws.NoRegionError(), RefusedError, "executor.ecs.region"),
}


@pytest.mark.parametrize(("error", "kind", "word"), ERRORS.values(), ids=ERRORS)
def test_an_error_of_aws_says_whether_to_try_again_and_what_to_mend(
    error: Exception, kind: type[ScaleMeshError], word: str
) -> None:
    found = translated(error, "ecs:run_task")
    assert type(found) is kind
    assert word in str(found)


FAILURES = {
    "RESOURCE:MEMORY": UnreachableError,
    "RESOURCE:CPU": UnreachableError,
    "RESOURCE:ENI": UnreachableError,
    "AGENT": UnreachableError,
    "Capacity is unavailable at this time. Please try again later": UnreachableError,
    "MISSING": RefusedError,
    "ATTRIBUTE": RefusedError,
    "INACTIVE": RefusedError,
}


@pytest.mark.parametrize(("reason", "kind"), FAILURES.items())
def test_a_task_that_was_not_started_says_why(reason: str, kind: type[ScaleMeshError]) -> None:
    found = refused_to_run([{"arn": "arn:aws:ecs:eu-central-1:1:container-instance/a", "reason": reason}])
    assert type(found) is kind
    assert reason in found.why


def test_a_size_is_the_smallest_that_holds_both() -> None:
    assert fargate_size(256, 512) == (256, 512)
    assert fargate_size(256, 513) == (256, 1024)
    assert fargate_size(1024, 2048) == (1024, 2048)
    assert fargate_size(1024, 2049) == (1024, 3072)
    assert fargate_size(1024, 9000) == (2048, 9216)
    assert fargate_size(1025, 100) == (2048, 4096)
    assert fargate_size(16384, 122880) == (16384, 122880)


def test_every_pair_fits_itself_and_no_pair_is_beaten_by_a_smaller() -> None:
    for cpu, sizes in FARGATE_SIZES:
        for memory_mib in sizes:
            assert fargate_size(cpu, memory_mib) == (cpu, memory_mib)


@pytest.mark.parametrize(("cpu", "memory_mib"), [(16385, 512), (256, 122881)])
def test_what_exceeds_the_largest_task_is_refused_with_the_numbers(cpu: int, memory_mib: int) -> None:
    with pytest.raises(RefusedError) as caught:
        fargate_size(cpu, memory_mib)
    assert f"{cpu} CPU units and {memory_mib} MiB" in caught.value.what
    assert "16384 units and 122880 MiB" in caught.value.why


def test_a_task_gets_the_disk_that_a_build_and_the_image_need() -> None:
    assert fargate_disk_gib(8 * GIB, 0) is None
    assert fargate_disk_gib(20 * GIB, 0) == 26
    assert fargate_disk_gib(8 * GIB, 50) == 50
    for disk_bytes, wanted in ((195 * GIB, 0), (30 * GIB, 21)):
        with pytest.raises(RefusedError, match="ephemeral_storage_gib"):
            fargate_disk_gib(disk_bytes, wanted)


def test_a_ref_finds_the_task_of_its_own_job_alone() -> None:
    ref = ref_of(DeploymentId("dpl_one"), 2, ARN)
    assert arn_of(ref) == ARN
    assert arn_of(dataclasses.replace(ref, attempt=1)) is None
    assert arn_of(dataclasses.replace(ref, deployment=DeploymentId("dpl_two"))) is None
    assert arn_of(dataclasses.replace(ref, where="")) is None


SPOTS = (CapacityProvider(name="FARGATE_SPOT"),)
MISTAKES: Mapping[str, tuple[dict[str, Any], str]] = {
    "neither image nor definition": ({"image": ""}, "image"),
    "both": ({"task_definition": "mine"}, "task_definition"),
    "launch type": ({"launch_type": "EXTERNAL"}, "launch_type"),
    "no subnet": ({"subnets": ()}, "subnets"),
    "mixed": ({"capacity_providers": (*SPOTS, CapacityProvider(name="mine"))}, "capacity_providers"),
    "log without role": ({"log_group": "builds", "region": "eu-central-1"}, "execution_role_arn"),
    "secret without role": ({"registry_secret_arn": "arn"}, "execution_role_arn"),
    "groups without subnets": (
        {"launch_type": "EC2", "subnets": (), "security_groups": ("sg-0a",)},
        "name the subnets too",
    ),
    "address on EC2": ({"launch_type": "EC2", "assign_public_ip": True}, "assign_public_ip"),
    "disk": ({"ephemeral_storage_gib": 20}, "ephemeral_storage_gib"),
    "cpu": ({"cpu": 1}, "cpu"),
    "time": ({"start_timeout_s": 1}, "start_timeout_s"),
    "tag": ({"tags": {"scalemesh.owner": "me"}}, "tags"),
    "architecture": ({"architecture": "RISCV"}, "architecture"),
}


@pytest.mark.parametrize(("changes", "word"), MISTAKES.values(), ids=MISTAKES)
def test_a_wrong_setting_is_named(changes: dict[str, Any], word: str) -> None:
    good: dict[str, Any] = {"image": IMAGE, "subnets": ("subnet-0a",)}
    EcsConfig(**good)
    with pytest.raises(ValueError, match=word):
        EcsConfig(**(good | changes))


@pytest.mark.parametrize("changes", [{"weight": -1}, {"base": 100_001}])
def test_a_wrong_capacity_provider_is_named(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        CapacityProvider(name="FARGATE", **changes)
