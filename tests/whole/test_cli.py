"""The command against a real control host."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scalemesh.cli.main import run
from scalemesh.values import DeploymentId, Environment, State
from tests.whole.control_host import ControlHost, open_control_host


@pytest.fixture
async def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ControlHost]:
    async with open_control_host(tmp_path / "data") as opened:
        monkeypatch.setenv("SCALEMESH_URL", opened.url)
        monkeypatch.setenv("SCALEMESH_TOKEN", (await opened.token())["Authorization"].removeprefix("Bearer "))
        monkeypatch.chdir(tmp_path)
        yield opened


async def call(*arguments: str) -> int:
    return await asyncio.to_thread(run, arguments)


async def newest(host: ControlHost) -> DeploymentId:
    """The deployment that a command begins meanwhile."""
    while not (found := (await host.ask("GET", "/deployments?limit=1"))["deployments"]):
        await asyncio.sleep(0.005)
    return DeploymentId(found[0]["id"])


async def test_deploy_shows_the_log_and_prints_the_url_alone(
    host: ControlHost, capsys: pytest.CaptureFixture[str]
) -> None:
    async with asyncio.timeout(60):
        command = asyncio.create_task(call("deploy", "https://git.example/a/shop.git"))
        await host.life.built(await newest(host))
        assert await command == 0
    told = capsys.readouterr()
    assert told.out == "http://shop.localhost:8080/\n"
    assert "queue    Queued\n" in told.err
    assert told.err.endswith("end      Ready\n")


async def test_a_deployment_that_ends_badly_is_exit_code_1_with_what_to_do(
    host: ControlHost, capsys: pytest.CaptureFixture[str]
) -> None:
    async with asyncio.timeout(60):
        command = asyncio.create_task(call("deploy", "https://git.example/a/shop.git", "--json"))
        await host.ask("POST", f"/deployments/{await newest(host)}/cancel")
        assert await command == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["state"] == "canceled"
    assert "was canceled" in told.err


async def test_a_finished_folder_goes_live_and_the_second_time_nothing_is_sent(
    host: ControlHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(9):
        (tmp_path / "dist" / str(number)).mkdir(parents=True)
        (tmp_path / "dist" / str(number) / "index.html").write_text(f"<h1>{number}</h1>")
    (tmp_path / "dist" / "link").symlink_to("/etc/hostname")
    async with asyncio.timeout(60):
        assert await call("deploy", "dist", "--prebuilt", "--project", "shop", "--json") == 0
        first = capsys.readouterr()
        assert await call("deploy", "dist", "--prebuilt", "--project", "shop") == 0
        second = capsys.readouterr()
    assert set(json.loads(first.out)) == {"url", "deployment", "project", "state"}
    assert "to upload: 9" in first.err
    assert "left out: link (a link)" in first.err
    assert "to upload: 0" in second.err
    assert second.out == "http://shop.localhost:8080/\n"


async def test_a_source_folder_waits_for_its_build(host: ControlHost, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "index.html").write_text("<h1>hi</h1>")
    assert await call("deploy", "source", "--project", "shop", "--no-wait") == 0
    deployment = await newest(host)
    await host.life.executor.job(deployment)
    assert (await host.life.services.deployer.get(deployment)).source == "upload"


@pytest.mark.parametrize("how", [(), ("--prebuilt",)], ids=["to build", "prebuilt"])
async def test_an_empty_folder_leaves_no_deployment_waiting(
    host: ControlHost, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: tuple[str, ...]
) -> None:
    (tmp_path / "empty").mkdir()
    assert await call("deploy", "empty", *how) == 1
    assert "has no files" in capsys.readouterr().err
    assert {each["state"] for each in (await host.ask("GET", "/deployments"))["deployments"]} <= {"canceled"}


async def test_what_the_build_output_api_left_is_deployed_with_its_rules(
    host: ControlHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rule files are read and never served; functions are named, on the way and in the log."""
    output = tmp_path / "app/.vercel/output"
    (output / "static").mkdir(parents=True)
    (output / "static/index.html").write_text("<h1>hello</h1>")
    (output / "functions/api/hello.func").mkdir(parents=True)
    (output / "functions/api/hello.func/.vc-config.json").write_text("{}")
    routes = [{"src": "/old", "status": 308, "headers": {"Location": "/"}}]
    (output / "config.json").write_text(json.dumps({"version": 3, "routes": routes}))
    async with asyncio.timeout(60):
        assert await call("deploy", "app", "--prebuilt", "--project", "shop") == 0
    told = capsys.readouterr()
    assert "Not served: the function /api/hello" in told.err
    assert "functions/api/hello.func: left out: the function /api/hello is not served" in told.err
    assert "1 redirect or rewrite, 0 header rules" in told.err
    assert told.out == "http://shop.localhost:8080/\n"


async def test_logs_print_lines_and_nothing_else_on_standard_output(
    host: ControlHost, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = DeploymentId(await host.deploy())
    await host.life.built(deployment)
    await host.life.until(deployment, State.READY)
    await host.life.last_words(deployment)
    assert await call("logs", "site") == 0
    kept = capsys.readouterr()
    assert await call("logs", deployment, "-f", "--json") == 0
    followed = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert kept.err == ""
    assert [row["text"] for row in followed[:-1]] == [row[9:] for row in kept.out.splitlines()]
    assert followed[-1]["end"]["state"] == "ready"
    assert await call("logs", deployment, "--search", "READY") == 0
    assert capsys.readouterr().out == "end      Ready\n"


async def test_a_value_is_read_from_standard_input_and_short_ones_are_told(
    host: ControlHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await host.ask("POST", "/projects", {"name": "shop"}, status=201)
    (tmp_path / "value").write_text("1234\n")
    with (tmp_path / "value").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert await call("env", "set", "shop", "PIN") == 0
    assert "not masked" in capsys.readouterr().err
    project = await host.life.services.projects.named("shop")
    values = await host.life.services.projects.environment(project.id, Environment.PRODUCTION)
    assert values["PIN"] == "1234"


async def test_cancel_all_ends_what_waits_and_runs(host: ControlHost) -> None:
    for branch in ("a", "b", "c"):
        await host.deploy(branch=branch)
    assert await call("cancel", "--all") == 0
    states = {one["state"] for one in (await host.ask("GET", "/deployments"))["deployments"]}
    assert states == {"canceled"}


async def test_what_is_not_there_or_not_allowed_is_exit_code_4(
    host: ControlHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await call("project", "show", "nothing") == 4
    assert await call("logs", "nothing") == 4
    assert await call("welcome") == 4
    monkeypatch.setenv("SCALEMESH_TOKEN", "smt_wrong")
    assert await call("status") == 4
    assert capsys.readouterr().out == ""


async def test_projects_are_made_changed_listed_and_deleted(
    host: ControlHost, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        await call("project", "create", "shop", "--git-url", "https://git.example/a/s", "--build-command", "make") == 0
    )
    assert await call("project", "change", "shop", "--build-command", "", "--root-directory", "web") == 0
    capsys.readouterr()
    assert await call("project", "show", "shop", "--json") == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert (settings["build_command"], settings["root_directory"]) == (None, "web")
    assert await call("project", "list") == 0
    assert capsys.readouterr().out == "shop  http://shop.localhost:8080/  https://git.example/a/s\n"
    assert await call("project", "delete", "shop", "--yes") == 0
    assert (await host.ask("GET", "/projects"))["projects"] == []
