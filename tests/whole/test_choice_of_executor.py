"""Where a project builds is chosen and seen: over HTTP, by the command, on the dashboard's pages."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from scalemesh.cli.main import run
from scalemesh.values import DeploymentId, SourceKind, State
from tests.contracts.executors import EndsWhenTold
from tests.whole.control_host import ControlHost, open_control_host

URL = "https://git.example/a/site"


@pytest.fixture
async def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ControlHost]:
    executors = {"local": EndsWhenTold(), "docker": EndsWhenTold()}
    async with open_control_host(tmp_path / "data", executors=executors) as opened:
        monkeypatch.setenv("SCALEMESH_URL", opened.url)
        monkeypatch.setenv("SCALEMESH_TOKEN", (await opened.token())["Authorization"].removeprefix("Bearer "))
        yield opened


async def call(*arguments: str) -> int:
    return await asyncio.to_thread(run, arguments)


async def page(host: ControlHost, path: str) -> str:
    answer = await host.anybody.get(path)
    assert answer.status == 200
    return await answer.text()


async def save(host: ControlHost, form: Mapping[str, str]) -> int:
    """Post the settings page; the answer's status."""
    posted = {"git_url": URL, **form}
    answer = await host.anybody.post("/projects/site/settings", data=posted, headers=host.origin, allow_redirects=False)
    return answer.status


async def test_a_project_is_made_and_changed_with_its_executor_and_its_deployments_tell_it(host: ControlHost) -> None:
    made = await host.ask("POST", "/projects", {"git_url": URL, "executor": "docker"}, status=201)
    assert made["executor"] == "docker"
    deployment = DeploymentId(await host.deploy())
    await host.life.built(deployment)
    await host.life.until(deployment, State.READY)
    assert (await host.ask("GET", f"/deployments/{deployment}"))["executor"] == "docker"
    kept = await host.ask("PATCH", "/projects/site", {"production_branch": "main"})
    assert kept["executor"] == "docker"
    assert (await host.ask("PATCH", "/projects/site", {"executor": None}))["executor"] is None
    again = await host.ask("POST", f"/deployments/{deployment}/redeploy", status=202)
    assert again["executor"] == "local"
    assert (await host.ask("GET", f"/deployments/{deployment}"))["executor"] == "docker"


async def test_an_executor_that_the_config_does_not_list_is_refused_with_those_it_lists(host: ControlHost) -> None:
    await host.ask("POST", "/projects", {"git_url": URL}, status=201)
    for method, path, body in (
        ("POST", "/projects", {"name": "other", "executor": "ecs"}),
        ("PATCH", "/projects/site", {"executor": "ecs"}),
    ):
        said = await host.ask(method, path, body, status=400)
        assert "'ecs'" in json.dumps(said)
        assert "local, docker" in json.dumps(said)
    assert [one["name"] for one in (await host.ask("GET", "/projects"))["projects"]] == ["site"]


async def test_a_settings_change_with_a_deployment_leaves_the_executor(host: ControlHost) -> None:
    await host.ask("POST", "/projects", {"git_url": URL, "executor": "docker"}, status=201)
    await host.deploy(settings={"framework": "vite"})
    project = await host.ask("GET", "/projects/site")
    assert (project["executor"], project["settings"]["framework"]) == ("docker", "vite")


async def test_what_is_uploaded_finished_has_no_executor(host: ControlHost) -> None:
    await host.ask("POST", "/projects", {"name": "pages"}, status=201)
    body = {"upload": SourceKind.PREBUILT.value}
    assert (await host.ask("POST", "/projects/pages/deployments", body, status=202))["executor"] is None


async def test_status_and_metrics_tell_what_each_executor_does(host: ControlHost) -> None:
    await host.ask("POST", "/projects", {"git_url": URL, "executor": "docker"}, status=201)
    running = DeploymentId(await host.deploy())
    await host.life.executors["docker"].job(running)
    await host.deploy(branch="next")
    assert (await host.ask("GET", "/status"))["executors"] == [
        {"kind": "local", "parallel": 2, "building": 0, "queued": 0},
        {"kind": "docker", "parallel": 2, "building": 1, "queued": 1},
    ]
    text = await (await host.admin.get("/metrics")).text()
    assert 'scalemesh_builds_running{executor="docker"} 1.0' in text
    assert 'scalemesh_builds_running{executor="local"} 0.0' in text


