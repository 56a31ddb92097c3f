"""The listener for builders alone: their calls, and nothing else of the daemon."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from builder.packing import fingerprint
from tests.rigs.ports import free_port
from tests.whole.daemon import RunningDaemon, running_daemon

ADDRESS = "127.0.0.7"


@pytest.fixture
async def port() -> int:
    return free_port(ADDRESS)


@pytest.fixture
async def daemon(tmp_path: Path, port: int) -> AsyncIterator[RunningDaemon]:
    async with running_daemon(tmp_path, builds=f'listen = "{ADDRESS}:{port}"') as running:
        yield running


async def test_it_answers_builders_and_nobody_else(daemon: RunningDaemon, port: int) -> None:
    async with aiohttp.ClientSession(f"http://{ADDRESS}:{port}") as builder:
        async with builder.get("/build/v1/hello") as answer:
            assert (answer.status, await answer.json()) == (200, {"builder": fingerprint()})
        async with builder.post("/build/v1/claim", json={"nonce": "n"}) as answer:
            assert answer.status == 401
        for path in ("/", "/login", "/api/v1/health", "/api/v1/projects", "/metrics", "/static/app.css"):
            async with builder.get(path, headers={"Host": "localhost"}) as answer:
                assert answer.status == 404, path


async def test_where_no_public_address_is_named_the_control_host_knows_no_builders(daemon: RunningDaemon) -> None:
    assert (await daemon.visit("localhost", "/build/v1/hello"))[0] == 404
    async with daemon.session() as admin, admin.get("http://x/build/v1/hello") as answer:
        assert answer.status == 404


async def test_where_one_is_named_the_control_host_answers_builders_and_the_sites_do_not(tmp_path: Path) -> None:
    async with running_daemon(tmp_path, builds='public_url = "https://mesh.example.com"') as running:
        status, body, _ = await running.visit("localhost", "/build/v1/hello")
        assert (status, fingerprint() in body) == (200, True)
        assert (await running.visit("site.localhost", "/build/v1/hello"))[0] == 404
        async with aiohttp.ClientSession(f"http://127.0.0.1:{running.port}", headers={"Host": "localhost"}) as stranger:
            async with stranger.post("/build/v1/claim", json={"nonce": "n"}) as answer:
                assert answer.status == 401
            async with stranger.get("/build/v1/source/" + "a" * 64, headers={"Cookie": "scalemesh=x"}) as answer:
                assert answer.status == 401


async def test_an_address_that_is_taken_is_told_at_the_start(tmp_path: Path, daemon: RunningDaemon, port: int) -> None:
    second = RunningDaemon(tmp_path / "second", builds=f'listen = "{ADDRESS}:{port}"')
    second.home.mkdir()
    second.launch()
    assert await second.ended() == 1
    assert f"cannot listen for builders on {ADDRESS} port {port}" in second.log()
    assert daemon.process is not None
    assert daemon.process.poll() is None


async def test_a_listener_on_an_address_that_is_not_there_yet_does_not_keep_the_sites_down(tmp_path: Path) -> None:
    async with running_daemon(tmp_path, builds='listen = "192.0.2.77:8081"') as running:
        assert (await running.visit("nobody.localhost"))[0] == 404
