"""How the ECS executor takes what AWS answers, such as no stand-in does."""

import asyncio
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from plugins.executors.ecs.tasks import NEVER_RAN, NEWER, STOP, TIME_IS_UP
from scalemesh.errors import RefusedError, UnreachableError
from scalemesh.values import EndCause
from tests.contracts.executor.processes import eventually
from tests.rigs.aws_answers import error
from tests.rigs.ecs_cloud import Cloud, arn, cloud, ended, job, ref, task
from tests.rigs.ministack import KEYS

MISSING = {"tasks": [], "failures": [{"arn": arn(), "reason": "MISSING"}]}


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


async def test_the_task_of_an_answer_that_was_lost_is_found_by_its_client_token() -> None:
    """The token of the build may be another by now, so ECS says that the client token is in use."""
    async with cloud() as aws:
        aws.ecs.say("RunTask", error("ConflictException", "The clientToken is in use.", resourceIds=[arn(7)]))
        assert await aws.executor.start(job()) == ref(7)


async def test_a_job_that_runs_is_found_and_one_of_an_older_attempt_is_stopped_before_a_new_one_begins() -> None:
    async with cloud() as aws:
        aws.ecs.say("DescribeTasks", {"tasks": [task(3), task(4, deployment="dpl_two"), task(5, owner="other")]})
        aws.ecs.say("ListTasks", {"taskArns": [arn(3), arn(4), arn(5)]})
        aws.ecs.say("StopTask", {})
        aws.ecs.say("RunTask", {"tasks": [task(6)], "failures": []})
        assert await aws.executor.start(job()) == ref(3)
        assert not aws.ecs.words("RunTask")
        new = await aws.executor.start(job(attempt=2))
        assert new.where.endswith(arn(6))
        assert {(words["task"], words["reason"]) for words in aws.ecs.words("StopTask")} == {(arn(3), NEWER)}
        order = [name for name, _ in aws.ecs.asked]
        assert order.index("StopTask") < order.index("RunTask")


async def test_a_task_that_was_stopped_is_not_taken_for_the_job_that_is_to_begin() -> None:
    """An attempt that never began is tried again by its own number, and the client token of the first is spent."""
    async with cloud() as aws:
        aws.ecs.say("RunTask", {"tasks": [task(1)], "failures": []}, {"tasks": [task(2)], "failures": []})
        aws.ecs.say("StopTask", {})
        first = await aws.executor.start(job())
        await aws.executor.stop(first)
        aws.ecs.say("ListTasks", lambda words: {"taskArns": [arn(1)] if "family" in words else []})
        aws.ecs.say("DescribeTasks", {"tasks": [task(1, "STOPPED", stopCode="UserInitiated", stoppedReason=STOP)]})
        assert (await aws.executor.start(job())).where.endswith(arn(2))
        assert len({words["clientToken"] for words in aws.ecs.words("RunTask")}) == 2


async def test_a_job_that_aws_does_not_list_yet_is_not_started_twice() -> None:
    async with cloud() as aws:
        aws.ecs.say("RunTask", {"tasks": [task()], "failures": []})
        assert await aws.executor.start(job()) == await aws.executor.start(job())
        assert len(aws.ecs.words("RunTask")) == 1


async def test_lists_are_read_to_their_end_and_described_by_the_hundred() -> None:
    async with cloud() as aws:
        numbers = range(1, 251)
        first = {"taskArns": [arn(n) for n in numbers[:100]], "nextToken": "more"}
        aws.ecs.say("ListTasks", first, {"taskArns": [arn(n) for n in numbers[100:]]})
        aws.ecs.say("DescribeTasks", lambda words: {"tasks": [task(int(one[-32:], 16)) for one in words["tasks"]]})
        found = await aws.executor.running()
        assert len(found) == 250
        assert sorted(len(words["tasks"]) for words in aws.ecs.words("DescribeTasks")) == [50, 100, 100]
        listed = aws.ecs.words("ListTasks")
        assert all(set(words) <= {"cluster", "startedBy", "nextToken"} for words in listed)  # no other filter may be


async def test_a_task_that_is_stopping_is_not_listed() -> None:
    async with cloud() as aws:
        aws.ecs.say("ListTasks", {"taskArns": [arn()]})
        aws.ecs.say("DescribeTasks", {"tasks": [task() | {"desiredStatus": "STOPPED"}]})
        assert list(await aws.executor.running()) == []
        assert aws.ecs.words("DescribeTasks")


async def test_many_waits_share_one_look_and_need_no_threads_of_their_own() -> None:
    async with cloud() as aws:
        is_over = threading.Event()

        def look(words: Mapping[str, Any]) -> Mapping[str, Any]:
            make = ended if is_over.is_set() else task
            return {"tasks": [make(int(one[-32:], 16)) for one in words["tasks"]]}

        aws.ecs.say("DescribeTasks", look)
        before = threading.active_count()
        waits = [asyncio.create_task(aws.executor.wait(ref(number))) for number in range(1, 151)]
        await eventually(lambda: asked(aws, 10))
        assert {len(words["tasks"]) for words in aws.ecs.words("DescribeTasks")} == {100, 50}
        assert threading.active_count() - before <= 50
        is_over.set()
        assert {(await wait).cause for wait in waits} == {EndCause.OK}
        at_the_end = len(aws.ecs.asked)
        await asyncio.sleep(0.1)  # ten of the poller's rounds
        assert len(aws.ecs.asked) == at_the_end


