"""The dashboard as a person uses it: in a real browser, on a real daemon, with real builds."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.whole.browser import CHROMIUM, ONE_BROWSER, complaints_of, eventually, sideways_px, signed_in, welcome_link
from tests.whole.daemon import RunningDaemon, repository, running_daemon

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.timeout(300),
    ONE_BROWSER,
]
HOSTILE = "<img src=x onerror=document.title='taken'>"
FAILS = {"buildCommand": f'echo "{HOSTILE}"; echo it is broken; exit 7', "outputDirectory": "public"}
CODES = [*range(30, 38), *range(90, 98), *range(40, 48), *range(100, 108), 2, 7, "2;41", "34;41", "7;33"]
PAINTS = {
    "buildCommand": "; ".join([*(f"printf '\\033[{code}mcolour {code}\\033[0m\\n'" for code in CODES), "exit 7"]),
    "outputDirectory": "public",
}
READY = ".badge.ready"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningDaemon]:
    """For tests with projects of their own, that change nothing else. Nobody sets a password here."""
    async with running_daemon(tmp_path_factory.mktemp("shared")) as daemon:
        yield daemon


async def projects_of(daemon: RunningDaemon) -> list[str]:
    return [project["name"] for project in (await daemon.call("GET", "/projects"))["projects"]]


async def test_somebody_goes_from_the_welcome_link_to_a_live_site(daemon: RunningDaemon, browser: Browser) -> None:
    url = repository(daemon.home, "garden", {"index.html": "<h1>Grown from Git</h1>"})
    page = await browser.new_page()
    complaints = complaints_of(page)
    await page.goto(await welcome_link(daemon))
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("link", name="Not now").click()
    await page.get_by_role("link", name="New project").click()
    await page.get_by_label("Git URL").fill(url)
    assert await page.get_by_label("Name").get_attribute("placeholder") == "garden"
    await page.get_by_role("button", name="Create and deploy").click()
    await expect(page.locator("#log .line").first).to_be_visible()
    await expect(page.locator(f"#summary {READY}").first).to_be_visible(timeout=50_000)  # without a reload
    await expect(page.locator("#status")).to_contain_text("Ready")
    assert complaints == []
    await page.get_by_role("link", name="Visit").click()
    await expect(page.get_by_role("heading", name="Grown from Git")).to_be_visible()
    assert page.url == f"http://garden.localhost:{daemon.port}/"
    await page.goto(f"http://localhost:{daemon.port}/")
    await expect(page.locator(".card").filter(has_text="garden").locator(READY)).to_be_visible()


async def test_a_welcome_link_is_used_up_by_its_button_alone(daemon: RunningDaemon, browser: Browser) -> None:
    link = await welcome_link(daemon)
    page = await browser.new_page()
    for _ in range(2):
        await page.goto(link)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_label("Password").fill("a long enough one")
    await page.get_by_role("button", name="Set the password").click()
    await expect(page.get_by_role("heading", name="From a Git URL to a live site")).to_be_visible()
    await page.goto(link)
    await expect(page.get_by_role("heading", name="This link is used up")).to_be_visible()
    await page.goto(f"http://localhost:{daemon.port}/account")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await page.goto(f"http://localhost:{daemon.port}/new?a=b")
    await page.get_by_label("Password").fill("a wrong one, surely")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_text("name and password do not fit")).to_be_visible()
    await page.get_by_label("Password").fill("a long enough one")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="New project")).to_be_visible()
    assert page.url.endswith("/new?a=b")


@pytest.mark.parametrize("target", ["https://example.com/", "//example.com/", "/\\example.com/"])
async def test_signing_in_never_leads_away(shared: RunningDaemon, browser: Browser, target: str) -> None:
    context = await signed_in(browser, shared)
    page = await context.new_page()
    await page.goto(f"/sign-in?next={target}")
    assert page.url == f"http://localhost:{shared.port}/"


async def test_a_mistake_is_told_at_its_field(shared: RunningDaemon, browser: Browser) -> None:
    page = await (await signed_in(browser, shared)).new_page()
    await page.goto("/new")
    await page.get_by_label("Git URL").fill("ftp://example.com/x.git")
    await page.get_by_label("Name").fill("Not_a_name")
    await page.get_by_role("button", name="Create and deploy").click()
    name = page.get_by_label("Name")
    await expect(name).to_have_attribute("aria-invalid", "true")
    await expect(name).to_have_value("Not_a_name")
    await name.fill("fine")
    await page.get_by_role("button", name="Create and deploy").click()
    await expect(page.get_by_label("Git URL")).to_have_attribute("aria-invalid", "true")
    await expect(page.locator("#git_url-wrong")).to_contain_text("allowed: https, ssh")


async def test_a_failed_build_says_why_and_its_log_is_text(shared: RunningDaemon, browser: Browser) -> None:
    url = repository(shared.home, "broken", {"public/index.html": "x", "vercel.json": json.dumps(FAILS)})
    page = await (await signed_in(browser, shared)).new_page()
    await page.goto(f"/deployments/{await shared.deploy(url)}")
    failure = page.get_by_role("region", name="A command failed")
    await expect(failure).to_be_visible(timeout=50_000)
    await expect(failure).to_contain_text("command_failed")
    line = page.locator("#log .line").filter(has_text="onerror").last
    await expect(line).to_contain_text(HOSTILE)
    await page.reload()
    await expect(line).to_contain_text(HOSTILE)
    assert await page.locator("#log img").count() == 0
    assert "taken" not in await page.title()


async def test_everything_but_live_updates_works_without_scripts(shared: RunningDaemon, browser: Browser) -> None:
    url = repository(shared.home, "plain", {"index.html": "one"})
    context = await signed_in(browser, shared, java_script_enabled=False)
    page = await context.new_page()
    await page.goto("/new")
    await page.get_by_label("Git URL").fill(url)
    first = await deployed_by(page, "Create and deploy")
    await shared.until(first, "ready")
    await page.goto("/projects/plain")
    second = await deployed_by(page, "Deploy")
    await shared.until(second, "ready")
    await page.reload()
    await expect(page.locator("#L1")).to_be_visible()
    await page.get_by_role("searchbox").fill("QUEUED")
    await page.get_by_role("button", name="Search").click()
    await expect(page.get_by_text("1 line with")).to_be_visible()

    await page.goto("/projects/plain")
    await page.get_by_role("button", name="Roll back…").click()
    await page.get_by_role("button", name="Roll back", exact=True).click()
    await expect(page.get_by_text("Held by hand")).to_be_visible()
    assert (await shared.call("GET", "/projects/plain"))["live"] == first
    await page.goto(f"/deployments/{second}")
    await page.get_by_role("button", name="Promote…").click()
    await page.get_by_role("button", name="Promote", exact=True).click()
    await shared.eventually(lambda: is_live(shared, second))
    await page.goto(f"/deployments/{first}")
    await page.get_by_role("button", name="Delete…").click()
    await page.get_by_role("button", name="Delete", exact=True).click()
    await expect(page.locator(".row")).to_have_count(1)


async def deployed_by(page: Page, button: str) -> str:
    """The deployment that the button begins, on whose page the browser is afterwards."""
    await page.get_by_role("button", name=button, exact=True).click()
    await page.wait_for_url("**/deployments/*")
    return page.url.rsplit("/", 1)[1]


async def is_live(daemon: RunningDaemon, deployment: str) -> bool:
    return bool((await daemon.get(deployment))["is_live"])


async def test_variables_are_set_and_removed_and_never_shown(shared: RunningDaemon, browser: Browser) -> None:
    await shared.call("POST", "/projects", {"name": "vault"})
    page = await (await signed_in(browser, shared)).new_page()
    await page.goto("/projects/vault/environment")
    await page.get_by_label("Name").fill("API_KEY")
    await page.get_by_label("Value").fill("s3cret-value")
    await page.get_by_label("Preview").uncheck()
    await page.get_by_role("button", name="Save", exact=True).click()
    row = page.locator(".row").filter(has_text="API_KEY")
    await expect(row).to_contain_text("Production")
    await expect(row).not_to_contain_text("Preview")
    assert "s3cret-value" not in await page.content()
    await row.get_by_role("button", name="Remove…").click()
    await page.get_by_role("button", name="Remove", exact=True).click()
    await expect(page.get_by_text("None yet.")).to_be_visible()


async def test_a_token_is_shown_once_and_works_until_it_is_deleted(shared: RunningDaemon, browser: Browser) -> None:
    context = await signed_in(browser, shared)
    page = await context.new_page()
    await page.goto("/account")
    await page.get_by_label("Name of a new token").fill("laptop")
    await page.get_by_role("button", name="Make a token").click()
    token = await page.locator("#token").text_content()
    bearer = {"Authorization": f"Bearer {token}"}
    outside = await browser.new_context(base_url=f"http://localhost:{shared.port}", extra_http_headers=bearer)
    assert (await outside.request.get("/api/v1/projects")).status == 200
    await page.goto("/account")
    assert str(token) not in await page.content()
    await page.get_by_role("button", name="Delete…").click()
    await page.get_by_role("button", name="Delete", exact=True).click()
    await expect(page.get_by_role("button", name="Delete…")).to_have_count(0)
    assert (await outside.request.get("/api/v1/projects")).status == 401


async def test_a_project_goes_when_its_name_is_typed(shared: RunningDaemon, browser: Browser) -> None:
    await shared.call("POST", "/projects", {"name": "gone-soon"})
    page = await (await signed_in(browser, shared)).new_page()
    await page.goto("/projects/gone-soon/settings")
    confirm = page.get_by_label("Type gone-soon to confirm")
    await confirm.fill("something else")
    await page.get_by_role("button", name="Delete the project").click()
    await expect(page.get_by_text("That is not the project's name")).to_be_visible()
    await confirm.fill("gone-soon")
    await page.get_by_role("button", name="Delete the project").click()
    await expect(page.get_by_text("The project is gone")).to_be_visible()
    assert "gone-soon" not in await projects_of(shared)


async def test_a_form_of_another_site_is_refused_with_a_page(shared: RunningDaemon, browser: Browser) -> None:
    context = await signed_in(browser, shared)
    before = await projects_of(shared)
    form: dict[str, str | float | bool] = {"git_url": "https://example.com/x.git"}
    foreign = {"Origin": f"http://evil.localhost:{shared.port}"}
    answer = await context.request.post("/new", form=form, headers=foreign)
    assert answer.status == 403
    assert "text/html" in answer.headers["content-type"]
    assert await projects_of(shared) == before


async def test_static_files_are_cached_for_ever_under_their_hash(shared: RunningDaemon, browser: Browser) -> None:
    context = await signed_in(browser, shared)
    page = await context.new_page()
    await page.goto("/")
    style = str(await page.locator("link[rel=stylesheet]").get_attribute("href"))
    answer = await context.request.get(style)
    assert (answer.status, answer.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
    for wrong in (style.replace("style.css", "none.css"), "/static/000000000000/style.css", "/static/../pages.py"):
        assert (await context.request.get(wrong)).status == 404


async def test_nobody_signed_in_sees_nothing(shared: RunningDaemon, browser: Browser) -> None:
    await shared.call("POST", "/projects", {"name": "mine"})
    page = await (await browser.new_context(base_url=f"http://localhost:{shared.port}")).new_page()
    for path in ("/", "/new", "/projects/mine", "/projects/mine/settings", "/deployments/dpl_x", "/account"):
        await page.goto(path)
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert "mine" not in (await page.locator("main").inner_text())


async def test_the_keyboard_alone_deploys(daemon: RunningDaemon, browser: Browser) -> None:
    url = repository(daemon.home, "keys", {"index.html": "typed"})
    page = await (await signed_in(browser, daemon)).new_page()
    await page.goto("/")
    await page.keyboard.press("Tab")
    assert await focused(page) == "Skip to the content"
    await tab_to(page, "New project")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/new")
    await eventually(page, "document.activeElement.id === 'git_url'")
    assert await focused(page) == "git_url"
    await page.keyboard.type(url)
    await tab_to(page, "Create and deploy")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/deployments/*")
    await expect(page.locator(f"#summary {READY}").first).to_be_visible(timeout=50_000)
    await tab_to(page, "log")  # reached, and
    await page.keyboard.press("Tab")  # left again
    assert await focused(page) != "log"
    await page.goto("/projects/keys")
    await tab_to(page, "Roll back…")
    await page.keyboard.press("Enter")
    await eventually(page, "document.activeElement.textContent === 'Stay'")
    await page.keyboard.press("Escape")
    await eventually(page, "document.activeElement.textContent.startsWith('Roll back')")


async def focused(page: Page) -> str:
    """The id of what has the focus, else its text; it can be seen that it has it."""
    found = await page.evaluate(
        """() => {
          const element = document.activeElement
          if (element === document.body) return ['', true]
          const looks = ['', '::after'].map((part) => getComputedStyle(element, part || null).outlineStyle)
          return [element.id || element.textContent.trim(), looks.some((look) => look !== 'none')]
        }"""
    )
    name, is_visible = found
    assert is_visible, f"the focus on {name!r} cannot be seen"
    return str(name)


async def tab_to(page: Page, name: str) -> None:
    for _ in range(40):
        if await focused(page) == name:
            return
        await page.keyboard.press("Tab")
    pytest.fail(f"{name} cannot be reached by Tab")


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_every_page_fits_a_phone_and_can_be_read(daemon: RunningDaemon, browser: Browser, theme: str) -> None:
    name = "a-long-name-for-an-uncommonly-wide-site"
    url = repository(daemon.home, name, {"public/index.html": "x", "vercel.json": json.dumps(PAINTS)})
    deployment = await daemon.deploy(url)
    context = await signed_in(browser, daemon, viewport={"width": 360, "height": 740}, color_scheme=theme)
    page = await context.new_page()
    complaints = complaints_of(page)
    await page.goto(f"/deployments/{deployment}")
    await expect(page.locator(".failure")).to_be_visible(timeout=50_000)
    at = f"/projects/{name}"
    for path in (
        "/",
        "/new",
        at,
        f"{at}/environment",
        f"{at}/explain?url=/",
        f"{at}/settings",
        f"/deployments/{deployment}",
        "/account",
        "/storage",
    ):
        await page.goto(path)
        assert await sideways_px(page) == 0, path
        assert await page.evaluate(FAINT) == [], path
    await page.goto(f"/deployments/{deployment}")
    await expect(page.locator("#log .line span span")).to_have_count(len(CODES))
    assert await page.evaluate(FAINT) == []
    assert complaints == []


#: Texts whose contrast against the colour behind them is under 4.5 : 1 (WCAG 2.2, 1.4.3).
FAINT = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true })
  const parsed = (colour) => {
    canvas.clearRect(0, 0, 1, 1)
    canvas.fillStyle = colour
    canvas.fillRect(0, 0, 1, 1)
    return [...canvas.getImageData(0, 0, 1, 1).data]
  }
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((part) => part / 255).map((part) =>
      part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const colour = parsed(getComputedStyle(element).backgroundColor)
      if (colour[3] === 255) return colour
    }
    return [255, 255, 255, 255]
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  const faint = []
  while (walker.nextNode()) {
    const [text, element] = [walker.currentNode.textContent.trim(), walker.currentNode.parentElement]
    if (!text || !element.checkVisibility() || element.closest('.unseen')) continue
    const pair = [parsed(getComputedStyle(element).color), ground(element)].map(light).sort((a, b) => b - a)
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05)
    if (contrast < 4.5) faint.push(`${text.slice(0, 40)}: ${contrast.toFixed(2)}`)
  }
  return faint
}"""
