"""builds.network through a whole daemon, for builds in the local sandbox and in containers."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from scalemesh.services.package_hosts import PACKAGE_HOSTS
from tests.rigs.everywhere import IMPATIENT, docker_table, system_authorities
from tests.whole.daemon import RunningDaemon, end_all
from tests.whole.sites import built_by
from tests.whole.test_executors import hello

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(os.geteuid() != 0, reason="uses docker: run as root")]
KINDS = ("local", "docker")
WITHIN_S = 130
REGISTRY = PACKAGE_HOSTS[0]
ASK = """python3 -c "
import urllib.request
for host in ('telemetry.example', 'telemetry.example', 'REGISTRY'):
    try:
        print(host, urllib.request.urlopen('https://' + host + '/', timeout=20).status)
    except OSError as error:
        print(host, error)
"
mkdir out; echo done > out/index.html
""".replace("REGISTRY", REGISTRY)


@asynccontextmanager
async def opened(home: Path, network: str) -> AsyncIterator[RunningDaemon]:
    async with docker_table() as table:
        builds = f'network = "{network}"\n{system_authorities()}{IMPATIENT}'
        daemon = RunningDaemon(home, builds=builds, kinds=KINDS, tables=table)
        try:
            await daemon.start()
            for kind in KINDS:
                await daemon.call("POST", "/projects", {"name": f"{kind}-site", "executor": kind})
            yield daemon
            await end_all(daemon)
        finally:
            daemon.kill_all()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def packages(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningDaemon]:
    async with opened(tmp_path_factory.mktemp("packages"), "packages") as daemon:
        yield daemon


@pytest.mark.parametrize("kind", KINDS)
async def test_with_packages_a_site_with_dependencies_is_built(packages: RunningDaemon, kind: str) -> None:
    deployment = await packages.upload(f"{kind}-site", "source", hello())
    await packages.until(deployment, "ready", within_s=WITHIN_S)


@pytest.mark.parametrize("kind", KINDS)
async def test_with_packages_other_hosts_are_refused_and_named_once_in_the_log(
    packages: RunningDaemon, kind: str
) -> None:
    deployment = await packages.upload(f"{kind}-site", "source", built_by(ASK))
    await packages.until(deployment, "ready", within_s=WITHIN_S)
    text = await packages.text(deployment)
    assert text.count("Refused: telemetry.example: ") == 1
    assert f"{REGISTRY} 200" in text
    assert f"Refused: {REGISTRY}" not in text


async def test_with_none_a_folder_is_built_and_reaches_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, "none") as daemon:
        for kind in KINDS:
            deployment = await daemon.upload(f"{kind}-site", "source", built_by(ASK))
            await daemon.until(deployment, "ready", within_s=WITHIN_S)
            assert " 200" not in await daemon.text(deployment)
        status, said = await daemon.try_call("POST", "/deployments", {"git_url": "https://git.example/a/site"})
        assert (status, said["code"]) == (422, "refused")
