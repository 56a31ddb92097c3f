"""The policy for the daemon's role allows what the ECS executor asks of AWS: all of it, and nothing else."""

import ast
import json
from pathlib import Path
from typing import Any

from botocore.session import get_session

import plugins.executors.ecs

ROOT = Path(__file__).parents[2]
POLICY = json.loads((ROOT / "config" / "aws" / "ecs-policy.json").read_text())
#: No calls of their own: ECS asks for them where a call brings tags, or names a role.
BY_THE_WAY = {"ecs:TagResource", "iam:PassRole"}
#: What IAM cannot tie to one resource: with a condition where there is one, else reading, and the definitions of tasks.
OF_EVERYTHING = {
    "sts:GetCallerIdentity",
    "ecs:ListTasks",
    "ecs:DescribeTaskDefinition",
    "ecs:RegisterTaskDefinition",
    "ec2:DescribeSubnets",
    "ec2:DescribeSecurityGroups",
}


def many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def called() -> set[tuple[str, str]]:
    """(service, method of boto3) of every call in the plug-in."""
    folder = Path(plugins.executors.ecs.__file__).parent
    nodes = (node for path in folder.glob("*.py") for node in ast.walk(ast.parse(path.read_text())))
    calls = (node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    named = (call.args[:2] for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "call")
    return {(str(ast.literal_eval(service)), str(ast.literal_eval(method))) for service, method in named}


def action(service: str, method: str) -> str:
    """The operation as IAM names it."""
    operations = get_session().get_service_model(service).operation_names
    return next(f"{service}:{name}" for name in operations if name.lower() == method.replace("_", ""))


def test_the_policy_allows_the_calls_of_the_executor_and_no_others() -> None:
    allowed = {each for statement in POLICY["Statement"] for each in many(statement["Action"])}
    assert len(called()) >= 10
    assert allowed - BY_THE_WAY == {action(*call) for call in called()}
    assert allowed >= BY_THE_WAY


def test_every_action_is_tied_to_a_resource_where_it_can_be() -> None:
    for statement in POLICY["Statement"]:
        assert statement["Effect"] == "Allow"
        if "*" in many(statement["Resource"]):
            assert set(many(statement["Action"])) <= OF_EVERYTHING
        assert not any("*" in each for each in many(statement["Action"]))


def test_tasks_are_run_and_stopped_in_one_cluster_and_only_with_our_tag() -> None:
    for name in ("ecs:RunTask", "ecs:StopTask"):
        statement = next(each for each in POLICY["Statement"] if name in many(each["Action"]))
        assert "ecs:cluster" in statement["Condition"]["ArnEquals"]
        assert any("scalemesh.owner" in key for key in statement["Condition"]["StringLike"])
