"""Several executors at once: who builds where, and that none keeps another's builds waiting."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from scalemesh.config import Builds, ExecutorLimits
from scalemesh.errors import InvalidError, RefusedError
from scalemesh.services.builds import Attempt
from scalemesh.services.deployer import Wanted
from scalemesh.services.scheduler import QUEUE_LOOK
from scalemesh.values import BuildJob, Deployment, DeploymentId, Network, Reason, SourceKind, State
from tests.contracts.executors import Breaks, EndsWhenTold, IsDown, NeverAnswers, RunsElsewhere, StartsThenIsDown
from tests.contracts.life import Life, begin

GIT = "https://git.example/a"
ROOMY = Builds(total_memory_mib=65536, parallel=2)
SMALL = Builds(total_memory_mib=2048 + 512 + 1024, memory_mib=2048, parallel=8)  #: memory for one build


async def submit(life: Life, kind: str | None, name: str = "site", wanted: Wanted | None = None) -> DeploymentId:
    """Queue a deployment of a project that has chosen *kind*."""
    project = await life.project(f"{GIT}/{name}")
    if project.executor != kind:
        await choose(life, kind, name)
    return await life.submit(wanted, url=f"{GIT}/{name}")


async def choose(life: Life, kind: str | None, name: str = "site") -> None:
    project = await life.project(f"{GIT}/{name}")
    await life.services.projects.change(
        project.name, git_url=project.git_url, production_branch=None, settings=project.settings, executor=kind
    )


async def busy(life: Life, kind: str, name: str = "busy") -> DeploymentId:
    """A build that runs on *kind*."""
    deployment = await submit(life, kind, name)
    await life.executors[kind].job(deployment)
    return deployment


def two(other: EndsWhenTold | None = None) -> dict[str, EndsWhenTold]:
    return {"local": EndsWhenTold(), "docker": other or EndsWhenTold()}


async def test_a_build_runs_where_its_project_chose_else_on_the_first(tmp_path: Path) -> None:
    executors = two()
    async with begin(tmp_path, executors, ROOMY) as life:
        here, there = await submit(life, None, "one"), await submit(life, "docker", "two")
        await executors["local"].job(here)
        await executors["docker"].job(there)
        for deployment, kind in ((here, "local"), (there, "docker")):
            await life.built(deployment)
            assert (await life.until(deployment, State.READY)).executor == kind
        assert [len(executor.stopped) for executor in executors.values()] == [1, 1]


async def test_a_choice_holds_for_deployments_from_then_on(tmp_path: Path) -> None:
    executors = two()
    async with begin(tmp_path, executors, Builds(total_memory_mib=8192, parallel=1)) as life:
        running = await busy(life, "local")
        waiting = await submit(life, None)
        await choose(life, "docker")
        await life.built(running)
        await executors["local"].job(waiting)
        await life.services.deployer.cancel(waiting)
        project, old = await life.project(f"{GIT}/site"), await life.services.deployer.get(waiting)
        again = await life.services.deployer.redeploy(life.user, old, project)
        await executors["docker"].job(again.id)


async def test_what_needs_no_build_has_no_executor(tmp_path: Path) -> None:
    async with begin(tmp_path, two()) as life:
        wanted = Wanted(source=SourceKind.PREBUILT)
        deployment = await life.services.deployer.submit(life.user, await life.project(), wanted)
        assert deployment.executor is None


async def test_an_executor_that_is_not_there_cannot_be_chosen(tmp_path: Path) -> None:
    async with begin(tmp_path, two()) as life:
        with pytest.raises(InvalidError) as caught:
            await choose(life, "dokcer")
        assert "dokcer" in caught.value.what
        assert "local, docker" in caught.value.fix


async def test_a_full_executor_keeps_no_others_builds_waiting_however_many_wait_for_it(tmp_path: Path) -> None:
    executors, builds = two(), Builds(total_memory_mib=65536, parallel=1, parallel_per_project=4)
    async with begin(tmp_path, executors, builds) as life:
        await busy(life, "docker")
        for number in range(QUEUE_LOOK + 1):
            await submit(life, "docker", "crowd", Wanted(branch=f"b{number}"))
        await executors["local"].job(await submit(life, "local", "alone"))
        assert len(executors["docker"].jobs) == 1


async def test_each_executor_has_its_own_number_of_builds_at_once(tmp_path: Path) -> None:
    executors = two()
    limits = {"docker": ExecutorLimits(parallel=3)}
    async with begin(tmp_path, executors, Builds(total_memory_mib=65536, parallel=1, per_executor=limits)) as life:
        for kind in executors:
            for number in range(4):
                await submit(life, kind, f"{kind}{number}")
        async with asyncio.timeout(30):
            while [len(executor.jobs) for executor in executors.values()] != [1, 3]:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert [len(executor.jobs) for executor in executors.values()] == [1, 3]


async def test_executors_of_this_machine_share_its_memory_and_others_do_not_count(tmp_path: Path) -> None:
    executors = {"local": EndsWhenTold(), "docker": EndsWhenTold(), "kubernetes": RunsElsewhere()}
    async with begin(tmp_path, executors, SMALL) as life:
        first = await busy(life, "local")
        waiting = await submit(life, "docker")
        await executors["kubernetes"].job(await submit(life, "kubernetes", "elsewhere"))
        assert executors["docker"].jobs == {}
        await life.built(first)
        await executors["docker"].job(waiting)


async def test_memory_of_its_own_is_counted_apart(tmp_path: Path) -> None:
    executors = {"local": EndsWhenTold(), "docker": EndsWhenTold(), "kubernetes": RunsElsewhere()}
    own = ExecutorLimits(total_memory_mib=2048)
    builds = Builds(
        total_memory_mib=2048 + 512 + 1024, memory_mib=2048, parallel=8, per_executor={"docker": own, "kubernetes": own}
    )
    async with begin(tmp_path, executors, builds) as life:
        waiting = {}
        for kind, executor in executors.items():
            await executor.job(await submit(life, kind, f"{kind}-one"))
            waiting[kind] = await submit(life, kind, f"{kind}-two")
        for kind, executor in executors.items():
            assert len(executor.jobs) == 1
            await life.built(next(iter(executor.jobs))[0])
            await executor.job(waiting[kind])


async def test_a_build_that_could_never_fit_says_which_memory_is_short(tmp_path: Path) -> None:
    limits = {"docker": ExecutorLimits(total_memory_mib=1024)}
    async with begin(tmp_path, two(), Builds(total_memory_mib=8192, per_executor=limits)) as life:
        await submit(life, "local", "fits")
        with pytest.raises(RefusedError, match=r"builds\.per_executor\.docker\.total_memory_mib"):
            await submit(life, "docker")
        await life.services.deployer.submit(
            life.user, await life.project(f"{GIT}/site"), Wanted(source=SourceKind.PREBUILT)
        )


async def test_a_build_that_waited_long_for_memory_holds_up_only_those_that_share_it(tmp_path: Path) -> None:
    executors = {"local": EndsWhenTold(), "kubernetes": RunsElsewhere()}
    async with begin(tmp_path, executors, SMALL) as life:
        await busy(life, "local")
        waiting = await submit(life, "local", "patient")
        async with life.services.ledger.database.transaction() as tx:
            await tx.run("UPDATE deployment SET passed_over_at = 1 WHERE id = :id", {"id": waiting})
        await executors["kubernetes"].job(await submit(life, "kubernetes", "elsewhere"))
        assert (await life.services.deployer.get(waiting)).state is State.QUEUED


async def test_what_runs_on_one_is_adopted_while_another_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalemesh.services.executors.ASK_AGAIN_S", 0.01)
    monkeypatch.setattr("scalemesh.services.executors.MOST_PAUSE_S", 0.01)
    down = IsDown()
    down.is_up = True
    executors = two(down)
    async with begin(tmp_path, executors, ROOMY) as life:
        here, there = await busy(life, "local", "one"), await busy(life, "docker", "two")
        job = await executors["docker"].job(there)
        for deployment in (here, there):
            await life.services.builds.claim(Attempt(deployment, 1), "nonce")
    stranger = (DeploymentId("dpl_stranger000000000000"), 1)
    leave_behind(executors, stranger, job)
    down.is_up = False
    async with begin(tmp_path, executors, ROOMY) as life:
        await life.built(here)
        await life.until(here, State.READY)
        await life.built(await submit(life, "local", "three"))
        waiting = await submit(life, "docker", "four")
        async with asyncio.timeout(5):
            while not any("no route to the cluster" in line for line in await life.log(waiting)):
                await asyncio.sleep(0.002)
        assert stranger in executors["local"].stopped
        assert (await life.services.deployer.get(waiting)).state is State.QUEUED
        assert (waiting, 1) not in down.jobs
        down.is_up = True
        await life.built(there)
        assert (await life.until(there, State.READY)).attempt == 1
        await down.job(waiting)
        assert stranger in down.stopped


@pytest.mark.parametrize("other", [NeverAnswers, Breaks])
async def test_an_executor_that_misbehaves_at_the_start_keeps_only_its_own_builds_waiting(
    tmp_path: Path, other: type[EndsWhenTold]
) -> None:
    executors = two(other())
    async with begin(tmp_path, executors, ROOMY) as life:
        waiting = await submit(life, "docker", "one")
        await life.built(here := await submit(life, "local", "two"))
        await life.until(here, State.READY)
        assert (await life.services.deployer.get(waiting)).state is State.QUEUED


def leave_behind(executors: Mapping[str, EndsWhenTold], key: tuple[DeploymentId, int], job: BuildJob) -> None:
    for executor in executors.values():
        executor.jobs[key] = job


async def test_a_build_is_canceled_also_where_its_executor_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalemesh.services.executors.ASK_AGAIN_S", 0.01)
    down = IsDown()
    down.is_up = True
    async with begin(tmp_path, two(down), ROOMY) as life:
        running = await busy(life, "docker")
        down.is_up = False
        assert (await life.services.deployer.cancel(running)).state is State.CANCELED
        assert await life.last_words(running) == "Canceled by hand"
        await down.end(running)  # its builder was told so
        down.is_up = True
        async with asyncio.timeout(30):
            while down.jobs:
                await asyncio.sleep(0.002)


async def test_a_build_that_is_canceled_while_it_starts_is_cleared_away_once_its_executor_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalemesh.services.executors.ASK_AGAIN_S", 0.01)
    slow = StartsThenIsDown()
    async with begin(tmp_path, two(slow), ROOMY) as life:
        starting = await submit(life, "docker")
        await slow.asked.wait()
        await life.services.deployer.cancel(starting)
        slow.told.set()
        await slow.job(starting)
        slow.is_down = False
        async with asyncio.timeout(30):
            while slow.jobs:
                await asyncio.sleep(0.002)


async def test_what_waited_for_an_executor_that_is_gone_has_failed_and_says_so(tmp_path: Path) -> None:
    executors = two()
    async with begin(tmp_path, executors, Builds(total_memory_mib=8192, parallel=1)) as life:
        await busy(life, "docker")
        waiting = await submit(life, "docker")
    async with begin(tmp_path, executors["local"]) as life:
        found = await life.until(waiting, State.FAILED)
        assert found.reason is Reason.REJECTED
        assert 'No builds run on "docker" here' in found.message
        assert "executor.kind lists local" in found.message
        assert (await life.last_words(waiting)).startswith("Failed (rejected)")


async def gone(folder: Path, kind: str | None) -> Deployment:
    """What becomes of a build on "docker" that its project has chosen by *kind*, once there is "local" alone."""
    docker, local = EndsWhenTold(), EndsWhenTold()
    async with begin(folder, {"docker": docker, "local": local}) as life:
        await docker.job(deployment := await submit(life, kind))
    async with begin(folder, local) as life, asyncio.timeout(30):
        while (found := await life.services.deployer.get(deployment)).state is not State.FAILED:
            if found.attempt == 2:
                await life.built(deployment, attempt=2)
                return await life.until(deployment, State.READY)
            await asyncio.sleep(0.002)
        return found


async def test_a_build_whose_executor_is_gone_is_lost_and_tried_where_its_project_builds_now(tmp_path: Path) -> None:
    found = await gone(tmp_path, None)
    assert (found.state, found.executor, found.attempt) == (State.READY, "local", 2)


async def test_a_build_is_not_tried_again_where_its_project_insists_on_an_executor_that_is_gone(tmp_path: Path) -> None:
    found = await gone(tmp_path, "docker")
    assert (found.reason, found.executor) == (Reason.REJECTED, "docker")


async def test_a_project_whose_executor_is_gone_is_told_so_and_can_still_be_changed(tmp_path: Path) -> None:
    async with begin(tmp_path, two()) as life:
        await choose(life, "docker")
    async with begin(tmp_path, EndsWhenTold()) as life:
        with pytest.raises(RefusedError) as caught:
            await submit(life, "docker")
        assert 'no builds run on "docker" here' in caught.value.what
        assert "--executor local" in caught.value.fix
        await choose(life, "docker")  # something else of it was changed
        await life.executor.job(await submit(life, None))


async def test_a_deployment_from_before_there_was_a_choice_builds_on_the_first(tmp_path: Path) -> None:
    async with begin(tmp_path, two(), Builds(total_memory_mib=8192, parallel=1)) as life:
        running = await busy(life, "local")
        waiting = await submit(life, None)
        async with life.services.ledger.database.transaction() as tx:
            await tx.run("UPDATE deployment SET executor = NULL WHERE id = :id", {"id": waiting})
        await life.built(running)
        await life.executor.job(waiting)


async def test_a_job_is_told_the_network_of_builds(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), Builds(total_memory_mib=8192, network=Network.PACKAGES)) as life:
        assert (await life.executor.job(await life.submit())).network is Network.PACKAGES
