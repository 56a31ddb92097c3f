"""A release is a pointer: what goes live by itself, and what people move."""

from pathlib import Path

import pytest

from scalemesh.config import Builds, Hosts
from scalemesh.errors import ConflictError, InvalidError
from scalemesh.services.builds import Attempt, Facts
from scalemesh.services.deployer import Wanted
from scalemesh.values import Environment, State
from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import Life, begin

COMMIT = "a" * 40


async def test_the_first_deployment_is_production_and_other_branches_are_previews(life: Life) -> None:
    first = await life.submit(Wanted(branch="main"))
    await life.executor.job(first)
    await life.services.builds.claim(Attempt(first, 1, "nonce"), "nonce")
    await life.services.builds.heartbeat(
        Attempt(first, 1, "nonce"), Facts(commit=COMMIT, branch="main", default_branch="main")
    )
    await life.built(first)
    await life.until(first, State.READY)
    second = await life.services.deployer.get(await life.submit(Wanted(branch="feature/x")))
    third = await life.services.deployer.get(await life.submit(Wanted(branch="main")))
    assert (await life.services.deployer.get(first)).environment is Environment.PRODUCTION
    assert (second.environment, third.environment) == (Environment.PREVIEW, Environment.PRODUCTION)
    assert (await life.project("https://git.example/a/site")).production_branch == "main"


async def test_promote_and_rollback_move_a_pointer(life: Life) -> None:
    first, second = await life.ready(b"1"), await life.ready(b"2")
    assert life.live() == second
    project = await life.project("https://git.example/a/site")
    assert await life.services.releases.rollback(project) == first
    assert life.live() == first
    third = await life.ready(b"3")
    assert life.live() == first, "a rollback pins"
    await life.services.releases.promote(await life.services.deployer.get(third))
    assert life.live() == third
    fourth = await life.ready(b"4")
    assert life.live() == fourth, "a promotion unpins"


async def test_an_older_deployment_that_ends_later_does_not_go_live(tmp_path: Path) -> None:
    builds = Builds(total_memory_mib=65536, parallel=4, parallel_per_project=4)
    async with begin(tmp_path, EndsWhenTold(), builds) as life:
        old = await life.submit()
        await life.executor.job(old)
        new = await life.submit()
        await life.built(new, b"new")
        await life.until(new, State.READY)
        await life.built(old, b"old")
        await life.until(old, State.READY)
        assert life.live() == new


async def test_a_branch_host_shows_the_newest_of_its_branch(life: Life) -> None:
    await life.ready(b"0")
    preview = await life.ready(b"1", Wanted(branch="next", production=False))
    assert life.live("site-git-next.localhost") == preview
    assert life.live() != preview


async def test_nothing_that_is_shown_can_be_deleted(life: Life) -> None:
    first, second = await life.ready(b"1"), await life.ready(b"2")
    with pytest.raises(ConflictError):
        await life.services.deployer.delete(second)
    await life.services.deployer.delete(first)
    assert life.services.routes.find(f"site-{first[-6:]}.localhost") is None


async def test_deleting_a_project_ends_everything_of_it(life: Life) -> None:
    await life.ready(b"1")
    running = await life.submit()
    await life.executor.job(running)
    await life.services.deployer.delete_project(await life.project("https://git.example/a/site"))
    assert life.services.routes.find("site.localhost") is None
    assert life.executor.jobs == {}


async def test_without_a_name_the_production_branch_is_meant(life: Life) -> None:
    project = await life.services.projects.create(
        life.user, git_url="https://git.example/a/site", production_branch="release"
    )
    deployment = await life.services.deployer.submit(life.user, project, Wanted())
    assert (deployment.branch, deployment.environment) == ("release", Environment.PRODUCTION)
    assert life.services.routes.find("site-git-release.localhost") is not None


async def test_a_production_branch_is_a_branch(life: Life) -> None:
    with pytest.raises(InvalidError):
        await life.services.projects.create(life.user, name="odd", production_branch="-x y\n")


async def test_no_project_takes_the_control_hosts_name(tmp_path: Path) -> None:
    hosts = Hosts(base="example.com", control="mesh.example.com")
    async with begin(tmp_path, EndsWhenTold(), hosts=hosts) as life:
        with pytest.raises(InvalidError, match="mesh"):
            await life.services.projects.create(life.user, name="mesh")
        made = await life.services.projects.create(life.user, git_url="https://git.example/a/mesh")
        assert made.name == "mesh-2"


async def test_a_taken_name_is_told_in_plain_words(life: Life) -> None:
    await life.services.projects.create(life.user, name="garden")
    with pytest.raises(ConflictError) as caught:
        await life.services.projects.create(life.user, name="garden")
    assert caught.value.what == "a project 'garden' exists already"
    assert "UNIQUE" not in str(caught.value)
