"""Makes docs/images/dashboard.png, deployment.png and storage.png of real builds: python -m tests.whole.screenshot."""

import asyncio
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from playwright.async_api import Browser, expect

from tests.whole.browser import open_browser, signed_in
from tests.whole.daemon import RunningDaemon, git, repository, running_daemon

ROOT: Final = Path(__file__).parents[2]
IMAGES: Final = ROOT / "docs" / "images"
HELLO: Final = {
    str(path.relative_to(ROOT / "examples" / "hello")): path.read_bytes()
    for path in sorted((ROOT / "examples" / "hello").rglob("*"))
    if path.is_file() and "node_modules" not in path.parts
}
AUTHOR: Final = "A developer <developer@example.com>"
PAGE: Final = {"index.html": "<!doctype html><title>Demo</title><h1>Demo</h1>"}
BROKEN: Final = {
    "index.html": "x",
    "vercel.json": '{"buildCommand": "echo Cannot find ./menu.js; exit 1", "outputDirectory": "."}',
}


async def main() -> None:
    """Build some sites, look at them, and keep three pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="demo-") as home:
        bundle = os.environ.get("NODE_EXTRA_CA_CERTS", "")
        async with running_daemon(Path(home), builds=f'ca_bundle = "{bundle}"') as daemon, open_browser() as browser:
            shown = await deploy(daemon, "hello", HELLO, "Draw the mesh from the commit's own hash", "ready")
            await deploy(daemon, "handbook", PAGE, "Add the chapter on backups", "ready")
            await deploy(daemon, "garden", PAGE, "First light", "ready")
            await deploy(daemon, "garden", BROKEN, "Move the menu into a file of its own", "failed")
            await deploy(daemon, "release-notes", PAGE, "Notes for version 2.4", "ready")
            await deploy(daemon, "talks", PAGE, "Slides: what a static site needs", "ready")
            await deploy(daemon, "weather-map", PAGE, "Colours that everybody can tell apart", "ready")
            await take(browser, daemon, "/", "dashboard", height=490)
            await take(browser, daemon, f"/deployments/{shown}", "deployment", height=900)
            await daemon.call("POST", "/chores", {"kind": "verify"})
            await daemon.eventually(lambda: is_over(daemon), 60)
            await take(browser, daemon, "/storage", "storage", height=1000)


async def deploy(daemon: RunningDaemon, name: str, files: Mapping[str, str | bytes], message: str, state: str) -> str:
    """Commit *files* under *message*, deploy them, wait for *state*; the deployment's id."""
    url, work = repository(daemon.home, name, files), daemon.home / "work" / name
    git("-C", str(work), "commit", "-q", "--amend", "--author", AUTHOR, "-m", message)
    git("-C", str(work), "push", "-q", "--force", "origin", "main")
    deployment = await daemon.deploy(url)
    await daemon.until(deployment, state, within_s=120)
    return deployment


async def is_over(daemon: RunningDaemon) -> bool:
    return bool((await daemon.call("GET", "/chores/current"))["state"] != "running")


async def take(browser: Browser, daemon: RunningDaemon, path: str, name: str, *, height: int) -> None:
    size = {"width": 1280, "height": height}
    context = await signed_in(browser, daemon, viewport=size, device_scale_factor=2)
    page = await context.new_page()
    await page.goto(path)
    if path.startswith("/deployments/"):
        await expect(page.locator("#log .line").last).to_contain_text("Ready")
        await page.locator("#log").hover()
        await page.mouse.wheel(0, 10_000)
        await expect(page.locator("#log .line").last).to_be_in_viewport()
        await page.mouse.move(0, 0)
    await page.screenshot(path=IMAGES / f"{name}.png")
    await context.close()


if __name__ == "__main__":
    asyncio.run(main())