async def test_the_command_chooses_shows_and_lists(host: ControlHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert await call("project", "create", "shop", "--executor", "docker", "--json") == 0
    assert json.loads(capsys.readouterr().out)["executor"] == "docker"
    assert await call("project", "change", "shop", "--executor", "") == 0
    assert await call("project", "change", "shop", "--executor", "local") == 0
    capsys.readouterr()
    assert await call("project", "show", "shop") == 0
    assert re.search(r"^executor +local$", capsys.readouterr().out, re.MULTILINE)
    assert await call("project", "change", "shop", "--executor", "ecs") != 0
    assert "choose one of local, docker" in capsys.readouterr().err
    assert await call("status") == 0
    told = capsys.readouterr().out
    assert "local: builds 0 of 2 at once, 0 waiting" in told
    assert "docker: builds 0 of 2 at once, 0 waiting" in told
    assert await call("status", "--json") == 0
    assert [one["kind"] for one in json.loads(capsys.readouterr().out)["executors"]] == ["local", "docker"]


async def test_the_settings_page_offers_the_executors_and_the_deployments_page_tells_where_it_builds(
    host: ControlHost,
) -> None:
    await host.ask("POST", "/projects", {"git_url": URL}, status=201)
    await host.sign_in()
    shown = await page(host, "/projects/site/settings")
    assert re.findall(r'<option value="(local|docker)" ', shown) == ["local", "docker"]
    assert "The default: local" in shown
    assert await save(host, {"executor": "docker"}) == 303
    assert '<option value="docker" selected>' in await page(host, "/projects/site/settings")
    deployment = await host.deploy()
    assert re.search(r"<dt>Builds on</dt><dd>docker</dd>", await page(host, f"/deployments/{deployment}"))
    assert await save(host, {"executor": "ecs"}) == 400
    assert await save(host, {"executor": ""}) == 303
    assert (await host.ask("GET", "/projects/site"))["executor"] is None


async def test_where_there_is_no_choice_the_page_offers_none_and_keeps_what_is_set(tmp_path: Path) -> None:
    async with open_control_host(tmp_path) as host:
        await host.ask("POST", "/projects", {"git_url": URL, "executor": "local"}, status=201)
        await host.sign_in()
        assert 'name="executor"' not in await page(host, "/projects/site/settings")
        assert await save(host, {}) == 303
        assert (await host.ask("GET", "/projects/site"))["executor"] == "local"


async def test_a_choice_that_went_away_is_shown_as_that_and_may_stay(tmp_path: Path) -> None:
    executors = {"local": EndsWhenTold(), "docker": EndsWhenTold()}
    async with open_control_host(tmp_path, executors=executors) as host:
        await host.ask("POST", "/projects", {"git_url": URL, "executor": "docker"}, status=201)
    async with open_control_host(tmp_path) as host:
        await host.sign_in()
        assert "docker: not in the config any more" in await page(host, "/projects/site/settings")
        assert await save(host, {"executor": "docker", "branch": "main"}) == 303
        said = await host.ask("POST", "/deployments", {"git_url": URL}, status=422)
        assert "scalemesh project change site --executor local" in json.dumps(said)
        assert await save(host, {"executor": ""}) == 303
        await host.deploy()


async def test_one_executor_is_proven_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "scalemesh.toml"
    config.write_text('[executor]\nkind = ["local"]\n[executor.local]\nsandbox = "off"\n')
    assert await call("check", "--config", str(config), "--executor", "local", "--json") == 0
    assert {one["part"] for one in json.loads(capsys.readouterr().out)} == {"executor.local"}
    assert await call("check", "--config", str(config), "--executor", "docker") != 0
    assert "choose one of local" in capsys.readouterr().err
