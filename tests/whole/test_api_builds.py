"""What builders say over HTTP: exactly the words of builder/protocol.py, fenced by their token."""

import hashlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from builder.protocol import MAX_BLOCK_BYTES, MAX_BLOCK_LINES, MAX_DIGESTS, NONCE_HEADER
from scalemesh.values import DeploymentId, EndCause, Environment, State
from scalemesh.web.app import make_builds_app
from tests.whole.control_host import Browser, ControlHost, open_control_host

PAGE = b"<h1>built</h1>"
DIGEST = hashlib.sha256(PAGE).hexdigest()


class Builder:
    """A builder of one attempt, which speaks raw HTTP."""

    def __init__(self, host: ControlHost, socket: Browser, deployment: DeploymentId, attempt: int = 1) -> None:
        self.deployment, self._socket = deployment, socket
        token = host.life.services.tokens.make(deployment, attempt)
        self._authorization, self.nonce = f"Bearer {token}", "n"

    @property
    def _token(self) -> dict[str, str]:
        return {"Authorization": self._authorization, NONCE_HEADER: self.nonce}

    async def say(self, path: str, body: object, *, status: int = 200) -> dict[str, Any]:
        data = io.BytesIO(json.dumps(body).encode())
        answer = await self._socket.post(f"/build/v1/{path}", data=data, headers=self._token)
        found: dict[str, Any] = await answer.json(content_type=None)
        assert answer.status == status, found
        assert answer.content_type == ("application/json" if status < 400 else "application/problem+json")
        return found

    async def put(self, path: str, data: bytes) -> int:
        return (await self._socket.put(path, data=data, headers=self._token)).status


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[ControlHost]:
    async with open_control_host(tmp_path) as opened:
        yield opened


@pytest.fixture
async def socket(host: ControlHost) -> AsyncIterator[Browser]:
    services = host.life.services
    app = make_builds_app(services.builds, services.storage.caches, services.storage.disk)
    async with TestClient(TestServer(app)) as opened:
        yield opened


@pytest.fixture
async def builder(host: ControlHost, socket: Browser) -> Builder:
    deployment = DeploymentId(await host.deploy())
    await host.life.executor.job(deployment)
    return Builder(host, socket, deployment)


async def test_a_build_goes_from_claim_to_a_live_site(host: ControlHost, builder: Builder) -> None:
    claim = await builder.say("claim", {"nonce": "n"})
    assert claim["limits"]["pids"] == 512
    assert (claim["deployment"], claim["source"]["url"]) == (builder.deployment, "https://git.example/a/site")
    lines = [[1_700_000_000_000, "out", "build", "hello"]]
    assert await builder.say("lines", {"seq": 1, "lines": lines}) == {"next": 2}
    facts = {"commit": "a" * 40, "branch": "main", "default_branch": "main", "message": "Say hi", "author": "A"}
    assert await builder.say("heartbeat", {"facts": facts}) == {"cancel": False}
    assert await builder.say("heartbeat", {}) == {"cancel": False}
    missing = (await builder.say("blobs", {"digests": [{"sha256": DIGEST, "size": len(PAGE)}]}))["missing"]
    assert [one["sha256"] for one in missing] == [DIGEST]
    assert await builder.put(missing[0]["put"]["url"], PAGE) == 204
    success = {"ok": True, "files": [["index.html", DIGEST, len(PAGE)]], "framework": "static", "output_directory": "."}
    await builder.say("finish", {**success, "warnings": []})
    await builder.say("finish", {**success, "warnings": []})
    await host.life.executor.end(builder.deployment, 1)
    found = await host.life.until(builder.deployment, State.READY)
    assert (found.commit_sha, found.branch, found.framework) == ("a" * 40, "main", "static")
    assert "hello" in await host.life.log(builder.deployment)


async def test_a_failure_is_taken_with_its_reason(host: ControlHost, builder: Builder) -> None:
    await builder.say("claim", {"nonce": "n"})
    failure = {"ok": False, "reason": "command_failed", "message": "npm failed", "peak": {"memory_bytes": 1}}
    await builder.say("finish", failure)
    await builder.say("finish", {**failure, "reason": "whatever"}, status=400)
    await host.life.executor.end(builder.deployment, 1)
    assert (await host.life.until(builder.deployment, State.FAILED)).reason == "command_failed"


async def test_only_the_builder_that_claimed_may_go_on(host: ControlHost, socket: Browser, builder: Builder) -> None:
    await builder.say("claim", {"nonce": "n"})
    await builder.say("claim", {"nonce": "n"})
    assert (await builder.say("claim", {"nonce": "two"}, status=409))["code"] == "conflict"
    older = Builder(host, socket, builder.deployment, attempt=0)
    await older.say("heartbeat", {}, status=410)
    await older.say("lines", {"seq": 1, "lines": []}, status=410)


