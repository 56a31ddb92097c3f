"""A daemon behind a company's proxy: what builds need of the world comes through it, whatever network they have."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.company_proxy import CompanyProxy, company_proxy
from tests.unit.builder_git import git_server
from tests.whole.daemon import repository, running_daemon

URL = "http://git.company.test/site.git"
ASK = """cat > ask.py <<'END'
import os, urllib.error, urllib.request
for host in ("registry.npmjs.org", "telemetry.example"):
    try:
        print(host, urllib.request.urlopen(f"http://{host}/", timeout=20).status)
    except OSError as error:
        print(host, error)
print("registry:", os.environ["npm_config_registry"])
END
python3 ask.py; mkdir out; echo built > out/index.html
"""


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[CompanyProxy]:
    """It alone knows the way to the company's Git server, and to the registry."""
    files = {"vercel.json": '{"buildCommand": "sh ./build.sh", "outputDirectory": "out"}', "build.sh": ASK}
    repository(tmp_path, "site", files)
    with git_server(tmp_path / "git") as address:
        port = int(address.rpartition(":")[2])
        with company_proxy({"git.company.test:80": port, "registry.npmjs.org:80": port}) as opened:
            yield opened


async def test_with_packages_a_site_is_fetched_and_built_by_the_daemons_proxy_and_the_companys(
    tmp_path: Path, proxy: CompanyProxy
) -> None:
    builds = 'network = "packages"\nnpm_registry = "http://npm.company.test:4873/"\n'
    builds += f'[builds.env]\nHTTP_PROXY = "{proxy.url}"\n'
    async with running_daemon(tmp_path, builds=builds) as daemon:
        deployment = await daemon.deploy(URL)
        await daemon.until(deployment, "ready")
        text = await daemon.text(deployment)
        assert "registry.npmjs.org HTTP Error 404" in text  # the Git server, to which that name leads here, has no page
        assert text.count("Refused: telemetry.example") == 1
        assert "registry: http://npm.company.test:4873/" in text
        assert (await daemon.visit("site.localhost"))[1] == "built\n"
    assert any(f"GET {URL.replace('test/', 'test:80/')}" in line for line in proxy.asked)
    assert not any("telemetry" in line for line in proxy.asked)


async def test_without_the_proxy_the_companys_repository_is_not_found(tmp_path: Path, proxy: CompanyProxy) -> None:
    async with running_daemon(tmp_path, builds='network = "packages"') as daemon:
        deployment = await daemon.deploy(URL)
        assert (await daemon.until(deployment, "failed"))["reason"] == "clone_failed"
    assert proxy.asked == []


async def test_who_is_no_builder_is_not_let_out_by_a_running_daemon(tmp_path: Path, proxy: CompanyProxy) -> None:
    builds = f'[builds.env]\nHTTP_PROXY = "{proxy.url}"\n'
    async with running_daemon(tmp_path, builds=builds) as daemon:
        socket = daemon.data / "run" / "builds" / "proxy.sock"
        reader, writer = await asyncio.open_unix_connection(str(socket))
        writer.write(b"SCALEMESH token nonce\r\nGET http://git.company.test/ HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(30):
            assert (await reader.readline()).startswith(b"HTTP/1.1 407 ")
        writer.close()
    assert proxy.asked == []
