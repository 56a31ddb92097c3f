"""Executors that do not answer when builds are to start there."""

import asyncio
from pathlib import Path

import pytest

from scalemesh.config import Builds
from scalemesh.errors import GoneError, UnreachableError
from scalemesh.services.builds import Attempt
from scalemesh.services.scheduler import Scheduler
from scalemesh.values import BuildJob, DeploymentId, EndCause, JobRef, State
from tests.contracts.executors import EndsWhenTold, IsDown, StartsUnheard, StartsWhenTold
from tests.contracts.life import Life, begin

ROOMY = Builds(total_memory_mib=65536, parallel=4)


@pytest.fixture(autouse=True)
def asks_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalemesh.services.executors.ASK_AGAIN_S", 0.01)
    monkeypatch.setattr("scalemesh.services.executors.MOST_PAUSE_S", 0.01)
    monkeypatch.setattr("scalemesh.services.scheduler.BEHIND_S", 0.01)
    monkeypatch.setattr("scalemesh.services.scheduler.IDLE_S", 3600.0)  # it must know itself when it is time


class IsDownThenSlow(StartsWhenTold):
    """Does not answer the first, and lets all others wait until it is told."""

    tries = 0

    async def start(self, job: BuildJob) -> JobRef:
        self.tries += 1
        if self.tries == 1:
            raise UnreachableError("no route to the cluster")
        return await super().start(job)


class IsDownSlowly(IsDown):
    """Takes its time to answer or not, longer than a look at the queue."""

    async def start(self, job: BuildJob) -> JobRef:
        await asyncio.sleep(0.1)
        return await super().start(job)


async def submit(life: Life, name: str, kind: str) -> DeploymentId:
    url = f"https://git.example/a/{name}"
    project = await life.project(url)
    await life.services.projects.change(
        project.name, git_url=url, production_branch=None, settings=project.settings, executor=kind
    )
    return await life.submit(url=url)


async def finished(life: Life, deployment: DeploymentId, kind: str) -> int:
    """Build the deployment once it starts; the number of its attempt."""
    attempt = await life.executors[kind].attempt_of(deployment)
    await life.built(deployment, attempt=attempt)
    assert (await life.until(deployment, State.READY)).losses == 0
    return attempt


async def served_at(life: Life) -> int:
    row = await life.services.ledger.database.one("SELECT served_at FROM user")
    return int(row["served_at"]) if row else 0


async def asked(down: IsDown, times: int) -> None:
    async with asyncio.timeout(30):
        while down.asked < times:
            await asyncio.sleep(0.002)


async def went_away(life: Life, down: IsDown, kind: str) -> None:
    """Let it answer first, and so take builds."""
    down.is_up = True
    await finished(life, await submit(life, "first", kind), kind)
    down.is_up = False


async def test_an_executor_that_is_down_keeps_only_its_own_builds_waiting(tmp_path: Path) -> None:
    down = IsDown()
    async with begin(tmp_path, {"local": EndsWhenTold(), "docker": down}, ROOMY) as life:
        await went_away(life, down, "docker")
        waiting = await submit(life, "second", "docker")
        await finished(life, await submit(life, "other", "local"), "local")
        await asked(down, 30)
        down.is_up = True
        await finished(life, waiting, "docker")


async def test_a_pause_that_ends_during_a_look_at_the_queue_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def takes_longer_than_a_pause(_: Scheduler) -> None:
        await asyncio.sleep(0.05)

    monkeypatch.setattr(Scheduler, "_tell_of_disk", takes_longer_than_a_pause)
    down = IsDownSlowly()
    async with begin(tmp_path, down, ROOMY) as life:
        await went_away(life, down, "local")
        waiting = await submit(life, "second", "local")
        await asked(down, 4)
        down.is_up = True
        await finished(life, waiting, "local")


async def test_a_build_that_waits_for_an_executor_says_so_once_and_its_user_has_had_no_turn(tmp_path: Path) -> None:
    down = IsDown()
    async with begin(tmp_path, down, ROOMY) as life:
        await went_away(life, down, "local")
        waiting = await submit(life, "site", "local")
        await asked(down, 3)
        before = await served_at(life)
        await asked(down, 6)
        assert await served_at(life) == before
        assert sum("no route to the cluster" in line for line in await life.log(waiting)) == 1
        down.is_up = True
        await finished(life, waiting, "local")
        assert await served_at(life) > before


async def test_an_executor_that_was_down_is_tried_by_one_build_before_the_others_start(tmp_path: Path) -> None:
    slow = IsDownThenSlow()
    async with begin(tmp_path, {"local": EndsWhenTold(), "docker": slow}, ROOMY) as life:
        builds = [await submit(life, "first", "docker")]
        await slow.asked.wait()
        builds += [await submit(life, name, "docker") for name in ("second", "third")]
        await finished(life, await submit(life, "other", "local"), "local")  # so the queue was looked at
        assert slow.tries == 2
        slow.told.set()
        for build in builds:
            await finished(life, build, "docker")


async def test_a_start_whose_answer_was_lost_is_no_loss(tmp_path: Path) -> None:
    executor = StartsUnheard()
    async with begin(tmp_path, executor, ROOMY) as life:
        deployment = await submit(life, "site", "local")
        await executor.job(deployment, 2)
        with pytest.raises(GoneError):
            await life.services.builds.claim(Attempt(deployment, 1, "nonce"), "nonce")
        await executor.end(deployment, 1, EndCause.FAILED)
        await executor.lose(deployment, 2)
        await life.built(deployment, attempt=3)
        assert (await life.until(deployment, State.READY)).losses == 1
