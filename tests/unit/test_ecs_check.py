"""What a check of ECS says where AWS answers late, denies, or lacks something."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from scalemesh.ports import Finding
from tests.rigs.aws_answers import error
from tests.rigs.ecs_cloud import CONFIG, OWNER, URL, Cloud, arn, cloud, ended, task
from tests.rigs.ministack import KEYS

REACHABLE = replace(CONFIG, url=URL)


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


def proof_runs(aws: Cloud, **tasks: Any) -> None:
    aws.ecs.say("RunTask", {"tasks": [task(9, "PROVISIONING", deployment="proof")], "failures": []})
    known = {arn(9): task(9, "PROVISIONING", deployment="proof"), **{one["taskArn"]: one for one in tasks.values()}}
    aws.ecs.say("DescribeTasks", lambda words: {"tasks": [known[one] for one in words["tasks"]]})


def bad(found: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in found if not finding.ok]


async def test_a_proof_that_takes_longer_than_a_check_is_told_as_on_its_way() -> None:
    async with cloud(REACHABLE, check_s=4) as aws:
        aws.others()
        proof_runs(aws)
        found = await aws.executor.check()
        assert not bad(found)
        assert f"is PROVISIONING: {arn(9)}" in found[-1].what
        assert "in a minute" in found[-1].fix
        words = aws.ecs.words("RunTask")[0]
        assert words["startedBy"] == f"{OWNER}-check"  # so that nobody adopts it as a build
        assert words["overrides"]["containerOverrides"][0]["command"] == ["proof"]


async def test_the_next_check_tells_how_that_proof_ended() -> None:
    async with cloud(REACHABLE, check_s=4) as aws:
        aws.others()
        proof_runs(aws, before=ended(8, 20, deployment="proof", stoppedAt=datetime.now(UTC)))
        aws.ecs.say(
            "ListTasks", lambda words: {"taskArns": [arn(8)] if words.get("desiredStatus") == "STOPPED" else []}
        )
        found = await aws.executor.check()
        assert f"cannot reach the daemon at {URL}" in bad(found)[0].what
        assert "s ago" in bad(found)[0].what


async def test_a_proof_that_is_still_on_its_way_is_not_started_twice() -> None:
    async with cloud(REACHABLE, check_s=4) as aws:
        aws.others()
        proof_runs(aws)
        aws.ecs.say("ListTasks", lambda words: {"taskArns": [arn(9)] if "startedBy" in words else []})
        await aws.executor.check()
        assert not aws.ecs.words("RunTask")


async def test_a_denied_action_is_named_with_the_policy_that_allows_it() -> None:
    async with cloud(REACHABLE) as aws:
        aws.others()
        aws.ecs.say("DescribeClusters", error("AccessDeniedException", "no identity-based policy allows it"))
        found = bad(await aws.executor.check())
        assert "ecs:DescribeClusters" in found[0].what
        assert "config/aws/ecs-policy.json" in found[0].fix


async def test_subnets_that_may_not_be_looked_at_are_no_mistake() -> None:
    async with cloud(CONFIG) as aws:
        ec2 = aws.others()
        ec2.say("DescribeSubnets", error("UnauthorizedOperation", "You are not authorized."))
        found = await aws.executor.check()
        assert any(finding.ok and finding.what == "not looked at: subnet-0a" for finding in found)


async def test_a_daemon_without_an_address_for_tasks_is_told_and_no_task_is_started() -> None:
    async with cloud(CONFIG) as aws:
        aws.others()
        found = bad(await aws.executor.check())
        assert ["builds.public_url is not set" in finding.what for finding in found] == [True]
        assert not aws.ecs.words("RunTask")


@pytest.mark.parametrize("network", ["full", "packages", "none"])
async def test_a_check_says_that_ecs_holds_no_network(network: str) -> None:
    async with cloud(replace(CONFIG, build_network=network)) as aws:
        aws.others()
        assert any("security groups" in finding.what for finding in await aws.executor.check())


async def test_what_a_build_could_do_at_aws_is_told() -> None:
    config = replace(CONFIG, launch_type="EC2", task_role_arn="arn:aws:iam::1:role/x")
    async with cloud(config) as aws:
        aws.others()
        told = [finding.what for finding in await aws.executor.check()]
    for word in ("metadata address", "arn:aws:iam::1:role/x"):
        assert any(word in what for what in told), told
