"""The live log in a real browser: long, cut off, coloured, searched, linked to."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.async_api import Browser, Page, WebSocketRoute, expect

from scalemesh.web.ui import sgr
from tests.whole.browser import CHROMIUM, ONE_BROWSER, signed_in
from tests.whole.daemon import RunningDaemon, repository
from tests.whole.sites import PAUSE, let_go_on

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.timeout(300),
    ONE_BROWSER,
]
LINES = 100_000
MOST_ELEMENTS = 12_000
PRINTS = {"buildCommand": f"seq -f 'this is line %.0f of many' {LINES}", "outputDirectory": "public"}
TICKS = 120
TALKS = {
    "buildCommand": f"for i in $(seq {TICKS}); do echo tick $i; sleep 0.05; done",
    "outputDirectory": "public",
}
PAUSES = TALKS | {"buildCommand": TALKS["buildCommand"].replace("echo", f"[ $i = 61 ] && {PAUSE}; echo")}
PARTS = st.lists(st.one_of(st.integers(0, 300).map(str), st.sampled_from(["38;5", "48;2", "0", ""])), max_size=8)
TEXTS = st.lists(st.one_of(st.text("ab <&", max_size=4), PARTS.map(lambda codes: f"\x1b[{';'.join(codes)}m")))


async def opened(browser: Browser, daemon: RunningDaemon, path: str = "/") -> Page:
    page = await (await signed_in(browser, daemon, viewport={"width": 1000, "height": 1000})).new_page()
    await page.goto(path)
    return page


async def test_a_hundred_thousand_lines_stay_readable(daemon: RunningDaemon, browser: Browser) -> None:
    url = repository(daemon.home, "long", {"public/index.html": "x", "vercel.json": json.dumps(PRINTS)})
    deployment = await daemon.deploy(url)
    page = await opened(browser, daemon, f"/deployments/{deployment}")
    await daemon.until(deployment, "ready")
    last = len(await daemon.lines(deployment))
    assert last >= LINES

    await expect(page.locator(f"#L{last}")).to_be_in_viewport(timeout=60_000)  # followed to its end
    assert await page.evaluate("document.querySelectorAll('*').length") < MOST_ELEMENTS
    await page.locator("#log").hover()
    await page.mouse.wheel(0, -3000)
    await expect(page.locator(f"#L{last}")).not_to_be_in_viewport()

    await page.get_by_role("searchbox").fill("LINE 61234 of")
    await expect(page.locator("#hits")).to_have_text("1 of 1")
    await page.keyboard.press("Enter")
    found = page.locator(".line.now")
    await expect(found).to_be_in_viewport()
    await expect(found).to_contain_text("this is line 61234 of many")

    await page.goto(f"/deployments/{deployment}#L50000")
    await page.reload()
    await expect(page.locator("#L50000")).to_be_in_viewport(timeout=60_000)
    assert await page.evaluate("document.querySelectorAll('*').length") < MOST_ELEMENTS


async def test_the_tail_is_followed_until_the_reader_scrolls_up(daemon: RunningDaemon, browser: Browser) -> None:
    url = repository(daemon.home, "talks", {"public/index.html": "x", "vercel.json": json.dumps(PAUSES)})
    page = await opened(browser, daemon)
    deployment = await daemon.deploy(url)
    await page.goto(f"/deployments/{deployment}")
    await expect(page.get_by_text("tick 60", exact=True)).to_be_in_viewport(timeout=50_000)
    await page.locator("#log").focus()
    await page.keyboard.press("Home")
    back = page.get_by_role("button", name="Follow")
    await expect(back).to_be_visible()
    await expect(page.locator("#L1")).to_be_in_viewport()
    let_go_on(daemon.data / "jobs", deployment)
    await expect(page.get_by_text("tick 90", exact=True)).to_be_attached()  # it comes, and nobody is led to it
    await expect(page.locator("#L1")).to_be_in_viewport()
    await back.click()
    await expect(page.get_by_text(f"tick {TICKS}", exact=True)).to_be_in_viewport(timeout=20_000)


async def test_a_cut_connection_loses_and_doubles_no_line(daemon: RunningDaemon, browser: Browser) -> None:
    url = repository(daemon.home, "cut", {"public/index.html": "x", "vercel.json": json.dumps(TALKS)})
    page = await opened(browser, daemon)
    connections: list[str] = []

    async def cut_after_one(route: WebSocketRoute) -> None:
        connections.append(route.url)
        server = route.connect_to_server()

        async def pass_on(message: str | bytes) -> None:
            route.send(message)
            if len(connections) < 4:
                await server.close(code=1001)
                await route.close(code=1001)

        server.on_message(pass_on)

    await page.route_web_socket("**/live?*", cut_after_one)
    deployment = await daemon.deploy(url)
    await page.goto(f"/deployments/{deployment}")
    await expect(page.locator("#summary .badge.ready").first).to_be_visible(timeout=60_000)
    lines = await daemon.lines(deployment)
    await expect(page.locator(f"#L{len(lines)}")).to_be_attached(timeout=20_000)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.get_by_role("button", name="Copy").click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines() == [sgr.plain(line["text"]) for line in lines]
    assert len(connections) >= 4
    assert all(int(url.rsplit("=", 1)[1]) > 0 for url in connections[1:])


async def test_served_and_live_lines_wear_the_same_colours(daemon: RunningDaemon, browser: Browser) -> None:
    """Both programs that read colour sequences, one in Python and one in JavaScript, find the same in any text."""
    page = await opened(browser, daemon, "/account")
    style = await page.locator("link[rel=stylesheet]").get_attribute("href")
    texts: list[str] = []

    @settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(TEXTS)
    def collect(parts: list[str]) -> None:
        texts.append("".join(parts))

    collect()
    read = "async ([url, texts]) => { const { spans } = await import(url); return texts.map((text) => spans(text)) }"
    theirs = await page.evaluate(read, [str(style).replace("style.css", "sgr.js"), texts])
    assert theirs == [[list(span) for span in sgr.spans(text)] for text in texts]
