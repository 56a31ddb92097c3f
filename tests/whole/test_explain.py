"""Explain as a person meets it: by the API, by the command, and on the page of a project."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from scalemesh.cli.main import run
from scalemesh.rules import Dialect
from scalemesh.values import State
from tests.whole.browser import CHROMIUM, ONE_BROWSER, complaints_of, sideways_px, signed_in
from tests.whole.control_host import ControlHost, open_control_host
from tests.whole.daemon import RunningDaemon

with_browser = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.timeout(300),
    ONE_BROWSER,
]
SITE = {"index.html": b"<h1>home</h1>", "about.html": b"<h1>about</h1>", "404.html": b"<h1>lost</h1>"}


@pytest.fixture
async def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ControlHost]:
    async with open_control_host(tmp_path / "data") as opened:
        monkeypatch.setenv("SCALEMESH_URL", opened.url)
        monkeypatch.setenv("SCALEMESH_TOKEN", (await opened.token())["Authorization"].removeprefix("Bearer "))
        monkeypatch.chdir(tmp_path)
        yield opened


async def call(*arguments: str) -> int:
    return await asyncio.to_thread(run, arguments)


async def live(host: ControlHost) -> str:
    """A site of one page at site.localhost."""
    deployment = await host.deploy()
    await host.life.built(deployment)  # type: ignore[arg-type]
    await host.life.until(deployment, State.READY)  # type: ignore[arg-type]
    await host.life.last_words(deployment)  # type: ignore[arg-type]
    return deployment


async def test_the_api_tells_the_decision_to_those_who_are_signed_in(host: ControlHost) -> None:
    deployment = await live(host)
    asked = {"url": "http://site.localhost:8080/#top", "headers": [["If-None-Match", "*"]]}
    told = await host.ask("POST", "/explain", asked)
    assert (told["status"], told["deployment"], told["file"], told["target"]) == (304, deployment, "index.html", "/")
    assert (await host.ask("POST", "/explain", {"url": "nobody.localhost"}))["status"] == 404
    assert (await host.ask("POST", "/explain", {"url": "localhost/api/v1/tokens"}))["because"] == "control host"
    answer = await host.anybody.post("/api/v1/explain", json=asked)
    assert answer.status == 401


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"url": "/about"},
        {"url": "ftp://site.localhost/"},
        {"url": "http://ann:secret@site.localhost/"},
        {"url": "site.localhost/" + "x" * 9000},
        {"url": "site.localhost", "method": "GET /"},
        {"url": "site.localhost", "headers": [["X"]]},
        {"url": "site.localhost", "headers": [["X Y", "1"]]},
        {"url": "site.localhost", "headers": [["X", "1\r\nY: 2"]]},
        {"url": "site.localhost", "headers": [["Host", "a"], ["host", "b"]]},
        {"url": "site.localhost", "headers": [["X", "1"]] * 101},
    ],
)
async def test_what_no_client_could_send_is_refused(host: ControlHost, asked: object) -> None:
    refused = await host.ask("POST", "/explain", asked, status=400)
    assert refused["code"] == "invalid"
    assert "secret" not in json.dumps(refused)


async def test_the_command_tells_it_in_lines_and_as_json(host: ControlHost, capsys: pytest.CaptureFixture[str]) -> None:
    deployment = await live(host)
    assert await call("explain", "site.localhost/", "-H", "Accept: text/html", "--method", "head") == 0
    out = capsys.readouterr().out
    assert f"site.localhost leads to the production of the project site: {deployment}.\n200  default" in out
    assert "  + " in out
    assert "  ETag: " in out
    assert "Browsers and caches may keep it, and ask each time whether it still holds." in out
    assert "\x1b" not in out
    assert await call("explain", "site.localhost/nothing.js", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == await host.ask("POST", "/explain", {"url": "site.localhost/nothing.js"})
    assert told["status"] == 404
    assert await call("explain", "site.localhost", "-H", "nonsense") == 2


async def test_a_rule_of_a_deployed_file_is_told_with_its_line_as_it_was_before_the_deploy(
    host: ControlHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`rules` before, `explain` after, and the visit's own answer say the same."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.html").write_bytes(b"<h1>home</h1>")
    rules = '{\n  "redirects": [\n    {"source": "/old", "destination": "/", "permanent": false}\n  ]\n}\n'
    (tmp_path / "web" / "vercel.json").write_text(rules)
    assert await call("rules", "web", "--json") == 0
    before = json.loads(capsys.readouterr().out)["listed"]
    assert [(row["kind"], row["matches"], row["file"], row["line"]) for row in before] == [
        ("redirect", "/old", "vercel.json", 3)
    ]
    assert await call("deploy", "web", "--prebuilt") == 0
    told = await host.ask("POST", "/explain", {"url": "web.localhost/old"})
    assert (told["status"], told["because"]) == (307, "vercel.json:3")
    assert [(step["file"], step["line"], step["matched"]) for step in told["steps"]] == [("vercel.json", 3, True)]


async def test_a_deployment_by_the_command_takes_the_dialect_that_is_named(
    host: ControlHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "web").mkdir()
    for name, data in SITE.items():
        (tmp_path / "web" / name).write_bytes(data)
    assert await call("deploy", "web", "--prebuilt", "--dialect", "cloudflare") == 0
    assert await call("explain", "web.localhost/about", "--json") == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["dialect"] == "cloudflare"
    assert (await host.ask("GET", "/projects/web"))["settings"]["dialect"] is None
    assert await call("deploy", "web", "--prebuilt", "--dialect", "apache") == 2
    assert await call("project", "change", "web", "--dialect", "vercel") == 0
    assert (await host.ask("GET", "/projects/web"))["settings"]["dialect"] == "vercel"
    assert await call("project", "change", "web", "--dialect", "apache") == 1
    assert all(dialect in capsys.readouterr().err for dialect in [Dialect.NETLIFY])
    assert await call("project", "change", "web", "--dialect", "") == 0
    assert (await host.ask("GET", "/projects/web"))["settings"]["dialect"] is None


class TestPages:
    pytestmark = with_browser

    async def test_the_page_explains_a_path_of_the_site_also_without_scripts(
        self, daemon: RunningDaemon, browser: Browser
    ) -> None:
        deployment = await daemon.upload("shop", "prebuilt", SITE)
        await daemon.until(deployment, "ready")
        for wishes in ({}, {"java_script_enabled": False, "viewport": {"width": 390, "height": 844}}):
            page = await (await signed_in(browser, daemon, **wishes)).new_page()
            complaints = complaints_of(page)
            await page.goto("/projects/shop")
            await page.get_by_role("link", name="Explain").click()
            await page.get_by_label("Address").fill("/about")
            await page.get_by_text("Headers of the visit").click()
            await page.get_by_role("textbox", name="Headers").fill("Range: bytes=0-3\nX-A: 1")
            await page.get_by_role("button", name="Explain").click()
            await expect(page.get_by_role("heading", name="206 GET /about")).to_be_visible()
            await expect(page.get_by_text("/about.html").first).to_be_visible()
            await expect(page.locator(".sent")).to_contain_text("bytes 0-3/14")
            await expect(page.get_by_role("textbox", name="Headers")).to_have_value("Range: bytes=0-3\nX-A: 1")
            assert complaints == []

    @pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (390, "light"), (1280, "dark")])
    async def test_nothing_of_the_page_is_wider_than_the_screen(
        self, daemon: RunningDaemon, browser: Browser, width: int, scheme: str
    ) -> None:
        await daemon.until(await daemon.upload("shop", "prebuilt", SITE), "ready")
        wishes = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
        page = await (await signed_in(browser, daemon, **wishes)).new_page()
        for path in ("", f"?url=/{'very-long-' * 40}", "?url=/about?a=<b>&url=x", "?url=http://localhost/"):
            await page.goto(f"/projects/shop/explain{path}")
            assert await sideways_px(page) == 0

    async def test_a_mistake_stands_at_its_field(self, daemon: RunningDaemon, browser: Browser) -> None:
        await daemon.call("POST", "/projects", {"name": "shop"})
        page = await (await signed_in(browser, daemon)).new_page()
        await page.goto("/projects/shop/explain?url=ftp://x/")
        await expect(page.locator("#url-wrong")).to_contain_text("http://")
        await page.get_by_label("Address").fill("/")
        await page.get_by_text("Headers of the visit").click()
        await page.get_by_role("textbox", name="Headers").fill("nonsense")
        await page.get_by_role("button", name="Explain").click()
        await expect(page.locator("#headers-wrong")).to_be_visible()

    async def test_the_dialect_is_chosen_on_the_settings_page(self, daemon: RunningDaemon, browser: Browser) -> None:
        await daemon.call("POST", "/projects", {"name": "shop"})
        page = await (await signed_in(browser, daemon)).new_page()
        for label, dialect in (("Netlify", "netlify"), ("Detect", None)):
            await page.goto("/projects/shop/settings")
            await page.get_by_label("Dialect").select_option(label=label)
            await page.get_by_role("button", name="Save", exact=True).click()
            await expect(page.get_by_text("Saved.")).to_be_visible()
            await expect(page.get_by_label("Dialect")).to_have_value(dialect or "")
            assert (await daemon.call("GET", "/projects/shop"))["settings"]["dialect"] == dialect
