"""What the ECS executor asks of AWS, word for word."""

import json
from dataclasses import replace
from typing import Any

import pytest

from plugins.executors.ecs import CapacityProvider, EcsConfig
from scalemesh.errors import RefusedError
from scalemesh.values import DeploymentId, Secret
from tests.rigs.ecs_cloud import CONFIG, FAMILY, OWNER, URL, arn, cloud, job, registered, task
from tests.rigs.ministack import KEYS


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


async def started(config: EcsConfig = CONFIG, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The words of RegisterTaskDefinition and of RunTask for one job."""
    async with cloud(config) as aws:
        aws.ecs.say("RunTask", {"tasks": [task()], "failures": []})
        assert (await aws.executor.start(job(**changes))).where.endswith(arn())
        definitions = aws.ecs.words("RegisterTaskDefinition") or [{}]
        return definitions[0], aws.ecs.words("RunTask")[0]


async def test_a_task_is_asked_for_with_all_that_a_build_needs_and_no_more() -> None:
    _, words = await started()
    token = words.pop("clientToken")
    assert words == {
        "cluster": "builds",
        "taskDefinition": f"{FAMILY}:1",
        "count": 1,
        "launchType": "FARGATE",
        "platformVersion": "LATEST",
        "startedBy": OWNER,
        "enableExecuteCommand": False,
        "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-0a"], "assignPublicIp": "DISABLED"}},
        "tags": [
            {"key": "scalemesh.owner", "value": OWNER},
            {"key": "scalemesh.deployment", "value": "dpl_one"},
            {"key": "scalemesh.attempt", "value": "1"},
        ],
        "overrides": {
            "cpu": "1024",
            "memory": "3072",  # the next size of Fargate; the container is held to the limit itself
            "containerOverrides": [
                {
                    "name": "builder",
                    "memory": 2500,
                    "environment": [
                        {"name": "SCALEMESH_URL", "value": URL},
                        {"name": "SCALEMESH_TOKEN", "value": "token"},
                        {"name": "SCALEMESH_WORK", "value": "/work"},
                        {"name": "SCALEMESH_SANDBOX", "value": "container"},
                        {"name": "HOME", "value": "/work/home"},
                        {"name": "TMPDIR", "value": "/work/tmp"},
                        {"name": "SCALEMESH_JOB", "value": f"{OWNER} dpl_one 1 90"},
                    ],
                }
            ],
        },
    }
    assert len(token) == 64
    assert all(33 <= ord(letter) <= 126 for letter in token)


async def test_the_client_token_names_the_job_and_nothing_else() -> None:
    tokens = [
        (await started(**changes))[1]["clientToken"]
        for changes in ({}, {"token": Secret("another")}, {"attempt": 2}, {"deployment": DeploymentId("dpl_two")})
    ]
    assert tokens[0] == tokens[1]
    assert len(set(tokens)) == 3


async def test_the_definition_holds_a_build_as_tight_as_fargate_can() -> None:
    words, _ = await started()
    container = words["containerDefinitions"][0]
    labels = container.pop("dockerLabels")
    assert set(labels) == {"scalemesh.definition"}
    assert container == {
        "name": "builder",
        "image": "registry.example/builder:1",
        "essential": True,
        "user": "1000:1000",
        "readonlyRootFilesystem": True,
        "privileged": False,
        "linuxParameters": {"capabilities": {"drop": ["ALL"]}},
        "ulimits": [
            {"name": "core", "softLimit": 0, "hardLimit": 0},
            {"name": "nofile", "softLimit": 65536, "hardLimit": 65536},
        ],
        "mountPoints": [
            {"sourceVolume": "work", "containerPath": "/work"},
            {"sourceVolume": "tmp", "containerPath": "/tmp"},
        ],
        "stopTimeout": 2,
    }
    del words["containerDefinitions"]
    assert words == {
        "family": f"scalemesh-{OWNER}",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "volumes": [{"name": "work"}, {"name": "tmp"}],
        "cpu": "256",
        "memory": "512",
        "runtimePlatform": {"operatingSystemFamily": "LINUX"},
        "tags": [{"key": "scalemesh.owner", "value": OWNER}],
    }


async def test_a_build_has_a_role_only_where_the_operator_names_one() -> None:
    definition, run = await started()
    assert "taskRoleArn" not in json.dumps([definition, run])
    assert "executionRoleArn" not in json.dumps([definition, run])
    role = "arn:aws:iam::123456789012:role/build"
    definition, run = await started(replace(CONFIG, task_role_arn=role))
    assert definition["taskRoleArn"] == role
    assert "Role" not in json.dumps(run)


async def test_a_builder_that_starts_as_root_keeps_what_it_needs_to_be_two_users() -> None:
    definition, _ = await started(replace(CONFIG, start_as_root=True))
    container = definition["containerDefinitions"][0]
    assert container["user"] == "0:0"
    usual = {"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW"}
    usual |= {"SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}
    kept = usual - set(container["linuxParameters"]["capabilities"]["drop"])
    assert kept == {"CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETPCAP", "SETUID"}
    assert "add" not in container["linuxParameters"]["capabilities"]


async def test_on_ec2_a_task_has_the_size_of_its_limits_and_what_fargate_refuses() -> None:
    definition, run = await started(replace(CONFIG, launch_type="EC2", security_groups=("sg-0a",)))
    container = definition["containerDefinitions"][0]
    assert definition["requiresCompatibilities"] == ["EC2"]
    assert "runtimePlatform" not in definition
    assert container["dockerSecurityOptions"] == ["no-new-privileges"]
    assert container["linuxParameters"]["maxSwap"] == 0
    assert container["linuxParameters"]["initProcessEnabled"] is True
    assert run["launchType"] == "EC2"
    assert "platformVersion" not in run
    assert run["overrides"]["memory"] == "2500"
    network = run["networkConfiguration"]["awsvpcConfiguration"]
    assert network == {"subnets": ["subnet-0a"], "securityGroups": ["sg-0a"]}


async def test_capacity_providers_share_the_tasks_instead_of_a_launch_type() -> None:
    spot = (CapacityProvider(name="FARGATE_SPOT", weight=3), CapacityProvider(name="FARGATE", base=1))
    _, run = await started(replace(CONFIG, capacity_providers=spot, assign_public_ip=True))
    assert "launchType" not in run
    assert run["capacityProviderStrategy"] == [
        {"capacityProvider": "FARGATE_SPOT", "weight": 3, "base": 0},
        {"capacityProvider": "FARGATE", "weight": 1, "base": 1},
    ]
    assert run["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"] == "ENABLED"


async def test_log_registry_disk_and_tags_are_asked_for_where_they_are_set() -> None:
    config = replace(
        CONFIG,
        execution_role_arn="arn:aws:iam::123456789012:role/execution",
        registry_secret_arn="arn:aws:secretsmanager:eu-central-1:123456789012:secret:registry",
        log_group="builds",
        tags={"team": "web"},
        propagate_tags=True,
        ephemeral_storage_gib=40,
        ca_path="/etc/ssl/company.pem",
        platform_version="1.4.0",
        architecture="ARM64",
    )
    definition, run = await started(config)
    container = definition["containerDefinitions"][0]
    assert container["repositoryCredentials"]["credentialsParameter"] == config.registry_secret_arn
    assert container["logConfiguration"]["options"]["awslogs-group"] == "builds"
    assert container["logConfiguration"]["options"]["awslogs-region"] == "eu-central-1"
    assert definition["executionRoleArn"] == config.execution_role_arn
    assert definition["runtimePlatform"]["cpuArchitecture"] == "ARM64"
    assert {"key": "team", "value": "web"} in definition["tags"]
    assert {"key": "team", "value": "web"} in run["tags"]
    assert run["propagateTags"] == "TASK_DEFINITION"
    assert run["platformVersion"] == "1.4.0"
    assert run["overrides"]["ephemeralStorage"] == {"sizeInGiB": 40}
    environment = run["overrides"]["containerOverrides"][0]["environment"]
    assert {"name": "SCALEMESH_CA", "value": "/etc/ssl/company.pem"} in environment


async def test_variables_that_are_too_long_for_ecs_are_refused_before_anything_is_asked_for() -> None:
    async with cloud() as aws:
        with pytest.raises(RefusedError, match="8192"):
            await aws.executor.start(job(token=Secret("x" * 8000)))
        assert not aws.ecs.words("RunTask")


async def test_a_definition_that_is_as_it_should_be_is_not_registered_again() -> None:
    definition, _ = await started()
    async with cloud() as aws:
        aws.ecs.say("DescribeTaskDefinition", registered(definition))
        aws.ecs.say("RunTask", {"tasks": [task()], "failures": []})
        await aws.executor.start(job())
        assert not aws.ecs.words("RegisterTaskDefinition")
        assert aws.ecs.words("DescribeTaskDefinition") == [{"taskDefinition": f"scalemesh-{OWNER}"}]
