"""Builders that are not heard of, and jobs that take their time to begin."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from scalemesh.config import Builds
from scalemesh.services.builds import Attempt
from scalemesh.values import BuildEnd, DeploymentId, JobRef, Reason, State
from tests.contracts.executors import EndsWhenTold, IsDown
from tests.contracts.life import Life, begin

SHORT = Builds(total_memory_mib=65536, lease_s=1, time_limit_s=1)
ASK_S = "scalemesh.services.scheduler.ASK_S"


@pytest.fixture(autouse=True)
def asks_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ASK_S, 0.05)


class LosesTrack(EndsWhenTold):
    """Has a bug where it is first asked for the end of a job."""

    asked = 0

    async def wait(self, ref: JobRef) -> BuildEnd:
        self.asked += 1
        if self.asked == 1:
            raise RuntimeError("a client library's own")
        return await super().wait(ref)


class NeverStopsTheFirst(EndsWhenTold):
    """Lets whoever wants the job of that build stopped wait for ever."""

    first: DeploymentId | None = None

    async def stop(self, ref: JobRef) -> None:
        self.first = self.first or ref.deployment
        if ref.deployment == self.first:
            await asyncio.Event().wait()
        await super().stop(ref)


async def unclaimed(life: Life, name: str, kind: str = "local") -> DeploymentId:
    """A build whose job there is, and whose builder has not begun."""
    url = f"https://git.example/a/{name}"
    project = await life.project(url)
    await life.services.projects.change(
        project.name, git_url=url, production_branch=None, settings=project.settings, executor=kind
    )
    deployment = await life.submit(url=url)
    await life.executors[kind].job(deployment)
    return deployment


async def claimed(life: Life, name: str, kind: str = "local") -> DeploymentId:
    """A build whose builder has begun, and is silent from then on."""
    deployment = await unclaimed(life, name, kind)
    await life.services.builds.claim(Attempt(deployment, 1, "nonce"), "nonce")
    return deployment


async def test_a_builder_that_is_silent_is_lost_and_its_build_is_tried_once_more(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), SHORT) as life:
        deployment = await claimed(life, "site")
        await life.executor.job(deployment, 2)
        assert (deployment, 1) in life.executor.stopped
        await life.services.builds.claim(Attempt(deployment, 2, "nonce"), "nonce")
        assert (await life.until(deployment, State.FAILED)).reason is Reason.LOST


async def test_a_job_that_begins_long_after_a_lease_is_waited_for(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), SHORT) as life:
        pulling = await unclaimed(life, "pulling")
        silent = await claimed(life, "silent")
        await life.executor.job(silent, 2)  # later begun, and looked after: so the other one was spared
        assert (pulling, 1) not in life.executor.stopped
        await life.built(pulling)
        assert (await life.until(pulling, State.READY)).attempt == 1


async def test_a_job_that_nobody_waits_for_is_lost_also_where_it_never_began(tmp_path: Path) -> None:
    async with begin(tmp_path, LosesTrack(), SHORT) as life:
        deployment = await unclaimed(life, "site")
        await life.executor.job(deployment, 2)
        assert (deployment, 1) in life.executor.stopped


async def test_a_wait_that_never_returns_holds_a_build_that_never_begins_for_a_limited_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalemesh.services.scheduler.MOST_START", timedelta(0))
    async with begin(tmp_path, EndsWhenTold(), SHORT) as life:
        await life.executor.job(await unclaimed(life, "site"), 2)


async def test_a_lease_that_runs_out_is_looked_after_while_another_executor_is_down(tmp_path: Path) -> None:
    down = IsDown()
    down.is_up = True
    executors = {"local": EndsWhenTold(), "docker": down}
    async with begin(tmp_path, executors, SHORT) as life:
        unheard = await claimed(life, "one", "docker")
        lost = await claimed(life, "two")
        down.is_up = False
        await life.executor.job(lost, 2)
        assert (await life.services.deployer.get(unheard)).state is State.BUILDING


async def test_a_job_that_cannot_be_stopped_keeps_neither_its_own_build_nor_another_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalemesh.services.scheduler.STOP_S", 0.05)
    executor = NeverStopsTheFirst()
    async with begin(tmp_path, executor, SHORT) as life:
        for deployment in (await claimed(life, "one"), await claimed(life, "two")):
            await executor.job(deployment, 2)
        assert executor.first is not None
        assert (executor.first, 1) not in executor.stopped
