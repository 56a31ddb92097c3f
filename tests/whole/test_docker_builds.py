"""Builds in containers of this machine's engine: what they see of it, and how their files and caches travel."""

import asyncio
from pathlib import Path

import pytest

from tests.rigs.everywhere import IMPATIENT, bridge_address, docker_table, system_authorities
from tests.whole.daemon import repository
from tests.whole.test_build_caches import BUILD, built, files
from tests.whole.test_direct_uploads import place

pytestmark = pytest.mark.timeout(240)


async def test_a_container_sends_straight_to_the_bucket_begins_warm_and_sees_its_own_repository_alone(
    tmp_path: Path,
) -> None:
    """By the address of docker's bridge, opened for that: builds do not reach this machine else."""
    address = await asyncio.to_thread(bridge_address)
    builds = f'allow_networks = ["{address}/32"]\n{system_authorities()}{IMPATIENT}'
    looks = f"\nfs.writeFileSync('dist/seen.html', fs.readdirSync('{tmp_path / 'git'}').join())\n"
    async with (
        docker_table() as table,
        place(tmp_path, builds=builds, kind="docker", tables=table, address=address) as there,
    ):
        repository(tmp_path, "others", {"secret": "of another project"})
        url = repository(tmp_path, "direct", files() | {"build.js": BUILD + looks})
        log, page = await built(there.daemon, url)
        assert ("> npm ci" in log, page) == (True, "true 1")
        assert ", straight to the store" in log
        assert there.builds.count == 5  # three archives and two pages
        assert (await there.daemon.visit("direct.localhost", "/seen.html"))[1] == "direct.git"
        there.builds.count, there.builds.counts = 0, b"GET /"
        log, page = await built(there.daemon, url)
        assert ("> npm ci" in log, page) == (False, "true 2")
        assert "Restored the build cache" in log
        assert there.builds.count == 2
        assert "through the daemon" not in log
