"""A page that stays open while a new version goes live under it, as a real browser meets that."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, CDPSession, Page, expect

from tests.whole.browser import ACT_MS, CHROMIUM, ONE_BROWSER, complaints_of, eventually
from tests.whole.daemon import RunningDaemon, running_daemon
from tests.whole.test_crashes import is_encoded

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.timeout(300),
    ONE_BROWSER,
]

#: As a bundler names them: the same source, another content, another hash.
OLD, NEW = "BxYz12aB", "Q9Yz12aB"
OLD_LATE: Final = f"/assets/late-{OLD}.js"
PADDING: Final = "".join(f"export const unused{n} = 'so that it is worth compressing'\n" for n in range(80))
MAIN: Final = """
const said = document.querySelector('#said')
document.querySelector('#path').textContent = location.pathname
document.querySelector('button').addEventListener('click', async () => {{
  try {{ said.textContent = (await import('./late-{hash}.js')).text }}
  catch (error) {{ said.textContent = `lost: ${{error.message}}` }}
}})
document.body.dataset.ready = '{hash}'
"""


def version(mark: str) -> dict[str, bytes]:
    """A single-page application that a build without packages makes, in the way of Vite; its chunks carry *mark*."""
    page = f"""<!doctype html><link rel="icon" href="data:,"><p id="path"></p><button>More</button><p id="said"></p>
<script type="module" src="/assets/index-{mark}.js"></script>"""
    files = {
        "index.html": page,
        f"assets/index-{mark}.js": MAIN.format(hash=mark) + PADDING,
        f"assets/late-{mark}.js": f"export const text = 'late {mark}'\n{PADDING}",
        **({"sw.js": "self.addEventListener('install', () => self.skipWaiting())"} if mark == OLD else {}),
    }
    package = {"devDependencies": {"vite": "*"}, "scripts": {"build": "cp -r made dist"}}
    made = {f"made/{path}": content.encode() for path, content in files.items()}
    return {"package.json": json.dumps(package).encode(), **made}


@pytest_asyncio.fixture
async def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningDaemon]:
    async with running_daemon(tmp_path, edge=getattr(request, "param", "")) as opened:
        await opened.call("POST", "/projects", {"name": "shop", "settings": {"install_command": "true"}})
        yield opened


async def live(daemon: RunningDaemon, mark: str) -> str:
    """Deploy that version, and wait until it is ready and compressed."""
    deployment = await daemon.upload("shop", "source", version(mark))
    await daemon.until(deployment, "ready")
    await daemon.eventually(lambda: is_encoded(daemon, deployment))
    return deployment


async def opened(browser: Browser, daemon: RunningDaemon, path: str = "/") -> Page:
    """The site, in a window with a cache of its own."""
    context: BrowserContext = await browser.new_context(base_url=f"http://shop.localhost:{daemon.port}")
    context.set_default_timeout(ACT_MS)
    page = await context.new_page()
    await page.goto(path)
    await eventually(page, "document.body.dataset.ready")
    return page


def heard(devtools: CDPSession, event: str) -> list[dict[str, Any]]:
    """Fills with what the browser tells of *event*."""
    found: list[dict[str, Any]] = []

    def keep(told: dict[str, Any]) -> None:
        found.append(told)

    devtools.on(event, keep)
    return found


async def status_of(page: Page, path: str) -> int:
    return int(await page.evaluate("path => fetch(path).then(answer => answer.status)", path))


@pytest.mark.parametrize("daemon", ["", "workers = 2"], ids=["alone", "with two workers"], indirect=True)
async def test_a_page_of_an_old_version_lazy_loads_its_chunk_until_somebody_purges(
    daemon: RunningDaemon, browser: Browser
) -> None:
    first = await live(daemon, OLD)
    page, another = await asyncio.gather(opened(browser, daemon), opened(browser, daemon))
    complaints = complaints_of(page)
    second = await live(daemon, NEW)

    async with page.expect_response(f"**{OLD_LATE}") as coming:
        await page.get_by_role("button").click()
    await expect(page.locator("#said")).to_have_text(f"late {OLD}")
    headers = await (await coming.value).all_headers()
    assert (headers["x-scalemesh-deployment"], headers["content-encoding"]) == (first, "br")
    assert headers["cache-control"].endswith("immutable")
    assert not complaints

    fresh = await opened(browser, daemon)
    assert await fresh.evaluate("document.body.dataset.ready") == NEW
    await fresh.get_by_role("button").click()
    await expect(fresh.locator("#said")).to_have_text(f"late {NEW}")

    await daemon.call("POST", "/projects/shop/purge")
    async with another.expect_response(f"**{OLD_LATE}") as coming:
        await another.get_by_role("button").click()
    await expect(another.locator("#said")).to_contain_text("lost: Failed to fetch dynamically imported module")
    answer = await coming.value
    assert (answer.status, answer.headers["x-scalemesh-deployment"]) == (404, second)


async def test_a_service_worker_is_never_one_of_a_former_version(daemon: RunningDaemon, browser: Browser) -> None:
    """It would hold its pages back for ever: an update must meet what is live, and here that is nothing."""
    await live(daemon, OLD)
    page = await opened(browser, daemon)
    await page.evaluate("navigator.serviceWorker.register('/sw.js').then(() => navigator.serviceWorker.ready)")
    await live(daemon, NEW)
    update = "navigator.serviceWorker.ready.then(found => found.update()).then(() => '', error => error.message)"
    assert "404" in await page.evaluate(update)
    assert (await status_of(page, "/sw.js"), await status_of(page, OLD_LATE)) == (404, 200)


async def test_a_browser_asks_for_a_page_again_and_for_its_chunks_never(
    daemon: RunningDaemon, browser: Browser
) -> None:
    await live(daemon, OLD)
    page = await opened(browser, daemon)
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Network.enable")
    came = heard(devtools, "Network.responseReceivedExtraInfo")
    cached = heard(devtools, "Network.requestServedFromCache")
    await page.goto("/")
    await eventually(page, "document.body.dataset.ready")
    await daemon.eventually(lambda: came and cached)  # the browser tells of them when it comes to that
    assert [answer["statusCode"] for answer in came] == [304], "only the page was asked for"
    assert len(cached) == 1


async def test_views_of_the_application_are_pages_and_missing_chunks_are_not(
    daemon: RunningDaemon, browser: Browser
) -> None:
    await live(daemon, OLD)
    page = await opened(browser, daemon, "/users/jane.doe")
    await expect(page.locator("#path")).to_have_text("/users/jane.doe")
    assert await status_of(page, "/v1.2") == 200
    assert await status_of(page, f"/assets/never-{OLD}.js") == 404
    failed = "path => import(path).then(() => '', error => error.message)"
    assert "Failed to fetch" in await page.evaluate(failed, f"/assets/never-{OLD}.js")
