"""The dashboard's pages of storage: what uses the disk, what is kept, and what a full disk looks like."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scalemesh.services.disk_room import Level
from tests.whole.control_host import ControlHost, open_control_host


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[ControlHost]:
    async with open_control_host(tmp_path) as opened:
        await opened.sign_in()
        yield opened


async def page(host: ControlHost, path: str, *, status: int = 200) -> str:
    answer = await host.anybody.get(path)
    text = await answer.text()
    assert answer.status == status, text
    return text


async def post(host: ControlHost, path: str, form: dict[str, str], *, status: int = 303) -> str:
    answer = await host.anybody.post(path, data=form, headers=host.origin, allow_redirects=False)
    assert answer.status == status, await answer.text()
    return answer.headers.get("Location", "") or await answer.text()


async def test_the_page_tells_projects_kinds_and_what_can_go(host: ControlHost) -> None:
    await host.life.ready(b"one page")
    text = await page(host, "/storage")
    assert "Files of deployments" in text
    assert 'href="/projects/site"' in text
    assert "Nothing now." in text
    assert text.count('<p class="notice') == 0
    for _ in range(2):
        await host.life.ready(b"one page")
    await host.life.services.storage.windows.purge((await host.life.project()).id)
    await host.ask("PATCH", "/projects/site", {"retention": {"production": 1}})
    text = await page(host, "/storage")
    assert "Deployments that no rule keeps" in text
    assert "Logs whose time is over" not in text


async def test_free_it_now_does_a_round_and_says_so(host: ControlHost) -> None:
    assert await post(host, "/storage/gc", {}) == "/storage?did=freed"
    assert host.life.services.upkeep.janitor.round.number == 1
    assert "Last looked" in await page(host, "/storage?did=freed")


@pytest.mark.parametrize(("level", "words"), [(Level.HIGH, "builds wait"), (Level.LAST, "nothing new is taken")])
async def test_every_page_says_that_the_disk_is_short_of_room(host: ControlHost, level: Level, words: str) -> None:
    host.life.services.storage.disk.level = level
    for path in ("/", "/account", "/storage"):
        assert words in await page(host, path)


async def test_a_deployment_that_waits_says_that_it_waits_for_room(host: ControlHost) -> None:
    host.life.services.storage.disk.level = Level.HIGH
    waiting = await host.deploy()
    assert "It waits for room on the disk" in await page(host, f"/deployments/{waiting}")
    assert any("Waiting for room" in line for line in await until_logged(host, waiting))


async def until_logged(host: ControlHost, deployment: str) -> list[str]:
    while len(lines := (await host.ask("GET", f"/deployments/{deployment}/logs"))["lines"]) < 2:
        pass
    return [line["text"] for line in lines]


async def test_keep_and_stop_keeping_are_a_button_and_a_mark(host: ControlHost) -> None:
    ready = await host.life.ready(b"one")
    assert "Kept" not in await page(host, "/projects/site")
    assert await post(host, f"/deployments/{ready}/keep", {"kept": "yes"}) == f"/deployments/{ready}?did=kept"
    assert "Stop keeping" in await page(host, f"/deployments/{ready}")
    assert ">Kept<" in await page(host, "/projects/site")
    await post(host, f"/deployments/{ready}/keep", {"kept": ""})
    assert ">Kept<" not in await page(host, "/projects/site")


async def test_what_a_project_keeps_is_set_and_taken_back_by_its_settings(host: ControlHost) -> None:
    await host.ask("POST", "/projects", {"name": "one"}, status=201)
    await post(host, "/projects/one/retention", {"production": "5", "preview_days": "0"})
    found = (await host.ask("GET", "/projects/one"))["retention"]
    assert found == {"production": 5, "preview_days": 0, "failed_days": None, "log_days": None}
    await post(host, "/projects/one/retention", {"production": ""})
    assert set((await host.ask("GET", "/projects/one"))["retention"].values()) == {None}


@pytest.mark.parametrize("text", ["-1", "ten", "100001", "1.5", "9" * 30])
async def test_a_number_that_is_none_is_told_at_its_field_and_the_rest_stays_typed(
    host: ControlHost, text: str
) -> None:
    await host.ask("POST", "/projects", {"name": "one"}, status=201)
    shown = await post(host, "/projects/one/retention", {"production": text, "failed_days": "12"}, status=400)
    assert "That is no number" in shown
    assert 'id="production-wrong"' in shown
    assert 'value="12"' in shown
    assert (await host.ask("GET", "/projects/one"))["retention"]["failed_days"] is None


async def test_the_api_refuses_numbers_out_of_bounds_and_changes_only_what_is_named(host: ControlHost) -> None:
    await host.ask("POST", "/projects", {"name": "one"}, status=201)
    await host.ask("PATCH", "/projects/one", {"retention": {"production": 3}})
    await host.ask("PATCH", "/projects/one", {"retention": {"log_days": 9}})
    found = (await host.ask("GET", "/projects/one"))["retention"]
    assert (found["production"], found["log_days"]) == (3, 9)
    for wrong in ({"production": -1}, {"production": 100_001}, {"production": "3"}, {"unknown": 1}, 7):
        await host.ask("PATCH", "/projects/one", {"retention": wrong}, status=400)
    assert (await host.ask("GET", "/projects/one"))["retention"] == found


async def test_a_dry_run_tells_what_would_go_and_a_run_lets_it_go(host: ControlHost) -> None:
    first, second, third = [await host.life.ready(b"version %d" % number) for number in range(3)]
    await host.life.services.storage.windows.purge((await host.life.project()).id)
    await host.ask("PATCH", "/projects/site", {"retention": {"production": 1}})
    found = await host.ask("POST", "/gc", {"dry_run": True})
    assert [one["deployment"] for one in found["deployments"]] == [first]
    assert found["deployments"][0]["rule"] == "production"
    assert found["deployments"][0]["size_bytes"] > 0
    done = await host.ask("POST", "/gc", status=202)
    while done["running"]:
        done = await host.ask("GET", "/gc")
    assert {one["part"]: one["count"] for one in done["parts"]}["deployments"] == 1
    assert await host.ask("GET", "/gc") == done
    left = {one["id"] for one in (await host.ask("GET", "/deployments"))["deployments"]}
    assert left == {second, third}
