"""The life of a deployment: its states, its fences, its ends, and what a restart finds."""

from pathlib import Path

import pytest

from scalemesh.config import Builds
from scalemesh.errors import ConflictError, GoneError, RefusedError
from scalemesh.services.build_caches import BuildCacheCalls
from scalemesh.services.builds import Attempt, Failure, Success
from scalemesh.values import CacheKind, DeploymentId, EndCause, Reason, State
from tests.contracts.executors import EndsWhenTold, Refuses
from tests.contracts.life import PAGE, Life, begin
from tests.rigs.tls import certificate


async def test_a_deployment_is_built_published_and_live(life: Life) -> None:
    deployment = await life.submit()
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
    deployment = await life.submit()
    await life.executor.job(deployment)
    await life.until(deployment, State.BUILDING)
    route = life.services.routes.find("site.localhost")
    assert route is not None
    assert (route.deployment, route.waiting) == (None, State.BUILDING)


async def test_a_failed_build_says_why_and_the_log_is_closed(life: Life) -> None:
    deployment = await life.submit()
    await life.executor.job(deployment)
    mine = Attempt(deployment, 1, "nonce")
    await life.services.builds.claim(mine, "nonce")
    await life.services.builds.finish(mine, Failure(reason=Reason.NO_OUTPUT, message="no folder dist"))
    await life.executor.end(deployment, cause=EndCause.FAILED)
    found = await life.until(deployment, State.FAILED)
    assert (found.reason, found.message) == (Reason.NO_OUTPUT, "no folder dist")
    assert await life.last_words(deployment) == "Failed (no_output): no folder dist"


@pytest.mark.parametrize("cause", [EndCause.OOM, EndCause.PIDS, EndCause.TIMEOUT, EndCause.DISK])
async def test_a_limit_that_the_executor_saw_is_the_reason(life: Life, cause: EndCause) -> None:
    deployment = await life.submit()
    await life.executor.job(deployment)
    await life.executor.end(deployment, cause=cause)
    found = await life.until(deployment, State.FAILED)
    assert found.reason in {
        Reason.OUT_OF_MEMORY, Reason.TOO_MANY_PROCESSES, Reason.TIMED_OUT, Reason.DISK_FULL
    }  # fmt: skip


async def test_a_lost_build_starts_once_more_and_only_once(life: Life) -> None:
    deployment = await life.submit()
    await life.executor.job(deployment)
    await life.executor.lose(deployment)
    await life.executor.job(deployment, 2)
    await life.executor.lose(deployment, 2)
    found = await life.until(deployment, State.FAILED)
    assert (found.reason, found.attempt) == (Reason.LOST, 2)


async def test_an_executor_that_says_no_fails_the_build_with_the_fix(tmp_path: Path) -> None:
    async with begin(tmp_path, Refuses()) as life:
        found = await life.until(await life.submit(), State.FAILED)
        assert found.reason is Reason.REJECTED
        assert "sysctl" in found.message


async def test_only_one_builder_holds_an_attempt(life: Life) -> None:
    deployment = await life.submit()
    await life.executor.job(deployment)
    mine = Attempt(deployment, 1, "nonce")
    await life.services.builds.claim(mine, "nonce")
    await life.services.builds.claim(mine, "nonce")
    with pytest.raises(ConflictError):
        await life.services.builds.claim(mine, "two")


async def test_a_token_alone_is_a_spent_ticket_once_its_builder_has_claimed(life: Life) -> None:
    deployment = await life.submit()
    await life.executor.job(deployment)
    mine = Attempt(deployment, 1, "nonce")
    await life.services.builds.claim(mine, "nonce")
    file = await life.upload(mine, PAGE)
    calls, success = life.services.builds, Success(files=[file], framework="static", output_directory=".")
    for nonce in ("", "of somebody else"):
        thief = Attempt(deployment, 1, nonce)
        for call in (
            calls.claim(thief, nonce or "none"),
            calls.lines(thief, 1, [[0, "out", "build", "not ours"]]),
            calls.heartbeat(thief, None),
            calls.missing(thief, []),
            life.upload(thief, b"more"),
            BuildCacheCalls(calls, life.services.storage.caches).find(thief, CacheKind.MODULES, "a" * 40, ""),
            calls.finish(thief, success),
        ):
            with pytest.raises(ConflictError):
                await call
    assert await calls.finish(mine, success) is State.PUBLISHING
    with pytest.raises(ConflictError):
        await calls.finish(Attempt(deployment, 1), success)


async def test_before_the_claim_a_token_is_good_for_nothing_else(life: Life) -> None:
    deployment = await life.submit()
    await life.executor.job(deployment)
    with pytest.raises(ConflictError):
        await life.services.builds.heartbeat(Attempt(deployment, 1, ""), None)
    with pytest.raises(ConflictError):
        await life.services.builds.lines(Attempt(deployment, 1, "nonce"), 1, [[0, "out", "build", "early"]])


async def test_the_claims_nonce_is_good_after_a_restart_too_and_no_other(tmp_path: Path) -> None:
    executor = EndsWhenTold()
    async with begin(tmp_path, executor) as life:
        deployment = await life.submit()
        await executor.job(deployment)
        mine = Attempt(deployment, 1, "nonce")
        await life.services.builds.claim(mine, "nonce")
    async with begin(tmp_path, executor) as life:
        with pytest.raises(ConflictError):
            await life.services.builds.claim(mine, "another")
        with pytest.raises(ConflictError):
            await life.services.builds.heartbeat(Attempt(deployment, 1, "another"), None)
        await life.services.builds.claim(mine, "nonce")
        await life.services.builds.heartbeat(mine, None)


