"""Logs over HTTP: pages, NDJSON and the websocket, each line once, whoever leaves and comes back."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType

from scalemesh.db import deployments
from scalemesh.values import DeploymentId, State
from scalemesh.web import follow, live
from scalemesh.web.api import logs
from scalemesh.web.app import FOLLOWERS
from tests.whole.control_host import ControlHost, open_control_host

UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[ControlHost]:
    async with open_control_host(tmp_path) as opened:
        yield opened


async def finished(host: ControlHost) -> tuple[str, int]:
    """A deployment that is ready, and how many lines its log has."""
    deployment = DeploymentId(await host.deploy())
    await host.life.built(deployment)
    return deployment, await ended(host, deployment)


async def ended(host: ControlHost, deployment: DeploymentId) -> int:
    """Wait until the log is closed; return how many lines it has."""
    await host.life.until(deployment, State.READY)
    await host.life.last_words(deployment)
    return len(await host.life.log(deployment))


async def rows(host: ControlHost, path: str) -> list[dict[str, Any]]:
    async with asyncio.timeout(60):
        text = await (await host.admin.get(f"/api/v1{path}")).text()
    return [json.loads(line) for line in text.splitlines() if line]


async def test_a_page_says_where_to_go_on_and_when_it_is_over(host: ControlHost) -> None:
    deployment, count = await finished(host)
    first = await host.ask("GET", f"/deployments/{deployment}/logs?limit=2")
    assert ([line["number"] for line in first["lines"]], first["next"], first["end"]) == ([1, 2], 2, False)
    rest = await host.ask("GET", f"/deployments/{deployment}/logs?after=2")
    assert [line["number"] for line in rest["lines"]] == list(range(3, count + 1))
    assert (rest["next"], rest["end"]) == (count, True)


async def test_following_gives_each_line_once_and_then_the_end(host: ControlHost) -> None:
    deployment, count = await finished(host)
    later = await rows(host, f"/deployments/{deployment}/logs?follow=1&after=2")
    *lines, end = await rows(host, f"/deployments/{deployment}/logs?follow=1")
    assert [line["number"] for line in lines] == list(range(1, count + 1))
    assert later == [*lines[2:], end]
    assert set(lines[0]) == {"number", "at", "step", "stream", "text"}
    expected = {"state": "ready", "url": "http://site.localhost:8080/", "reason": None, "message": "", "fix": ""}
    assert end == {"end": expected}


async def test_a_failed_deployment_ends_with_reason_and_advice(host: ControlHost) -> None:
    deployment = DeploymentId(await host.deploy())
    await host.ask("POST", f"/deployments/{deployment}/cancel")
    end = (await rows(host, f"/deployments/{deployment}/logs?follow=1"))[-1]["end"]
    assert (end["state"], end["message"]) == ("canceled", "Canceled by hand")


async def test_lines_come_while_they_are_written(host: ControlHost) -> None:
    deployment = DeploymentId(await host.deploy())
    async with asyncio.timeout(60), host.admin.get(f"/api/v1/deployments/{deployment}/logs?follow=1") as answer:
        assert json.loads(await answer.content.readline())["text"] == "Queued"
        await host.life.services.logs.write(deployment, "build", "fresh")
        texts: list[str] = []
        while "fresh" not in texts:
            texts.append(json.loads(await answer.content.readline())["text"])


async def test_silence_is_filled_with_empty_lines(host: ControlHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "BEAT_S", 0.01)
    deployment = await host.deploy()
    async with asyncio.timeout(60), host.admin.get(f"/api/v1/deployments/{deployment}/logs?follow=1") as answer:
        while await answer.content.readline() != b"\n":
            pass


async def test_the_websocket_sends_blocks_and_then_the_end(host: ControlHost) -> None:
    deployment, count = await finished(host)
    async with asyncio.timeout(60), host.admin.ws_connect(f"/api/v1/deployments/{deployment}/live?after=1") as socket:
        messages = [json.loads(message.data) async for message in socket if message.type is WSMsgType.TEXT]
    *blocks, end = messages
    assert [line["number"] for block in blocks for line in block] == list(range(2, count + 1))
    assert end["end"]["state"] == "ready"
    assert socket.close_code == 1000


async def test_a_reader_who_comes_back_misses_nothing(host: ControlHost) -> None:
    deployment = DeploymentId(await host.deploy())
    async with asyncio.timeout(60), host.admin.ws_connect(f"/api/v1/deployments/{deployment}/live") as socket:
        seen = [line["number"] for line in await socket.receive_json()]
    await host.life.built(deployment)
    total = await ended(host, deployment)
    *lines, _ = await rows(host, f"/deployments/{deployment}/logs?follow=1&after={seen[-1]}")
    assert seen + [line["number"] for line in lines] == list(range(1, total + 1))


async def test_a_daemon_that_stops_lets_readers_go_without_an_end(host: ControlHost) -> None:
    deployment = await host.deploy()
    headers = await host.token()
    path = f"/api/v1/deployments/{deployment}"
    async with (
        asyncio.timeout(60),
        host.anybody.ws_connect(f"{path}/live", headers=headers) as socket,
        host.anybody.get(f"{path}/logs?follow=1", headers=headers) as answer,
    ):
        await socket.receive_json()
        await answer.content.readline()
        await host.app.shutdown()
        while (message := await socket.receive()).type is WSMsgType.TEXT:
            assert "end" not in json.loads(message.data)
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        assert b'"end"' not in await answer.content.read()


@pytest.mark.parametrize("way", ["logs?follow=1", "live"])
async def test_a_reader_who_takes_nothing_is_let_go(
    host: ControlHost, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Nothing piles up in memory: the connection is cut, and the log store still has it all."""
    monkeypatch.setattr(live, "STALL_S", 0.2)
    monkeypatch.setattr(logs, "STALL_S", 0.2)
    deployment = DeploymentId(await host.deploy())
    for _ in range(12):
        await host.life.services.logs.write(deployment, "build", "\n".join(["x" * 16_000] * 100))
    reader, writer = await asyncio.open_connection(host.anybody.host, host.anybody.port, limit=1 << 16)
    token = (await host.token())["Authorization"]
    head = f"GET /api/v1/deployments/{deployment}/{way} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n"
    writer.write((head + (UPGRADE if way == "live" else "") + "\r\n").encode())
    async with asyncio.timeout(60):
        assert await reader.readline() in (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 101 Switching Protocols\r\n")
        while host.app[FOLLOWERS].count != 1:
            await asyncio.sleep(0.005)
        while host.app[FOLLOWERS].count != 0:  # without anything being read
            await asyncio.sleep(0.005)
    taken = len(await drained(reader))
    assert taken < 12 * 100 * 16_000
    writer.close()


async def drained(reader: asyncio.StreamReader) -> bytes:
    """What is still in the pipe of a connection that was cut."""
    data = b""
    with suppress(ConnectionError):
        while chunk := await reader.read(1 << 20):
            data += chunk
    return data


async def test_search_finds_lines_whatever_their_letter_case(host: ControlHost) -> None:
    deployment, _ = await finished(host)
    found = await host.ask("GET", f"/deployments/{deployment}/logs/search?q=QUEUED")
    assert [line["text"] for line in found["lines"]] == ["Queued"]
    await host.ask("GET", f"/deployments/{deployment}/logs/search?q=", status=400)


async def test_an_unknown_deployment_has_no_log(host: ControlHost) -> None:
    for rest in ("logs", "logs?follow=1", "live", "logs/search?q=x"):
        await host.ask("GET", f"/deployments/dpl_nothing/{rest}", status=404)


async def test_a_reader_of_a_log_that_is_deleted_is_let_go(host: ControlHost) -> None:
    """Not left with an open socket on which nothing will ever come."""
    deployment = DeploymentId(await host.deploy())
    services = host.life.services
    async with host.admin.ws_connect(f"/api/v1/deployments/{deployment}/live") as socket, asyncio.timeout(60):
        assert (await socket.receive()).type is WSMsgType.TEXT
        async with services.ledger.database.transaction() as tx:
            await deployments.delete(tx, deployment)
        await services.logs.drop(deployment)
        while (message := await socket.receive()).type is WSMsgType.TEXT:
            pass
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1000)
