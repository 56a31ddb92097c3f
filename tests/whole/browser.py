"""A real browser on the dashboard of a real daemon."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.whole.daemon import RunningDaemon

#: The last ones keep it from asking anybody outside for anything.
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-default-apps"),
    *("--disable-domain-reliability", "--no-proxy-server"),
    "--disable-features=OptimizationHints,MediaRouter,Translate,DialMediaRouteProvider",
)
#: What it does not find by then is not there. A busy machine has been seen to need more than Playwright's own 5 s.
FIND_MS: Final = 30_000
ACT_MS: Final = 40_000
LAUNCH_MS: Final = 60_000
#: Of tests that have a window in the browser of the run: it lives in the loop of the run.
ONE_BROWSER = pytest.mark.asyncio(loop_scope="session")
CHROMIUM = os.environ.get("SCALEMESH_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    expect.set_options(timeout=FIND_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), timeout=LAUNCH_MS)
        try:
            yield browser
        finally:
            await browser.close()


async def welcome_link(daemon: RunningDaemon) -> str:
    """A fresh one, on the port that the daemon listens on."""
    path = urlsplit((await daemon.call("POST", "/welcome"))["url"]).path
    return f"http://localhost:{daemon.port}{path}"


async def signed_in(browser: Browser, daemon: RunningDaemon, **wishes: object) -> BrowserContext:
    """A window of somebody who has come in by a welcome link; *wishes* are Playwright's own for a context."""
    context = await browser.new_context(base_url=f"http://localhost:{daemon.port}", **wishes)  # type: ignore[arg-type]
    context.set_default_timeout(ACT_MS)
    page = await context.new_page()
    await page.goto(await welcome_link(daemon))
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/welcome/password")
    await page.close()
    return context


def complaints_of(page: Page) -> list[str]:
    """Fills with what the page's scripts and its security policy complain about."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on(
        "console",
        lambda said: found.append(f"{said.text} {said.location['url']}") if said.type in ("error", "warning") else None,
    )
    return found


async def sideways_px(page: Page) -> int:
    """How far the page can be scrolled sideways."""
    return int(await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


async def eventually(page: Page, expression: str, within_s: float = 30) -> None:
    """Wait until the JavaScript *expression* is true on the page."""
    async with asyncio.timeout(within_s + 5):
        await page.wait_for_function(expression, timeout=within_s * 1000)
