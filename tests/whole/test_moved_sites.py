"""Repositories that were made for Netlify and Cloudflare Pages: moved without a change, built, and visited."""

import base64
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.whole.daemon import RunningDaemon, repository, running_daemon

pytestmark = pytest.mark.timeout(300)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningDaemon]:
    async with running_daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


async def shown(daemon: RunningDaemon, host: str, path: str, **headers: str) -> tuple[int, str]:
    """Status, and the body or where it leads."""
    status, body, got = await daemon.visit(host, path, **headers)
    return status, got.get("Location", body)


NETLIFY = {
    "netlify.toml": b"""
[build]
base = "apps/web"
command = "sh ./build.sh"
publish = "dist"
[build.environment]
GREETING = "hello"
[[redirects]]
from = "/old/*"
to = "/new/:splat"
[[redirects]]
from = "/nl"
to = "/elsewhere"
conditions = {Country = ["nl"]}
""",
    "apps/web/build.sh": b"""
mkdir -p dist/secret && cp _redirects _headers dist/
echo "$GREETING" >dist/index.html; echo about >dist/about.html; echo secret >dist/secret/index.html
""",
    "apps/web/_redirects": b"/store id=:id /item/:id 302\n/app/* /index.html 200\n/broken\n",
    "apps/web/_headers": b"/*\n  X-From: _headers\n/secret/*\n  Basic-Auth: ann:hunter2\n",
}


async def test_a_repository_of_netlifys_is_built_and_served_as_there(daemon: RunningDaemon) -> None:
    found = await daemon.until(await daemon.deploy(repository(daemon.home, "moved", NETLIFY)), "ready")
    host = "moved.localhost"
    assert await shown(daemon, host, "/") == (200, "hello\n")
    assert await shown(daemon, host, "/about/") == (301, "/about")
    assert await shown(daemon, host, "/store?id=7") == (302, "/item/7?id=7")
    assert await shown(daemon, host, "/app/deep") == (200, "hello\n")
    assert await shown(daemon, host, "/old/a/b") == (301, "/new/a/b")
    assert (await daemon.visit(host, "/about"))[2]["X-From"] == "_headers"
    assert (await shown(daemon, host, "/secret/"))[0] == 401
    name = base64.b64encode(b"ann:hunter2").decode()
    assert await shown(daemon, host, "/secret/", Authorization=f"Basic {name}") == (200, "secret\n")
    for path in ("/_redirects", "/_headers", "/netlify.toml", "/.scalemesh/netlify.toml"):
        assert (await shown(daemon, host, path))[0] == 404, path
    log = await daemon.text(found["id"])
    assert "_redirects:3: left out: the line has neither a target nor a status" in log
    assert "netlify.toml:11: left out: the condition Country is not available" in log
    assert "hunter2" not in log


async def test_a_repository_of_cloudflare_pages_is_served_as_there(daemon: RunningDaemon) -> None:
    files = {
        "wrangler.jsonc": b'{"name": "x", "pages_build_output_dir": "./public", /* c */}',
        "public/index.html": b"app",
        "public/about.html": b"about",
        "public/_redirects": b"/old/* /about 301\n",
        "public/_headers": b"/about\n  ! Referrer-Policy\n  X-At: :page\n",
    }
    await daemon.until(await daemon.deploy(repository(daemon.home, "pages", files)), "ready")
    host = "pages.localhost"
    assert await shown(daemon, host, "/about.html") == (308, "/about")
    assert await shown(daemon, host, "/old/x?q") == (301, "/about?q")
    assert await shown(daemon, host, "/any/view") == (200, "app")
    assert (await shown(daemon, host, "/gone.js"))[0] == 404
    headers = (await daemon.visit(host, "/about"))[2]
    assert (headers["Access-Control-Allow-Origin"], "Referrer-Policy" in headers) == ("*", False)


async def test_a_malformed_netlify_toml_refuses_the_deployment(daemon: RunningDaemon) -> None:
    files = {"index.html": b"x", "netlify.toml": b"[[redirects]\n"}
    found = await daemon.until(await daemon.deploy(repository(daemon.home, "refused", files)), "failed")
    assert found["reason"] == "rejected"
    assert "netlify.toml is not valid TOML" in found["message"]
