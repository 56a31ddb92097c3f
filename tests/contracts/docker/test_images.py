"""The image of jobs: pulled from a registry that asks for a password, waited for with patience, swept with care."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Literal

import docker as client_package
import pytest

from builder.packing import fingerprint
from plugins.executors.docker import DockerConfig, DockerExecutor, images
from plugins.executors.docker.engine import Engine
from scalemesh.errors import RefusedError, UnreachableError
from scalemesh.values import DeploymentId, JobRef, Secret
from tests.contracts.executor.places.docker import DockerPlace
from tests.contracts.executor.processes import eventually
from tests.rigs import registry
from tests.rigs.docker import docker

pytestmark = pytest.mark.timeout(300)
PASSWORD = "a password of a test"
OTHER = "hunter2 of a test"


@pytest.fixture
async def shop(place: DockerPlace) -> AsyncIterator[registry.Registry]:
    """A registry with an image of our label; the place's jobs want that image."""
    async with registry.serving({images.LABEL: fingerprint()}, "builds", PASSWORD) as opened:
        place.config = replace(
            place.config,
            image=opened.image,
            pull="missing",
            registry_user="builds",
            registry_password=Secret(PASSWORD),
        )
        yield opened
        for tag in tags(opened.address):
            docker("image", "rm", tag)


def tags(repository: str) -> list[str]:
    listed = docker("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={repository}/*")
    return listed.split()


async def test_an_image_is_pulled_with_the_registrys_password(place: DockerPlace, shop: registry.Registry) -> None:
    """There is nothing in it to run, so the engine refuses the job: after the pull."""
    async with place.open() as executor:
        with pytest.raises((RefusedError, UnreachableError), match="the docker engine"):
            await executor.start(place.job("sys.exit(0)"))
    assert tags(shop.address) == [shop.image]
    assert await place.leftovers() == []


async def test_an_image_that_is_there_is_not_pulled_again_unless_that_is_set(
    place: DockerPlace, shop: registry.Registry
) -> None:
    async def start_once(config: DockerConfig) -> None:
        place.config = config
        async with place.open() as executor:
            with pytest.raises((RefusedError, UnreachableError)):
                await executor.start(place.job("sys.exit(0)"))

    wanted = place.config
    await start_once(wanted)
    pulled = shop.pulls
    assert pulled
    await start_once(wanted)
    assert shop.pulls == pulled
    await start_once(replace(wanted, pull="always"))
    assert shop.pulls > pulled
    docker("image", "rm", shop.image)
    pulled = shop.pulls
    await start_once(replace(wanted, pull="never"))
    assert shop.pulls == pulled


async def test_a_wrong_password_is_told(place: DockerPlace, shop: registry.Registry) -> None:
    place.config = replace(place.config, registry_password=Secret(OTHER))
    async with place.open() as executor:
        with pytest.raises(RefusedError, match="there is no image") as told:
            await executor.start(place.job("sys.exit(0)"))
    assert "cannot be pulled" in told.value.why
    assert OTHER not in repr(place.config)
    assert PASSWORD not in str(told.value)


@pytest.mark.parametrize(("part", "status"), [("manifests", 429), ("manifests", 503), ("config", 503)])
@pytest.mark.parametrize("pull", ["missing", "always"])
async def test_a_registry_that_cannot_now_is_asked_again_later(
    place: DockerPlace, shop: registry.Registry, part: str, status: int, pull: Literal["missing", "always"]
) -> None:
    """The config is fetched when the engine has begun to tell: its answer has a good status by then."""
    place.config = replace(place.config, pull=pull)
    shop.broken = {part: status}
    async with place.open() as executor:
        with pytest.raises(UnreachableError, match="cannot be pulled now") as told:
            await executor.start(place.job("sys.exit(0)"))
        assert told.value.why
        shop.broken = {"manifests": 404}
        with pytest.raises(RefusedError, match="there is no image"):
            await executor.start(place.job("sys.exit(0)"))


async def test_a_pull_of_which_nothing_is_heard_is_given_up(place: DockerPlace, shop: registry.Registry) -> None:
    shop.flowing.clear()
    engine = Engine(place.config)
    with pytest.raises(UnreachableError, match="cannot be pulled now"):
        await engine.call_apart(lambda client: images.pull(client, place.config, silent_s=0.5))
    assert tags(shop.address) == []
    await engine.close()


async def test_a_job_whose_image_is_long_in_coming_is_tried_later(place: DockerPlace, shop: registry.Registry) -> None:
    """It is pulled once for all who want it, and neither a stop nor the end of the daemon waits for it."""
    shop.flowing.clear()
    async with DockerExecutor.open(place.config, patience_s=0.3) as executor:
        jobs = [place.job("sys.exit(0)", deployment=f"dpl_{number}") for number in range(10)]
        told = await asyncio.gather(*(executor.start(job) for job in jobs), return_exceptions=True)
        assert [str(each).splitlines()[0] for each in told] == [f"image {shop.image} is still being pulled"] * 10
        assert all(isinstance(each, UnreachableError) for each in told)
        await asyncio.wait_for(shop.asked_for_layer.wait(), 60)
        began = time.monotonic()
        await executor.stop(JobRef(deployment=DeploymentId("dpl_1"), attempt=1, where=""))
        assert await executor.running() == []
        assert time.monotonic() - began < 30
        closing = time.monotonic()
    assert time.monotonic() - closing < 30
    shop.flowing.set()

    async def is_there() -> bool:
        return tags(shop.address) == [shop.image]

    await eventually(is_there)


async def test_check_pulls_nothing_and_says_so(place: DockerPlace, shop: registry.Registry) -> None:
    async with place.open() as executor:
        findings = await executor.check()
    assert all(finding.ok for finding in findings)
    assert "is not there yet" in findings[-1].what
    assert findings[-1].fix.startswith(f"docker pull {shop.image}")
    assert shop.pulls == 0


async def test_images_that_never_held_a_builder_are_nobodys_to_sweep(place: DockerPlace) -> None:
    repository = f"scalemesh-sweep-{place.owner}"
    labels = {"mine": f"LABEL {images.LABEL}=", "former": f"LABEL {images.LABEL}=000000000000"}
    for tag, label in labels.items():
        container = docker("create", place.config.image)
        docker("commit", "--change", label, container, f"{repository}:{tag}")
        docker("rm", "--volumes", container)
    docker("tag", place.config.image, f"{repository}:now")

    def swept() -> None:
        client = client_package.from_env()
        images.sweep_images(client, replace(place.config, image=f"{repository}:now", keep_images=0))
        client.close()

    try:
        await asyncio.to_thread(swept)
        assert sorted(docker("images", "--format", "{{.Tag}}", repository).split()) == ["mine", "now"]
    finally:
        docker("image", "rm", f"{repository}:mine", f"{repository}:now")
