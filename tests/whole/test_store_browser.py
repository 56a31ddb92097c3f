"""The store on the page Storage in a real browser: what goes on is seen to go on, and each state fits a phone."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Browser, Page, expect

from tests.rigs.far_store import Door, installed
from tests.whole.browser import ONE_BROWSER, complaints_of, sideways_px, signed_in
from tests.whole.daemon import RunningDaemon, end_all
from tests.whole.test_ui import FAINT

pytestmark = [pytest.mark.timeout(300), ONE_BROWSER]

STORE: Final = """
[store]
kind = "far"
[store.far]
path = "far"
[store.disk]
path = "store"
"""
PHONE: Final = {"width": 360, "height": 740}


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RunningDaemon]:
    """On a store behind a door, with a site in it."""
    plugin = installed(tmp_path / "plugin")
    path = os.pathsep.join(filter(None, (str(plugin), os.environ.get("PYTHONPATH", ""))))
    found = RunningDaemon(tmp_path, tables=STORE, environ={"PYTHONPATH": path})
    try:
        await found.start()
        await found.until(await found.upload("shop", "prebuilt", {"index.html": b"<h1>home</h1>"}), "ready")
        yield found
        await end_all(found)
    finally:
        found.kill_all()


async def can_be_read(page: Page) -> None:
    assert await sideways_px(page) == 0
    assert await page.evaluate(FAINT) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_a_verification_is_seen_to_wait_and_to_end_without_loading_the_page_again(
    daemon: RunningDaemon, browser: Browser, theme: str
) -> None:
    door = Door(daemon.data / "far")
    context = await signed_in(browser, daemon, viewport=PHONE, color_scheme=theme)
    page = await context.new_page()
    complaints = complaints_of(page)
    await page.goto("/storage")
    await can_be_read(page)
    door.shut("read")
    await page.get_by_role("button", name="Verify all files").click()
    panel = page.locator("#store")
    await expect(panel.get_by_text("Waiting: the far store does not answer")).to_be_visible()
    await expect(panel.get_by_role("button", name="Stop")).to_be_visible()
    await can_be_read(page)
    await page.evaluate("window.isTheSame = true")
    door.open()
    await expect(panel.get_by_text("all whole")).to_be_visible(timeout=90_000)
    assert await page.evaluate("window.isTheSame")
    await can_be_read(page)
    assert complaints == []


async def test_a_store_that_is_away_is_told_and_the_page_can_be_read(daemon: RunningDaemon, browser: Browser) -> None:
    Door(daemon.data / "far").shut()
    page = await (await signed_in(browser, daemon, viewport=PHONE)).new_page()
    await page.goto("/storage")
    await expect(page.locator("#store").get_by_text("Away")).to_be_visible()
    await can_be_read(page)
    Door(daemon.data / "far").open()


async def test_without_scripts_the_files_are_verified_and_moved_by_the_keyboard(
    daemon: RunningDaemon, browser: Browser
) -> None:
    page = await (await signed_in(browser, daemon, java_script_enabled=False)).new_page()
    await page.goto("/storage")
    await page.get_by_role("button", name="Move to disk…").press("Enter")
    await page.get_by_role("button", name="Move", exact=True).press("Enter")
    await page.wait_for_url("**/storage#store")
    while not await page.get_by_text("Moved from far to disk").count():
        await page.reload()
    await page.get_by_role("button", name="Verify all files").press("Enter")
    while not await page.get_by_text("all whole").count():
        await page.reload()
    status, body, _ = await daemon.visit("shop.localhost")
    assert (status, body) == (200, "<h1>home</h1>")