async def test_a_spent_token_gets_no_large_body_read(socket: Browser, builder: Builder) -> None:
    await builder.say("claim", {"nonce": "n"})
    builder.nonce = "another"
    answer = await builder.say("finish", {"ok": True, "files": ["x" * 1000] * 20_000}, status=409)
    assert answer["code"] == "conflict"


async def test_without_a_token_of_ours_nothing_is_said(host: ControlHost, socket: Browser) -> None:
    headers = await host.token()
    for path in ("claim", "lines", "heartbeat", "blobs", "finish"):
        assert (await socket.post(f"/build/v1/{path}", json={})).status == 401
        assert (await socket.post(f"/build/v1/{path}", json={}, headers=headers)).status == 401


async def test_the_builds_socket_has_nothing_but_the_builders_calls(host: ControlHost, socket: Browser) -> None:
    headers = await host.token()
    for path in ("/api/v1/projects", "/api/v1/health", "/metrics", "/", "/build/v1/nothing"):
        assert (await socket.get(path, headers=headers)).status == 404, path


async def test_every_call_has_its_bounds(builder: Builder) -> None:
    await builder.say("claim", {"nonce": "n"})
    line = [0, "out", "build", "x"]
    await builder.say("lines", {"seq": 1, "lines": [line] * (MAX_BLOCK_LINES + 1)}, status=413)
    await builder.say("lines", {"seq": 1, "lines": [[0, "out", "build", "x" * MAX_BLOCK_BYTES * 8]]}, status=413)
    await builder.say("lines", {"seq": 1, "lines": [["now", "out", "build", "x"]]}, status=400)
    digests = [{"sha256": f"{number:064x}", "size": 1} for number in range(MAX_DIGESTS + 1)]
    await builder.say("blobs", {"digests": digests}, status=413)
    assert await builder.put(f"/build/v1/blobs/{DIGEST}", b"other bytes...") == 422
    await builder.say("finish", {"ok": True, "files": [["../x", DIGEST, 1]], "framework": "x"}, status=422)


async def test_a_block_full_of_control_characters_fits(host: ControlHost, builder: Builder) -> None:
    """JSON writes such a byte in six: what a builder may send in one block is not cut by the frame around it."""
    await builder.say("claim", {"nonce": "n"})
    lines = [[0, "out", "build", "\x01" * 1000]] * MAX_BLOCK_LINES
    assert await builder.say("lines", {"seq": 1, "lines": lines}) == {"next": 2}
    assert len(await host.life.log(builder.deployment)) > MAX_BLOCK_LINES


async def test_what_git_and_the_builder_say_commands_no_terminal(host: ControlHost, builder: Builder) -> None:
    await builder.say("claim", {"nonce": "n"})
    hostile = "\x1b]52;c;ZXZpbA==\x07Say \x1b[31mhi\x9b2J\r\nto all"
    facts = {"commit": "a" * 40, "message": hostile, "author": "\x1b[2JEve"}
    await builder.say("heartbeat", {"facts": facts})
    await builder.say("finish", {"ok": False, "reason": "command_failed", "message": hostile})
    await host.life.executor.end(builder.deployment, 1, EndCause.FAILED)
    found = await host.life.until(builder.deployment, State.FAILED)
    assert (found.commit_message, found.commit_author, found.message) == ("Say hi\nto all", "Eve", "Say hi\nto all")


async def test_a_frameworks_name_is_a_short_word(builder: Builder) -> None:
    await builder.say("claim", {"nonce": "n"})
    for framework in ("x" * 65, "", "<b>", "a b"):
        await builder.say("finish", {"ok": True, "files": [], "framework": framework}, status=400)


async def test_a_failures_sentence_hides_what_the_log_hides(host: ControlHost, builder: Builder) -> None:
    project = await host.life.services.projects.named("site")
    await host.life.services.projects.set_variable(project.id, "KEY", tuple(Environment), "hunter22hunter22")
    await builder.say("claim", {"nonce": "n"})
    await builder.say("finish", {"ok": False, "reason": "command_failed", "message": "deploy hunter22hunter22 failed"})
    await host.life.executor.end(builder.deployment, 1, EndCause.FAILED)
    assert (await host.life.until(builder.deployment, State.FAILED)).message == "deploy *** failed"


async def test_a_blocks_number_has_its_bounds(builder: Builder) -> None:
    await builder.say("claim", {"nonce": "n"})
    for seq in (0, -1, 1 << 64):
        await builder.say("lines", {"seq": seq, "lines": []}, status=400)
