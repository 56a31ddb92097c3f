"""Whom a build may ask for through the daemon, and what its log tells of the others."""

from pathlib import Path

import pytest

from scalemesh.config import Builds
from scalemesh.errors import ConflictError, GoneError, RefusedError, UnauthorizedError
from scalemesh.services.builds import Attempt
from scalemesh.services.outgoing import Outgoing
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
        for host in ("a.test", "b.test", "a.test", *(f"flood{number}.test" for number in range(200))):
            await outgoing.tell(way, host, way.refusal(host, 443))
        told = [line.text for line in await life.services.logs.read(deployment) if "Refused:" in line.text]
        assert sum("a.test" in text for text in told) == 1
        assert any("b.test" in text and "allow_hosts" in text for text in told)
        assert len(told) == 50


async def test_with_no_network_a_git_source_is_refused_when_it_is_submitted(tmp_path: Path) -> None:
    nothing = Builds(total_memory_mib=8192, network=Network.NONE)
    async with begin(tmp_path, EndsWhenTold(), nothing) as life:
        with pytest.raises(RefusedError, match="cannot be fetched") as told:
            await life.submit()
        assert "deploy a folder" in told.value.fix
