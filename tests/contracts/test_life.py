"""The life of a deployment: its states, its fences, its queue, and what a restart finds."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scalemesh.config import Builds
from scalemesh.errors import ConflictError, GoneError, RefusedError, TooManyError
from scalemesh.services.builds import Attempt, Facts, Failure, Success
from scalemesh.services.deployer import Wanted
from scalemesh.services.listings import OutputFile
from scalemesh.values import Blob, DeploymentId, Digest, EndCause, Environment, Reason, SourceKind, State
from tests.contracts.executors import AnswersLate, EndsWhenTold, Refuses
from tests.contracts.life import PAGE, Life, begin, once

COMMIT = "a" * 40


@pytest.fixture(autouse=True)
async def limit() -> AsyncIterator[None]:
    async with asyncio.timeout(20):
        yield


@pytest.fixture
async def life(tmp_path: Path) -> AsyncIterator[Life]:
    async with begin(tmp_path, EndsWhenTold()) as begun:
        yield begun


async def submit(life: Life, wanted: Wanted | None = None, url: str = "https://git.example/a/site") -> DeploymentId:
    project = await life.project(url)
    return (await life.services.deployer.submit(life.user, project, wanted or Wanted())).id


async def test_a_deployment_is_built_published_and_live(life: Life) -> None:
    deployment = await submit(life)
    assert await life.built(deployment) is State.PUBLISHING
    found = await life.until(deployment, State.READY)
    route = life.services.routes.find("site.localhost")
    assert route is not None
    assert (route.deployment, route.manifest) == (deployment, found.manifest)
    assert life.services.routes.find(f"site-{deployment[-6:]}.localhost") is not None


async def test_the_same_url_is_the_same_project(life: Life) -> None:
    assert (await life.project("https://git.example/a/site.git")).id == (
        await life.project("https://GIT.example/a/site/")
    ).id


async def test_hosts_show_the_state_before_anything_is_ready(life: Life) -> None:
    deployment = await submit(life)
    await life.executor.job(deployment)
    await life.until(deployment, State.BUILDING)
    route = life.services.routes.find("site.localhost")
    assert route is not None
    assert (route.deployment, route.waiting) == (None, State.BUILDING)


async def test_a_failed_build_says_why_and_the_log_is_closed(life: Life) -> None:
    deployment = await submit(life)
    await life.executor.job(deployment)
    mine = Attempt(deployment, 1)
    await life.services.builds.claim(mine, "n")
    await life.services.builds.finish(mine, Failure(reason=Reason.NO_OUTPUT, message="no folder dist"))
    await life.executor.end(deployment, cause=EndCause.FAILED)
    found = await life.until(deployment, State.FAILED)
    assert (found.reason, found.message) == (Reason.NO_OUTPUT, "no folder dist")
    assert (await life.whole_log(deployment))[-1] == "Failed (no_output): no folder dist"


@pytest.mark.parametrize("cause", [EndCause.OOM, EndCause.PIDS, EndCause.TIMEOUT, EndCause.DISK])
async def test_a_limit_that_the_executor_saw_is_the_reason(life: Life, cause: EndCause) -> None:
    deployment = await submit(life)
    await life.executor.job(deployment)
    await life.executor.end(deployment, cause=cause)
    found = await life.until(deployment, State.FAILED)
    assert found.reason in {
        Reason.OUT_OF_MEMORY, Reason.TOO_MANY_PROCESSES, Reason.TIMED_OUT, Reason.DISK_FULL
    }  # fmt: skip


async def test_a_lost_build_starts_once_more_and_only_once(life: Life) -> None:
    deployment = await submit(life)
    await life.executor.job(deployment)
    await life.executor.lose(deployment)
    await life.executor.job(deployment, 2)
    await life.executor.lose(deployment, 2)
    found = await life.until(deployment, State.FAILED)
    assert (found.reason, found.attempt) == (Reason.LOST, 2)


async def test_an_executor_that_says_no_fails_the_build_with_the_fix(tmp_path: Path) -> None:
    async with begin(tmp_path, Refuses()) as life:
        found = await life.until(await submit(life), State.FAILED)
        assert found.reason is Reason.INTERNAL
        assert "sysctl" in found.message


async def test_an_executor_that_does_not_answer_is_asked_again_without_counting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalemesh.services.scheduler.RETRY_START_S", 0)
    async with begin(tmp_path, AnswersLate()) as life:
        deployment = await submit(life)
        await life.built(deployment)
        assert (await life.until(deployment, State.READY)).attempt == 1


async def test_only_one_builder_holds_an_attempt(life: Life) -> None:
    deployment = await submit(life)
    await life.executor.job(deployment)
    mine = Attempt(deployment, 1)
    await life.services.builds.claim(mine, "one")
    await life.services.builds.claim(mine, "one")
    with pytest.raises(ConflictError):
        await life.services.builds.claim(mine, "two")


async def test_an_older_attempt_can_neither_write_nor_upload_nor_publish(life: Life) -> None:
    deployment = await submit(life)
    await life.executor.job(deployment)
    old = Attempt(deployment, 1)
    await life.services.builds.claim(old, "one")
    file = await life.upload(old, b"old")
    await life.executor.lose(deployment)
    await life.executor.job(deployment, 2)
    calls = life.services.builds
    for call in (
        calls.claim(old, "one"),
        calls.lines(old, 1, [[0, "out", "build", "old"]]),
        calls.heartbeat(old, None),
        calls.missing(old, []),
        life.upload(old, b"more"),
        calls.finish(old, Success(files=[file], framework="static", output_directory=".")),
        calls.finish(old, Failure(reason=Reason.INTERNAL, message="x")),
    ):
        with pytest.raises(GoneError):
            await call
    with pytest.raises(RefusedError):  # what the old attempt uploaded is not the new one's
        await calls.finish(Attempt(deployment, 2), Success(files=[file], framework="static", output_directory="."))


async def test_finish_may_be_repeated(life: Life) -> None:
    deployment = await submit(life)
    await life.executor.job(deployment)
    mine = Attempt(deployment, 1)
    await life.services.builds.claim(mine, "n")
    success = Success(files=[await life.upload(mine, PAGE)], framework="static", output_directory=".")
    assert await life.services.builds.finish(mine, success) is State.PUBLISHING
    await life.until(deployment, State.READY)
    assert await life.services.builds.finish(mine, success) is State.READY


async def test_another_projects_digest_is_neither_missing_less_nor_accepted(life: Life) -> None:
    first = await submit(life)
    await life.built(first, b"secret of another")
    await life.until(first, State.READY)
    listing = (await life.services.deployer.get(first)).listing
    assert listing is not None
    second = await submit(life, url="https://git.example/b/other")
    await life.executor.job(second)
    mine = Attempt(second, 1)
    await life.services.builds.claim(mine, "n")
    digest = Digest(hashlib.sha256(b"secret of another").hexdigest())
    file = OutputFile(path="x.html", sha256=digest, size_bytes=17)
    assert await life.services.builds.missing(mine, [Blob(sha256=digest, size_bytes=17)]) == [digest]
    with pytest.raises(RefusedError, match="does not have"):
        await life.services.builds.finish(mine, Success(files=[file], framework="x", output_directory="."))
    assert (await life.until(second, State.FAILED)).reason is Reason.REJECTED


async def test_a_projects_own_file_needs_no_second_upload(life: Life) -> None:
    first = await submit(life)
    await life.built(first)
    await life.until(first, State.READY)
    second = await submit(life)
    await life.executor.job(second)
    mine = Attempt(second, 1)
    await life.services.builds.claim(mine, "n")
    digest = Digest(hashlib.sha256(PAGE).hexdigest())
    assert await life.services.builds.missing(mine, [Blob(sha256=digest, size_bytes=len(PAGE))]) == []
    file = OutputFile(path="index.html", sha256=digest, size_bytes=len(PAGE))
    await life.services.builds.finish(mine, Success(files=[file], framework="static", output_directory="."))
    await life.until(second, State.READY)


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a//b", "", ".", "a/./b", "a\0b", "a\nb", "x" * 2000], ids=lambda path: path[:8] or "empty"
)
async def test_a_path_that_is_none_rejects_the_whole_result(life: Life, path: str) -> None:
    deployment = await submit(life)
    await life.executor.job(deployment)
    mine = Attempt(deployment, 1)
    await life.services.builds.claim(mine, "n")
    file = await life.upload(mine, PAGE)
    bad = OutputFile(path=path, sha256=file.sha256, size_bytes=file.size_bytes)
    with pytest.raises(RefusedError):
        await life.services.builds.finish(mine, Success(files=[bad], framework="x", output_directory="."))
    assert (await life.until(deployment, State.FAILED)).reason is Reason.REJECTED


async def test_cancel_ends_a_waiting_and_a_running_deployment(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), Builds(total_memory_mib=8192, parallel=1)) as life:
        running = await submit(life)
        await life.executor.job(running)
        waiting = await submit(life, url="https://git.example/b/other")
        for deployment in (waiting, running):
            assert (await life.services.deployer.cancel(deployment)).state is State.CANCELED
            assert (await life.services.deployer.cancel(deployment)).state is State.CANCELED
        assert life.executor.jobs == {}
        with pytest.raises(GoneError):
            await life.services.builds.heartbeat(Attempt(running, 1), None)


async def test_what_is_ready_cannot_be_canceled(life: Life) -> None:
    deployment = await submit(life)
    await life.built(deployment)
    await life.until(deployment, State.READY)
    with pytest.raises(ConflictError):
        await life.services.deployer.cancel(deployment)


async def test_no_more_build_at_once_than_the_limit(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), Builds(total_memory_mib=65536, parallel=2)) as life:
        all_of_them = [await submit(life, url=f"https://git.example/a/site{n}") for n in range(8)]
        seen = 0
        for _ in all_of_them:
            async with asyncio.timeout(5):
                while not life.executor.jobs:
                    await asyncio.sleep(0.001)
            seen = max(seen, len(life.executor.jobs))
            await life.built(next(iter(life.executor.jobs))[0])
            await asyncio.sleep(0.01)
            seen = max(seen, len(life.executor.jobs))
        for deployment in all_of_them:
            await life.until(deployment, State.READY)
        assert seen == 2


async def test_a_newer_push_takes_the_place_of_the_one_that_waits(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), Builds(total_memory_mib=8192, parallel=1)) as life:
        running = await submit(life, url="https://git.example/z/busy")
        await life.executor.job(running)
        old = await submit(life, url="https://git.example/a/first")
        between = await submit(life, url="https://git.example/b/second")
        new = await submit(life, url="https://git.example/a/first")
        assert (await life.services.deployer.get(old)).state is State.SUPERSEDED
        await life.built(running)
        await life.executor.job(new)
        assert (between, 1) not in life.executor.jobs


async def test_production_comes_before_previews(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), Builds(total_memory_mib=8192, parallel=1)) as life:
        running = await submit(life, url="https://git.example/z/busy")
        await life.executor.job(running)
        preview = await submit(life, Wanted(branch="x", production=False))
        production = await submit(life, Wanted(production=True))
        await life.built(running)
        await life.executor.job(production)
        assert (preview, 1) not in life.executor.jobs


async def test_a_build_that_could_never_fit_is_refused_at_once(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), Builds(total_memory_mib=1024, memory_mib=2048)) as life:
        with pytest.raises(RefusedError, match="could never start"):
            await submit(life)


async def test_memory_limits_how_many_build(tmp_path: Path) -> None:
    builds = Builds(total_memory_mib=2048 + 512 + 1024, memory_mib=2048, parallel=8)
    async with begin(tmp_path, EndsWhenTold(), builds) as life:
        first = await submit(life, url="https://git.example/a/one")
        await life.executor.job(first)
        second = await submit(life, url="https://git.example/a/two")
        await life.built(first)
        await life.executor.job(second)
        assert (await life.services.deployer.get(first)).started_at != (
            await life.services.deployer.get(second)
        ).started_at


async def test_a_full_queue_says_so(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), Builds(total_memory_mib=8192, parallel=1, queue_length=2)) as life:
        await life.executor.job(await submit(life, url="https://git.example/a/one"))
        for number in (2, 3):
            await submit(life, url=f"https://git.example/a/n{number}")
        with pytest.raises(TooManyError):
            await submit(life, url="https://git.example/a/four")


async def test_the_first_deployment_is_production_and_other_branches_are_previews(life: Life) -> None:
    first = await submit(life, Wanted(branch="main"))
    await life.executor.job(first)
    await life.services.builds.heartbeat(Attempt(first, 1), Facts(commit=COMMIT, branch="main", default_branch="main"))
    await life.built(first)
    await life.until(first, State.READY)
    second = await life.services.deployer.get(await submit(life, Wanted(branch="feature/x")))
    third = await life.services.deployer.get(await submit(life, Wanted(branch="main")))
    assert (await life.services.deployer.get(first)).environment is Environment.PRODUCTION
    assert (second.environment, third.environment) == (Environment.PREVIEW, Environment.PRODUCTION)
    assert (await life.project("https://git.example/a/site")).production_branch == "main"


async def ready(life: Life, data: bytes, wanted: Wanted | None = None) -> DeploymentId:
    deployment = await submit(life, wanted)
    await life.built(deployment, data)
    await life.until(deployment, State.READY)
    return deployment


def live(life: Life, host: str = "site.localhost") -> DeploymentId | None:
    route = life.services.routes.find(host)
    return route.deployment if route else None


async def test_promote_and_rollback_move_a_pointer(life: Life) -> None:
    first, second = await ready(life, b"1"), await ready(life, b"2")
    assert live(life) == second
    project = await life.project("https://git.example/a/site")
    assert await life.services.releases.rollback(project) == first
    assert live(life) == first
    third = await ready(life, b"3")
    assert live(life) == first, "a rollback pins"
    await life.services.releases.promote(await life.services.deployer.get(third))
    assert live(life) == third
    fourth = await ready(life, b"4")
    assert live(life) == fourth, "a promotion unpins"


async def test_an_older_deployment_that_ends_later_does_not_go_live(tmp_path: Path) -> None:
    builds = Builds(total_memory_mib=65536, parallel=4, parallel_per_project=4)
    async with begin(tmp_path, EndsWhenTold(), builds) as life:
        old = await submit(life)
        await life.executor.job(old)
        new = await submit(life)
        await life.built(new, b"new")
        await life.until(new, State.READY)
        await life.built(old, b"old")
        await life.until(old, State.READY)
        assert live(life) == new


async def test_a_branch_host_shows_the_newest_of_its_branch(life: Life) -> None:
    await ready(life, b"0")
    preview = await ready(life, b"1", Wanted(branch="next", production=False))
    assert live(life, "site-git-next.localhost") == preview
    assert live(life) != preview


async def test_nothing_that_is_shown_can_be_deleted(life: Life) -> None:
    first, second = await ready(life, b"1"), await ready(life, b"2")
    with pytest.raises(ConflictError):
        await life.services.deployer.delete(second)
    await life.services.deployer.delete(first)
    assert life.services.routes.find(f"site-{first[-6:]}.localhost") is None


async def test_deleting_a_project_ends_everything_of_it(life: Life) -> None:
    await ready(life, b"1")
    running = await submit(life)
    await life.executor.job(running)
    await life.services.deployer.delete_project(await life.project("https://git.example/a/site"))
    assert life.services.routes.find("site.localhost") is None
    assert life.executor.jobs == {}


async def test_a_finished_site_is_published_without_a_build(life: Life) -> None:
    project = await life.services.projects.create(life.user, name="pages")
    wanted = Wanted(source=SourceKind.PREBUILT)
    deployment = await life.services.deployer.submit(life.user, project, wanted)
    digest = Digest(hashlib.sha256(PAGE).hexdigest())
    blob = Blob(sha256=digest, size_bytes=len(PAGE))
    assert await life.services.uploads.missing(deployment, [blob]) == [digest]
    await life.services.uploads.receive(deployment, blob, once(PAGE))
    file = OutputFile(path="index.html", sha256=digest, size_bytes=len(PAGE))
    assert await life.services.uploads.finish(deployment, [file]) is State.PUBLISHING
    await life.until(deployment.id, State.READY)
    assert live(life, "pages.localhost") == deployment.id
    assert life.executor.starts == 0


async def test_an_uploaded_source_waits_for_its_files_and_is_built_from_them(life: Life) -> None:
    project = await life.services.projects.create(life.user, name="shop")
    deployment = await life.services.deployer.submit(life.user, project, Wanted(source=SourceKind.UPLOAD))
    digest = Digest(hashlib.sha256(PAGE).hexdigest())
    await life.services.uploads.receive(deployment, Blob(sha256=digest, size_bytes=len(PAGE)), once(PAGE))
    assert life.executor.starts == 0
    file = OutputFile(path="index.html", sha256=digest, size_bytes=len(PAGE))
    assert await life.services.uploads.finish(deployment, [file]) is State.QUEUED
    await life.executor.job(deployment.id)
    claim = await life.services.builds.claim(Attempt(deployment.id, 1), "nonce")
    assert claim["source"] == {"kind": "upload", "files": [["index.html", digest, len(PAGE), False]]}
    stream = await life.services.builds.source(Attempt(deployment.id, 1), digest)
    assert b"".join([chunk async for chunk in stream]) == PAGE
    await life.built(deployment.id)
    await life.until(deployment.id, State.READY)


async def test_a_build_gets_its_own_environments_variables(life: Life) -> None:
    project = await life.project("https://git.example/a/site")
    await life.services.projects.set_variable(project.id, "KEY", (Environment.PRODUCTION,), "prod-secret")
    await life.services.projects.set_variable(project.id, "KEY", (Environment.PREVIEW,), "other-secret")
    deployment = await submit(life)
    await life.executor.job(deployment)
    mine = Attempt(deployment, 1)
    claim = await life.services.builds.claim(mine, "n")
    assert claim["env"] == {"KEY": "prod-secret"}
    await life.services.builds.lines(mine, 1, [[0, "out", "build", "the key is prod-secret"]])
    assert not any("prod-secret" in line for line in await life.log(deployment))


async def test_a_restart_adopts_running_builds_and_reaps_strangers(tmp_path: Path) -> None:
    executor = EndsWhenTold()
    async with begin(tmp_path, executor) as life:
        deployment = await submit(life)
        job = await executor.job(deployment)
        await life.services.builds.claim(Attempt(deployment, 1), "nonce")
    executor.jobs[DeploymentId("dpl_stranger000000000000"), 1] = job
    async with begin(tmp_path, executor) as life:
        await life.built(deployment)
        await life.until(deployment, State.READY)
    assert executor.starts == 1
    assert (DeploymentId("dpl_stranger000000000000"), 1) in executor.stopped


async def test_a_build_that_ended_while_the_daemon_was_away_is_concluded(tmp_path: Path) -> None:
    executor = EndsWhenTold()
    async with begin(tmp_path, executor) as life:
        deployment = await submit(life)
        await executor.job(deployment)
        mine = Attempt(deployment, 1)
        await life.services.builds.claim(mine, "nonce")
        await life.services.builds.finish(mine, Failure(reason=Reason.COMMAND_FAILED, message="exit 1"))
    await executor.end(deployment, cause=EndCause.FAILED)
    async with begin(tmp_path, executor) as life:
        assert (await life.until(deployment, State.FAILED)).reason is Reason.COMMAND_FAILED


async def test_a_lease_that_runs_out_is_looked_after(tmp_path: Path) -> None:
    builds = Builds(total_memory_mib=8192, lease_s=1)
    async with begin(tmp_path, EndsWhenTold(), builds) as life:
        deployment = await submit(life)
        await life.executor.job(deployment)
        await life.executor.job(deployment, 2)
        assert (deployment, 1) in life.executor.stopped
        assert (await life.until(deployment, State.FAILED)).reason is Reason.LOST