async def test_a_claim_tells_what_the_operator_wants_every_build_to_know(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "git.company.test")
    builds = Builds(total_memory_mib=8192, ca_bundle=str(pem), env={"HTTPS_PROXY": "http://proxy.test:3128"})
    async with begin(tmp_path, EndsWhenTold(), builds) as life:
        deployment = await life.submit()
        await life.executor.job(deployment)
        claim = await life.services.builds.claim(Attempt(deployment, 1, "nonce"), "nonce")
        assert claim["ca_bundle"] == pem.read_text()
        assert isinstance(claim["operator_env"], dict)
        assert claim["operator_env"]["https_proxy"] == "http://proxy.test:3128"


async def test_authorities_that_cannot_be_read_fail_the_deployment_with_words(tmp_path: Path) -> None:
    builds = Builds(total_memory_mib=8192, ca_bundle=str(tmp_path / "none.pem"))
    async with begin(tmp_path, EndsWhenTold(), builds) as life:
        deployment = await life.submit()
        await life.executor.job(deployment)
        with pytest.raises(RefusedError):
            await life.services.builds.claim(Attempt(deployment, 1, "nonce"), "nonce")
        await life.executor.end(deployment, 1, EndCause.FAILED)
        found = await life.until(deployment, State.FAILED)
        assert found.reason is Reason.REJECTED
        assert "builds.ca_bundle" in found.message


async def test_another_builder_than_the_daemons_own_fails_the_deployment_with_the_fix(life: Life) -> None:
    deployment = await life.submit()
    await life.executor.job(deployment)
    with pytest.raises(RefusedError, match="holds builder 0123456789ab"):
        await life.services.builds.claim(Attempt(deployment, 1, "nonce"), "nonce", "0123456789ab")
    await life.executor.end(deployment, 1, EndCause.FAILED)
    found = await life.until(deployment, State.FAILED)
    assert found.reason is Reason.REJECTED
    assert "scalemesh builder image build" in found.message


async def test_an_older_attempt_can_neither_write_nor_upload_nor_publish(life: Life) -> None:
    deployment = await life.submit()
    await life.executor.job(deployment)
    old = Attempt(deployment, 1, "nonce")
    await life.services.builds.claim(old, "nonce")
    file = await life.upload(old, b"old")
    await life.executor.lose(deployment)
    await life.executor.job(deployment, 2)
    calls = life.services.builds
    for call in (
        calls.claim(old, "nonce"),
        calls.lines(old, 1, [[0, "out", "build", "old"]]),
        calls.heartbeat(old, None),
        calls.missing(old, []),
        life.upload(old, b"more"),
        calls.finish(old, Success(files=[file], framework="static", output_directory=".")),
        calls.finish(old, Failure(reason=Reason.INTERNAL, message="x")),
    ):
        with pytest.raises(GoneError):
            await call
    new = Attempt(deployment, 2, "another")
    await calls.claim(new, "another")
    with pytest.raises(RefusedError):  # what the old attempt uploaded is not the new one's
        await calls.finish(new, Success(files=[file], framework="static", output_directory="."))


async def test_finish_may_be_repeated(life: Life) -> None:
    deployment = await life.submit()
    await life.executor.job(deployment)
    mine = Attempt(deployment, 1, "nonce")
    await life.services.builds.claim(mine, "nonce")
    success = Success(files=[await life.upload(mine, PAGE)], framework="static", output_directory=".")
    assert await life.services.builds.finish(mine, success) is State.PUBLISHING
    await life.until(deployment, State.READY)
    assert await life.services.builds.finish(mine, success) is State.READY


async def test_cancel_ends_a_waiting_and_a_running_deployment(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), Builds(total_memory_mib=8192, parallel=1)) as life:
        running = await life.submit()
        await life.executor.job(running)
        waiting = await life.submit(url="https://git.example/b/other")
        for deployment in (waiting, running):
            assert (await life.services.deployer.cancel(deployment)).state is State.CANCELED
            assert (await life.services.deployer.cancel(deployment)).state is State.CANCELED
        assert life.executor.jobs == {}
        with pytest.raises(GoneError):
            await life.services.builds.heartbeat(Attempt(running, 1, "nonce"), None)


async def test_what_is_ready_cannot_be_canceled(life: Life) -> None:
    deployment = await life.submit()
    await life.built(deployment)
    await life.until(deployment, State.READY)
    with pytest.raises(ConflictError):
        await life.services.deployer.cancel(deployment)


async def test_a_restart_adopts_running_builds_and_reaps_strangers(tmp_path: Path) -> None:
    executor = EndsWhenTold()
    async with begin(tmp_path, executor) as life:
        deployment = await life.submit()
        job = await executor.job(deployment)
        await life.services.builds.claim(Attempt(deployment, 1, "nonce"), "nonce")
    executor.jobs[DeploymentId("dpl_stranger000000000000"), 1] = job
    async with begin(tmp_path, executor) as life:
        await life.built(deployment)
        await life.until(deployment, State.READY)
    assert executor.starts == 1
    assert (DeploymentId("dpl_stranger000000000000"), 1) in executor.stopped


async def test_a_build_that_ended_while_the_daemon_was_away_is_concluded(tmp_path: Path) -> None:
    executor = EndsWhenTold()
    async with begin(tmp_path, executor) as life:
        deployment = await life.submit()
        await executor.job(deployment)
        mine = Attempt(deployment, 1, "nonce")
        await life.services.builds.claim(mine, "nonce")
        await life.services.builds.finish(mine, Failure(reason=Reason.COMMAND_FAILED, message="exit 1"))
    await executor.end(deployment, cause=EndCause.FAILED)
    async with begin(tmp_path, executor) as life:
        assert (await life.until(deployment, State.FAILED)).reason is Reason.COMMAND_FAILED