async def test_throttling_is_waited_through_with_longer_pauses() -> None:
    async with cloud() as aws:
        throttled = error("ThrottlingException", "Rate exceeded")
        aws.ecs.say("DescribeTasks", *[throttled] * 5, {"tasks": [ended(exit_code=4)]})
        begun = asyncio.get_running_loop().time()
        end = await aws.executor.wait(ref())
        assert (end.cause, end.exit_code) == (EndCause.FAILED, 4)
        assert asyncio.get_running_loop().time() - begun >= 0.01 * (2 + 4 + 8 + 16 + 32) - 0.05


async def test_a_task_that_aws_does_not_know_yet_is_not_lost() -> None:
    """It may take AWS many looks to tell of a task that it has just started."""
    async with cloud() as aws:
        aws.ecs.say("DescribeTasks", *[MISSING] * 12, {"tasks": [task()]}, MISSING, {"tasks": [ended()]})
        assert (await aws.executor.wait(ref())).cause is EndCause.OK


async def test_a_task_that_was_seen_and_is_forgotten_is_lost() -> None:
    async with cloud() as aws:
        aws.ecs.say("DescribeTasks", {"tasks": [task()]}, MISSING)
        assert (await aws.executor.wait(ref())).cause is EndCause.LOST


async def test_a_task_that_aws_has_not_told_of_for_long_is_lost() -> None:
    async with cloud(unseen_s=0.2) as aws:
        aws.ecs.say("DescribeTasks", MISSING)
        begun = asyncio.get_running_loop().time()
        assert (await aws.executor.wait(ref())).cause is EndCause.LOST
        assert asyncio.get_running_loop().time() - begun >= 0.2


OVERDUE = {
    "ran too long": ({"startedAt": -100}, TIME_IS_UP, EndCause.TIMEOUT),
    "never began": ({"createdAt": -700}, NEVER_RAN, EndCause.REFUSED),
}


@pytest.mark.parametrize(("since", "reason", "cause"), OVERDUE.values(), ids=OVERDUE)
async def test_a_task_past_its_time_is_ended_also_by_a_successor(
    since: dict[str, int], reason: str, cause: EndCause
) -> None:
    times: dict[str, Any] = {name: datetime.now(UTC) + timedelta(seconds=seconds) for name, seconds in since.items()}
    async with cloud() as aws:
        stopped = task(1, "STOPPED", stopCode="UserInitiated", stoppedReason=reason, **times)
        running = task(1, "RUNNING" if "startedAt" in times else "PENDING", **times)
        aws.ecs.say("DescribeTasks", {"tasks": [running]}, {"tasks": [stopped]})
        aws.ecs.say("StopTask", {})
        assert (await aws.executor.wait(ref())).cause is cause
        assert aws.ecs.words("StopTask") == [{"cluster": "builds", "task": arn(), "reason": reason}]


REFUSALS = {
    "no capacity": ({"tasks": [], "failures": [{"reason": "RESOURCE:MEMORY"}]}, UnreachableError),
    "agent": ({"tasks": [], "failures": [{"reason": "AGENT"}]}, UnreachableError),
    "attribute": ({"tasks": [], "failures": [{"reason": "ATTRIBUTE"}]}, RefusedError),
    "throttled": (error("ThrottlingException", "Rate exceeded"), UnreachableError),
    "cluster": (error("ClusterNotFoundException", "Cluster not found."), RefusedError),
    "role": (error("AccessDeniedException", "not authorized to perform: iam:PassRole on resource: x"), RefusedError),
}


@pytest.mark.parametrize(("answer", "kind"), REFUSALS.values(), ids=REFUSALS)
async def test_a_start_that_fails_says_whether_to_try_again(answer: dict[str, Any], kind: type[Exception]) -> None:
    async with cloud() as aws:
        aws.ecs.say("RunTask", answer)
        with pytest.raises(kind):
            await aws.executor.start(job())


NOT_FOUND = error("InvalidParameterException", "The referenced task was not found.")
DENIED = error("AccessDeniedException", "not authorized to perform: ecs:StopTask on resource: x")


@pytest.mark.parametrize(("answer", "tasks"), [(NOT_FOUND, []), (DENIED, [ended()])])
async def test_stopping_a_task_that_has_ended_is_no_error(answer: dict[str, Any], tasks: list[Any]) -> None:
    """ECS drops the tags of an ended task, so the policy does not let us stop it any more."""
    async with cloud() as aws:
        aws.ecs.say("StopTask", answer)
        aws.ecs.say("DescribeTasks", {"tasks": tasks})
        await aws.executor.stop(ref())


async def test_what_may_not_be_asked_is_told_as_out_of_reach_where_a_build_is_under_way() -> None:
    """A right that was taken away can be given back; the builds there go on meanwhile."""
    async with cloud() as aws:
        aws.ecs.say("StopTask", DENIED)
        aws.ecs.say("DescribeTasks", {"tasks": [task()]})
        with pytest.raises(UnreachableError, match="ecs:StopTask"):
            await aws.executor.stop(ref())
        aws.ecs.say(
            "ListTasks", error("AccessDeniedException", "not authorized to perform: ecs:ListTasks on resource: x")
        )
        with pytest.raises(UnreachableError, match="ecs:ListTasks"):
            await aws.executor.running()


async def asked(aws: Cloud, number: int) -> bool:
    return len(aws.ecs.asked) >= number
