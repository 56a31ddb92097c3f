"""What a daemon that was killed leaves in the engine: a start finishes it, a sweep removes it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import docker as client_package
import pytest

from plugins.executors.docker import DockerExecutor, images
from plugins.executors.docker import executor as docker_executor
from plugins.executors.docker.recipe import Recipe
from scalemesh.errors import ScaleMeshError
from scalemesh.values import BuildJob, EndCause, JobRef, Network
from tests.contracts.executor.places.docker import DockerPlace
from tests.rigs.docker import docker

pytestmark = pytest.mark.timeout(300)

Cut = Callable[[DockerPlace, BuildJob, str], None]


def after_the_holder(place: DockerPlace, job: BuildJob, name: str) -> None:
    client = client_package.from_env()
    declared = ["/work", "/tmp"]  # by the true image: each container gets volumes without a name for them
    client.containers.create(name=f"{name}-net", volumes=declared, **Recipe(place.config, 0).holder(job)).start()
    client.close()


def after_the_volume(place: DockerPlace, job: BuildJob, name: str) -> None:
    after_the_holder(place, job, name)
    docker("volume", "create", "--label", f"scalemesh.owner={place.owner}", name)


def before_the_start(place: DockerPlace, job: BuildJob, name: str) -> None:
    after_the_volume(place, job, name)
    client = client_package.from_env()
    recipe = Recipe(place.config, 0).job(job, holder=f"{name}-net", volume=name, words=[])
    client.containers.create(name=name, **recipe)
    client.close()


def swept(place: DockerPlace, older_s: float) -> None:
    client = client_package.from_env()
    images.sweep_orphans(client, place.owner, older_s)
    client.close()


@pytest.mark.parametrize("cut", [after_the_holder, after_the_volume, before_the_start])
async def test_a_start_that_was_cut_off_is_done_anew(executor: DockerExecutor, place: DockerPlace, cut: Cut) -> None:
    job = place.job("sys.exit(4)")
    await asyncio.to_thread(cut, place, job, f"scalemesh-{place.owner}-dpl-one-1")
    ref = await executor.start(job)
    assert (await executor.wait(ref)).exit_code == 4
    await executor.stop(ref)
    assert await place.leftovers() == []


async def test_what_belongs_to_no_job_is_swept_once_it_is_old(executor: DockerExecutor, place: DockerPlace) -> None:
    kept = await executor.start(place.job("time.sleep(1000)", deployment="dpl_kept"))
    job = place.job("sys.exit(0)")
    name = f"scalemesh-{place.owner}-dpl-one-1"
    await asyncio.to_thread(after_the_volume, place, job, name)
    unnamed = docker("inspect", f"{name}-net", "--format", "{{range .Mounts}}{{.Name}} {{end}}").split()
    assert len(unnamed) == 2

    await asyncio.to_thread(swept, place, 3600)
    assert len(await place.leftovers()) == 5, "what is young may be a job that is being started"
    await asyncio.to_thread(swept, place, -60)
    left = await place.leftovers()
    assert sorted(left) == sorted([kept.where, kept.where, f"{kept.where}-net"])
    assert await place.processes(kept)
    assert not set(unnamed) & set(docker("volume", "ls", "--quiet").split())


async def test_a_container_that_was_never_started_is_no_running_job_and_is_swept(
    executor: DockerExecutor, place: DockerPlace
) -> None:
    """A daemon that finds it starts its build anew, which costs no attempt."""
    job = place.job("sys.exit(0)")
    await asyncio.to_thread(before_the_start, place, job, f"scalemesh-{place.owner}-dpl-one-1")
    assert list(await executor.running()) == []
    ref = JobRef(deployment=job.deployment, attempt=1, where="")
    assert (await asyncio.wait_for(executor.wait(ref), 60)).cause is EndCause.LOST
    await asyncio.to_thread(swept, place, -60)
    assert await place.leftovers() == []


async def test_what_a_check_that_was_killed_left_is_swept(executor: DockerExecutor, place: DockerPlace) -> None:
    job = replace(place.job("sys.exit(0)", deployment="proof-0a0a0a0a"), network=Network.FULL)
    await executor.wait(await executor.start(job))
    assert list(await executor.running()) == []
    assert len(await place.leftovers()) == 3
    await asyncio.to_thread(swept, place, 3600)
    assert len(await place.leftovers()) == 3
    await asyncio.to_thread(swept, place, -60)
    assert await place.leftovers() == []


async def test_images_of_former_releases_are_removed_but_for_the_newest(place: DockerPlace) -> None:
    repository = f"scalemesh-sweep-{place.owner}"
    for number in range(3):
        container = docker("create", place.config.image)
        label = f"LABEL scalemesh.builder=00000000000{number}"
        docker("commit", "--change", label, container, f"{repository}:{number}")
        docker("rm", container)
    docker("tag", place.config.image, f"{repository}:now")
    config = replace(place.config, image=f"{repository}:now", keep_images=1)

    def swept() -> None:
        client = client_package.from_env()
        images.sweep_images(client, config)
        client.close()

    try:
        await asyncio.to_thread(swept)
        assert sorted(docker("images", "--format", "{{.Tag}}", repository).split()) == ["2", "now"]
    finally:
        left = docker("images", "--format", "{{.Repository}}:{{.Tag}}", repository).split()
        docker("image", "rm", *left)


async def test_two_daemons_on_one_engine_see_their_own_jobs_alone(executor: DockerExecutor, place: DockerPlace) -> None:
    ref = await executor.start(place.job("time.sleep(1000)"))
    place.config = replace(place.config, owner="0" * 12)
    async with place.open() as stranger:
        assert list(await stranger.running()) == []
        await stranger.stop(ref)
        assert (await stranger.wait(ref)).cause is EndCause.LOST
    assert await place.processes(ref)


async def test_a_start_that_fails_leaves_nothing(place: DockerPlace) -> None:
    """The last step fails: a network that the engine does not know."""
    place.config = replace(place.config, bridge="no-such-network")
    async with place.open() as executor:
        with pytest.raises(ScaleMeshError):
            await executor.start(replace(place.job("sys.exit(0)"), network=Network.FULL))
    assert await place.leftovers() == []


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check runs its job to the end and clears it away, however slow the engine is."""
    monkeypatch.setattr(docker_executor, "CHECK_S", 60.0)
    monkeypatch.setattr(docker_executor, "FORGET_S", 30.0)


@pytest.mark.usefixtures("patience")
async def test_check_proves_all_but_the_way_to_a_daemon_that_does_not_run(
    executor: DockerExecutor, place: DockerPlace
) -> None:
    findings = await executor.check()
    assert [finding.what for finding in findings if not finding.ok] == []
    assert any("docker engine" in finding.what for finding in findings)
    assert any("proven only while it runs" in finding.what for finding in findings)
    assert await place.leftovers() == []


@pytest.mark.usefixtures("patience")
async def test_check_says_when_the_daemon_is_not_reached_from_inside(place: DockerPlace) -> None:
    place.config = replace(place.config, reach="url", url="http://172.17.0.1:9")
    async with place.open() as executor:
        bad = [finding for finding in await executor.check() if not finding.ok]
    assert len(bad) == 1
    assert "http://172.17.0.1:9 cannot be reached" in bad[0].what
    assert "builds.public_url" in bad[0].fix
