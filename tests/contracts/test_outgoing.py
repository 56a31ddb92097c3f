"""Whom a build may ask for through the daemon, and what its log tells of the others."""

from pathlib import Path

import pytest

from scalemesh.config import Builds
from scalemesh.errors import ConflictError, GoneError, RefusedError, UnauthorizedError
from scalemesh.services.builds import Attempt
from scalemesh.services.outgoing import MOST_TOLD, Outgoing, check_fetchable
from scalemesh.services.package_hosts import PACKAGE_HOSTS
from scalemesh.values import DeploymentId, Network
from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import Life, begin

PACKAGES = Builds(
    total_memory_mib=8192,
    network=Network.PACKAGES,
    npm_registry="https://npm.example:8443/all/",
    allow_hosts=("cdn.example.com", "*.assets.example"),
)


async def claimed(life: Life) -> tuple[DeploymentId, str]:
    """A build that runs, and its token."""
    deployment = await life.submit()
    await life.executor.job(deployment)
    await life.services.builds.claim(Attempt(deployment, 1, "nonce"), "nonce")
    return deployment, str(life.services.tokens.make(deployment, 1))


async def test_packages_git_the_own_source_and_what_the_operator_adds_are_reached(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), PACKAGES) as life:
        _, token = await claimed(life)
        way = await Outgoing(life.services.builds, life.services.logs, PACKAGES).admit(token, "nonce")
        for host, port in (
            *((host, 443) for host in PACKAGE_HOSTS),
            ("github.com", 22),
            ("objects.githubusercontent.com", 443),
            ("git.example", 443),  # where the source lies
            ("npm.example", 8443),
            ("cdn.example.com", 443),
            ("a.assets.example", 443),
        ):
            assert way.refusal(host, port) == "", host
        for host in ("example.com", "assets.example", "githubusercontent.com", "telemetry.example", "10.0.0.1", ""):
            assert "builds.network" in way.refusal(host, 443), host
        assert "port" in way.refusal("github.com", 25)


async def test_only_the_build_itself_is_let_in_and_only_while_it_runs(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), PACKAGES) as life:
        deployment, token = await claimed(life)
        outgoing = Outgoing(life.services.builds, life.services.logs, PACKAGES)
        with pytest.raises(ConflictError):
            await outgoing.admit(token, "of somebody else")
        with pytest.raises(UnauthorizedError):
            await outgoing.admit(token + "x", "nonce")
        await life.services.deployer.cancel(deployment)
        with pytest.raises(GoneError):
            await outgoing.admit(token, "nonce")


async def test_a_refused_host_is_named_once_in_the_log(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold(), PACKAGES) as life:
        deployment, token = await claimed(life)
        outgoing = Outgoing(life.services.builds, life.services.logs, PACKAGES)
        way = await outgoing.admit(token, "nonce")
        for host in ("a.test", "b.test", "A.test.", *(f"flood{number}.test" for number in range(200))):
            await outgoing.tell(way, host, way.refusal(host, 443))
        told = [line.text for line in await life.services.logs.read(deployment) if "Refused:" in line.text]
        assert sum("a.test" in text for text in told) == 1
        assert any("b.test" in text and "allow_hosts" in text for text in told)
        assert len(told) == MOST_TOLD + 1
        assert told[-1] == "Refused: more hosts than are named here"


async def test_a_refused_host_is_told_in_its_step_and_not_again_by_a_later_daemon(tmp_path: Path) -> None:
    executor = EndsWhenTold()
    async with begin(tmp_path, executor, PACKAGES) as life:
        deployment, token = await claimed(life)
        outgoing = Outgoing(life.services.builds, life.services.logs, PACKAGES)
        way = await outgoing.admit(token, "nonce")
        await outgoing.tell(way, "first.test", "no")
        await life.services.builds.lines(Attempt(deployment, 1, "nonce"), 1, [[0, "out", "build", "building"]])
        await outgoing.tell(way, "second.test", "no")
    async with begin(tmp_path, executor, PACKAGES) as life:
        await Outgoing(life.services.builds, life.services.logs, PACKAGES).tell(way, "second.test", "no")
        lines = await life.services.logs.read(deployment)
        told = [(line.step, line.text) for line in lines if "Refused:" in line.text]
        assert told == [("fetch", "Refused: first.test: no"), ("build", "Refused: second.test: no")]


async def test_with_no_network_a_git_source_is_refused_when_it_is_submitted(tmp_path: Path) -> None:
    nothing = Builds(total_memory_mib=8192, network=Network.NONE)
    async with begin(tmp_path, EndsWhenTold(), nothing) as life:
        with pytest.raises(RefusedError, match="cannot be fetched") as told:
            await life.submit()
        assert "deploy a folder" in told.value.fix


def test_through_the_proxy_a_repository_is_fetched_by_https_alone() -> None:
    for url in ("https://git.example/a/site", "http://git.example/a/site", "file:///srv/git/site.git"):
        check_fetchable(url, Network.PACKAGES)
    for url in ("git@git.example:a/site", "ssh://git.example/a/site", "git://git.example/a/site"):
        check_fetchable(url, Network.FULL)
        with pytest.raises(RefusedError, match="by ssh or git") as told:
            check_fetchable(url, Network.PACKAGES)
        assert "https address" in told.value.fix


@pytest.mark.parametrize("network", ["10.1.0.1/16", "example.com", ""])
def test_a_private_network_that_is_none_is_a_mistake_in_the_config(network: str) -> None:
    with pytest.raises(ValueError, match="allow_networks"):
        Builds(allow_networks=(network,))
