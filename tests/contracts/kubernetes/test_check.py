"""What ``scalemesh check`` tells of a cluster."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from builder.packing import fingerprint
from plugins.executors.kubernetes import KubernetesConfig, KubernetesExecutor
from plugins.executors.kubernetes import executor as kubernetes
from scalemesh.errors import ConfigError
from scalemesh.ports import Finding
from scalemesh.values import Network
from tests.contracts.executor.places.kubernetes import KubernetesPlace
from tests.contracts.executor.processes import eventually
from tests.rigs.cluster import HOST, need_cluster

pytestmark = pytest.mark.timeout(300)


@asynccontextmanager
async def daemon(stamp: str) -> AsyncIterator[str]:
    """Greets builders as the daemon whose builder has that fingerprint; its address, as pods reach it."""

    async def hello(_request: web.Request) -> web.Response:
        return web.json_response({"builder": stamp})

    app = web.Application()
    app.router.add_get("/build/v1/hello", hello)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    try:
        yield site.name
    finally:
        await runner.cleanup()


async def checked(place: KubernetesPlace) -> list[Finding]:
    async with place.open() as executor:
        async with asyncio.timeout(kubernetes.PROOF_S + 21):
            found = list(await executor.check())
        assert not executor._ends  # whoever looks often must not fill the memory
        return found


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof comes to its end, however slow the cluster is."""
    monkeypatch.setattr(kubernetes, "PROOF_S", 60.0)


def told(found: list[Finding]) -> str:
    return "\n".join(f"{'ok' if each.ok else 'BAD'} {each.what} ({each.fix})" for each in found)


@pytest.mark.usefixtures("patience")
async def test_a_cluster_that_can_run_builds_is_proven_by_a_job(place: KubernetesPlace) -> None:
    async with daemon(fingerprint()) as url:
        good = KubernetesPlace(place.config.image, url=url, owner=place.config.owner)
        found = await checked(good)
    assert all(finding.ok for finding in found), told(found)
    assert "Kubernetes v1." in found[0].what
    assert "a job ran and reached the daemon: user 1000, Node 24." in told(found)
    assert "whether this cluster enforces them is not seen" in told(found)
    await eventually(lambda: _is_empty(place))


@pytest.mark.usefixtures("patience")
async def test_what_stands_in_the_way_of_builds_is_told_with_its_fix(place: KubernetesPlace) -> None:
    image = place.config.image
    async with daemon("another") as url:
        other, unreached, early = await asyncio.gather(
            checked(KubernetesPlace(image, url=url)),
            checked(KubernetesPlace(image, url=f"http://{HOST}:1")),
            checked(KubernetesPlace(image, url=f"http://{HOST}:1", socket="/nowhere/api.sock")),
        )
    assert "the daemon needs another" in told(other)
    assert "BAD a job ran, but" in told(other)
    assert f"BAD a job ran, but http://{HOST}:1" in told(unreached)
    assert "builds.public_url" in told(unreached)
    assert all(finding.ok for finding in early), told(early)
    assert "start the daemon and check again" in told(early)


async def test_a_job_whose_image_cannot_be_had_is_told_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    need_cluster()
    monkeypatch.setattr(kubernetes, "PROOF_S", 12.0)  # until when the node has tried
    async with daemon(fingerprint()) as url:
        absent = await checked(KubernetesPlace("127.0.0.1:1/none:1", url=url))
    assert "for image 127.0.0.1:1/none:1" in told(absent)
    assert "check again in a minute" in told(absent)


async def test_a_job_that_does_not_fit_is_told_as_waiting(place: KubernetesPlace) -> None:
    found = await checked(KubernetesPlace(place.config.image, cpu_request=1000))
    assert not found[-1].ok
    assert "Insufficient cpu" in found[-1].what


async def test_without_a_public_url_no_job_is_run(place: KubernetesPlace) -> None:
    found = await checked(KubernetesPlace(place.config.image, url=""))
    assert [finding.what for finding in found if not finding.ok] == [
        "builds.public_url is not set: builds have no way to the daemon"
    ]


async def test_a_network_that_only_policies_hold_is_said_to_be_so(place: KubernetesPlace) -> None:
    found = await checked(KubernetesPlace(place.config.image, url="", build_network=Network.PACKAGES))
    assert any("NetworkPolicies" in finding.what and "proxy of yours" in finding.fix for finding in found)


async def test_the_proof_of_a_check_is_no_build_of_the_daemon(place: KubernetesPlace) -> None:
    async with daemon(fingerprint()) as url:
        watched = KubernetesPlace(place.config.image, url=url, owner=place.config.owner)
        async with watched.open() as beside:
            checking = asyncio.create_task(checked(watched))
            await eventually(lambda: _has_some(place))
            assert await beside.running() == []
            await checking


async def test_a_cluster_that_cannot_be_named_is_a_mistake_of_the_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no way to a cluster"):
        async with KubernetesExecutor.open(KubernetesConfig(image="x", kubeconfig=tmp_path / "none")):
            pass
    with pytest.raises(ConfigError, match="run the daemon as a pod"):
        async with KubernetesExecutor.open(KubernetesConfig(image="x")):
            pass


async def _is_empty(place: KubernetesPlace) -> bool:
    return not [name for name in await place.leftovers() if not name.startswith("pod/")]


async def _has_some(place: KubernetesPlace) -> bool:
    return bool(await place.leftovers())
