"""What builds keep, as people see it and throw it away: the command and the dashboard."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scalemesh.cli.main import run
from scalemesh.values import Blob, CacheKind, Digest, NewCacheEntry
from tests.contracts.life import once
from tests.whole.control_host import ControlHost, open_control_host

ARCHIVE = b"an archive" * 100


@pytest.fixture
async def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ControlHost]:
    async with open_control_host(tmp_path / "data") as opened:
        await opened.sign_in()
        monkeypatch.setenv("SCALEMESH_URL", opened.url)
        monkeypatch.setenv("SCALEMESH_TOKEN", (await opened.token())["Authorization"].removeprefix("Bearer "))
        monkeypatch.chdir(tmp_path)
        yield opened


async def call(*arguments: str) -> int:
    return await asyncio.to_thread(run, arguments)


async def keep(host: ControlHost) -> str:
    """A deployment that is ready, of a project whose builds have kept something."""
    ready = await host.life.ready(b"page")
    deployment, caches = await host.life.services.deployer.get(ready), host.life.services.storage.caches
    blob = Blob(sha256=Digest(hashlib.sha256(ARCHIVE).hexdigest()), size_bytes=len(ARCHIVE))
    await caches.receive(deployment, blob, once(ARCHIVE))
    entry = NewCacheEntry(kind=CacheKind.MODULES, key="npm-key-1", blob=blob, unpacked_bytes=5000, seconds=12.34)
    assert await caches.keep(deployment, entry)
    return ready


async def page(host: ControlHost, path: str) -> str:
    answer = await host.anybody.get(path)
    assert answer.status == 200
    return await answer.text()


async def post(host: ControlHost, path: str, form: dict[str, str]) -> str:
    answer = await host.anybody.post(path, data=form, headers=host.origin, allow_redirects=False)
    assert answer.status == 303, await answer.text()
    return answer.headers["Location"]


async def test_the_command_lists_and_clears(host: ControlHost, capsys: pytest.CaptureFixture[str]) -> None:
    await keep(host)
    assert await call("cache", "list", "site") == 0
    assert "packages" in (told := capsys.readouterr().out)
    assert "12.3 s" in told
    assert "production" in told
    assert await call("cache", "list", "site", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["size_bytes"], found["entries"][0]["key"]) == (1000, "npm-key-1")
    assert await call("cache", "clear", "site") == 0
    assert "it was 1.0 kB" in capsys.readouterr().err
    assert (await host.ask("GET", "/projects/site/cache"))["entries"] == []
    assert await call("cache", "list", "nobody") == 4


async def test_the_page_of_a_project_tells_and_clears(host: ControlHost) -> None:
    await host.life.ready(b"page")
    assert "Clear cache" not in await page(host, "/projects/site")
    await keep(host)
    text = await page(host, "/projects/site")
    assert "1.0 kB of packages" in text
    assert await post(host, "/projects/site/cache/clear", {}) == "/projects/site?did=cache-cleared"
    text = await page(host, "/projects/site?did=cache-cleared")
    assert "Nothing is kept from earlier builds now" in text
    assert "Clear cache" not in text


@pytest.mark.parametrize(("form", "uses"), [({}, True), ({"no_cache": "yes"}, False)])
async def test_deploy_and_redeploy_have_a_button_each_that_leaves_caches_aside(
    host: ControlHost, form: dict[str, str], uses: bool
) -> None:
    ready = await host.life.ready(b"page")
    assert 'name="no_cache"' in await page(host, f"/deployments/{ready}")
    assert 'name="no_cache"' in await page(host, "/projects/site")
    for path in (f"/deployments/{ready}/redeploy", "/projects/site/deploy"):
        begun = (await post(host, path, form)).removeprefix("/deployments/")
        assert (await host.ask("GET", f"/deployments/{begun}"))["uses_cache"] is uses
        await host.ask("POST", f"/deployments/{begun}/cancel")


async def test_a_stranger_neither_sees_nor_clears(host: ControlHost) -> None:
    await keep(host)
    await host.anybody.post("/sign-out", headers=host.origin)
    for method in ("GET", "DELETE"):
        assert (await host.anybody.request(method, "/api/v1/projects/site/cache", headers=host.origin)).status == 401
    answer = await host.anybody.post("/projects/site/cache/clear", headers=host.origin, allow_redirects=False)
    assert answer.status == 401
    assert (await host.life.services.storage.caches.total((await host.life.project()).id)).count == 1


@pytest.mark.parametrize(("words", "uses"), [((), True), (("--no-cache",), False)])
async def test_no_cache_is_an_option_of_deploy_and_redeploy(
    host: ControlHost, words: tuple[str, ...], uses: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    await call("deploy", "https://git.example/a/shop.git", "--no-wait", "--json", *words)
    begun = json.loads(capsys.readouterr().out)["deployment"]
    assert (await host.ask("GET", f"/deployments/{begun}"))["uses_cache"] is uses
    await host.ask("POST", f"/deployments/{begun}/cancel")
    await call("deployment", "redeploy", begun, "--no-wait", *words)
    again = (await host.ask("GET", "/deployments?limit=1"))["deployments"][0]
    assert (again["id"] != begun, again["uses_cache"]) == (True, uses)
    await host.ask("POST", f"/deployments/{again['id']}/cancel")
