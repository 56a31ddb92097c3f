"""Rule files on their whole way: a build makes them or a source brings them, and visits follow them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from tests.whole.daemon import RunningDaemon, repository, running_daemon
from tests.whole.sites import HELLO, built_by, fixture

pytestmark = pytest.mark.timeout(300)
CONFIG = "/.vercel/output/config.json"
HIDDEN = (
    *("/.scalemesh/vercel.json", f"/.scalemesh{CONFIG}", CONFIG, "/config.json", "/vercel.json", "/netlify.toml"),
    *("/.scalemesh/.vercel/output/functions/api/hello.func/.vc-config.json", "/api/hello", "/_redirects"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningDaemon]:
    async with running_daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


async def shown(daemon: RunningDaemon, host: str, path: str) -> tuple[int, str]:
    """Status, and the body or where it leads."""
    status, body, headers = await daemon.visit(host, path)
    return status, headers.get("Location", body)


async def check_visits(daemon: RunningDaemon, host: str) -> None:
    """The site of the fixture answers as its routes say, and none of its rule files is served."""
    for path, expected in {
        "/": (200, "<h1>home</h1>"),
        "/about": (200, "<h1>about</h1>"),
        "/about.html": (404, "<h1>not here</h1>"),
        "/old/x?a=b": (308, "/x?a=b"),
        "/app/deep/er": (200, "<h1>home</h1>"),
        "/nothing": (404, "<h1>not here</h1>"),
        **dict.fromkeys(HIDDEN, (404, "<h1>not here</h1>")),
    }.items():
        assert await shown(daemon, host, path) == expected, path
    assert (await daemon.visit(host, "/assets/app.js"))[2]["Cache-Control"] == "public, max-age=600"


async def test_a_build_that_writes_the_build_output_api_is_served_by_its_routes(daemon: RunningDaemon) -> None:
    url = repository(daemon.home, "adapted", fixture("build-output"))
    found = await daemon.until(await daemon.deploy(url), "ready")
    await check_visits(daemon, "adapted.localhost")
    log = await daemon.text(found["id"])
    assert "from .vercel/output/static" in log
    assert (
        "Rules in the dialect vercel, from .vercel/output/config.json: 3 redirects and rewrites, 1 header rule" in log
    )
    assert ".vercel/output/functions/api/hello.func: left out: the function /api/hello is not served" in log


async def test_such_a_folder_is_deployed_without_a_build(daemon: RunningDaemon, tmp_path: Path) -> None:
    for path, content in fixture("build-output").items():
        (tmp_path / path).write_bytes(content)
    await run("node", "build.mjs", at=tmp_path)
    (tmp_path / "vercel.json").write_text('{"redirects": [{"source": "/", "destination": "/nowhere"}]}')
    host = {"SCALEMESH_URL": "", "SCALEMESH_CONFIG": str(daemon.config)}
    deploy = ("-m", "scalemesh", "deploy", ".", "--prebuilt", "--project", "ready-made")
    told = await run(sys.executable, *deploy, at=tmp_path, environ=host)
    assert "Not served: the function /api/hello (only files are)" in told
    assert "vercel.json: left out: it is not read" in told
    await check_visits(daemon, "ready-made.localhost")


async def test_a_vercel_json_beside_the_output_rules_the_site(daemon: RunningDaemon) -> None:
    files = built_by(f"{HELLO}; echo hi >out/about.html; echo '/a /b' >out/_redirects")
    settings = {"cleanUrls": True, "redirects": [{"source": "/blog/:slug", "destination": "/about?from=:slug"}]}
    files["vercel.json"] = json.dumps(json.loads(files["vercel.json"]) | settings).encode()
    found = await daemon.until(await daemon.deploy(repository(daemon.home, "ruled", files)), "ready")
    assert await shown(daemon, "ruled.localhost", "/blog/x?q=1") == (308, "/about?from=x&q=1")
    assert await shown(daemon, "ruled.localhost", "/about.html") == (308, "/about")
    assert await shown(daemon, "ruled.localhost", "/about") == (200, "hi\n")
    for path in HIDDEN:
        assert (await shown(daemon, "ruled.localhost", path))[0] == 404, path
    assert "from vercel.json" in await daemon.text(found["id"])


async def test_a_malformed_vercel_json_refuses_the_deployment_with_its_line(daemon: RunningDaemon) -> None:
    files = {"index.html": b"x", "vercel.json": b'{\n  "redirects": [\n    {"source": "/a"}\n  ]\n}'}
    found = await daemon.until(await daemon.deploy(repository(daemon.home, "refused", files)), "failed")
    assert found["reason"] == "rejected"
    assert found["message"].startswith("vercel.json:3: a rule has no `destination`")
    assert "vercel.json:3: refused" in await daemon.text(found["id"])


async def run(*command: str, at: Path, environ: Mapping[str, str] | None = None) -> str:
    """What a program says on standard error; it must end well."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=at,
        env={**os.environ, **(environ or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        _, told = await process.communicate()
    assert process.returncode == 0, told.decode()
    return told.decode()
