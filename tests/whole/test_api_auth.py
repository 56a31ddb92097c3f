"""Who may: tokens, sessions, the admin socket; and which pages may act for a browser."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import WSMsgType, WSServerHandshakeError

from scalemesh.values import DeploymentId
from scalemesh.web import follow
from scalemesh.web.app import FOLLOWERS
from scalemesh.web.auth import PUBLIC
from tests.whole.control_host import ControlHost, open_control_host

FOREIGN = [
    {"Origin": "http://site.localhost:8080"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Origin": "http://a\u2100b"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
]


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[ControlHost]:
    async with open_control_host(tmp_path) as opened:
        yield opened


async def test_everything_in_the_api_needs_somebody_but_what_is_public(host: ControlHost) -> None:
    looked_at = set()
    for route in host.app.router.routes():
        address = route.resource.canonical if route.resource else ""
        if not address.startswith(("/api/", "/metrics")) or (route.method, address) in PUBLIC:
            continue
        path = address.format(project="p", deployment="d", name="n", token="t", sha256="0" * 64)
        answer = await host.anybody.request(route.method, path)
        assert answer.status == 401, (route.method, address)
        looked_at.add(address)
    assert len(looked_at) > 20


async def test_health_is_public_and_says_no_more_than_ok(host: ControlHost) -> None:
    answer = await host.anybody.get("/api/v1/health")
    assert (answer.status, await answer.json()) == (200, {"status": "ok"})


async def test_a_token_opens_the_api_until_it_is_deleted(host: ControlHost) -> None:
    headers = await host.token()
    assert (await host.anybody.get("/api/v1/projects", headers=headers)).status == 200
    assert (await host.anybody.get("/metrics", headers=headers)).status == 200
    listed = (await host.ask("GET", "/tokens"))["tokens"]
    await host.ask("DELETE", f"/tokens/{listed[0]['id']}", status=204)
    assert (await host.anybody.get("/api/v1/projects", headers=headers)).status == 401


async def test_a_wrong_token_is_refused_even_beside_a_good_session(host: ControlHost) -> None:
    await host.sign_in()
    for header in ("Bearer smt_nothing", "Bearer", "Basic b3duZXI6", "Bearer " + "x" * 4000):
        answer = await host.anybody.get("/api/v1/projects", headers={"Authorization": header})
        assert answer.status == 401
        assert (await answer.json())["code"] == "unauthorized"


async def test_a_welcome_code_signs_in_once(host: ControlHost) -> None:
    code = (await host.ask("POST", "/welcome", status=201))["url"].rsplit("/", 1)[1]
    first = await host.anybody.post("/api/v1/session", json={"code": code}, headers=host.origin)
    cookie = first.cookies["scalemesh"]
    assert first.status == 204
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["domain"]) == (True, "Lax", "/", "")
    assert (await (await host.anybody.get("/api/v1/session")).json())["is_owner"] is True
    second = await host.anybody.post("/api/v1/session", json={"code": code}, headers=host.origin)
    assert second.status == 410


async def test_signing_out_ends_the_session_on_the_server_too(host: ControlHost) -> None:
    signed = await host.sign_in()
    stolen = {"Cookie": f"scalemesh={signed.cookies['scalemesh'].value}"}
    assert (await host.anybody.delete("/api/v1/session", headers=host.origin)).status == 204
    assert (await host.anybody.get("/api/v1/session", headers=stolen)).status == 401


async def test_signing_out_ends_what_still_reads_a_log(host: ControlHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "BEAT_S", 0.02)
    path = f"/api/v1/deployments/{await host.deploy()}"
    await host.sign_in()
    async with (
        asyncio.timeout(60),
        host.anybody.ws_connect(f"{path}/live", headers=host.origin) as socket,
        host.anybody.get(f"{path}/logs?follow=1") as answer,
    ):
        await socket.receive_json()
        while await answer.content.readline() != b"\n":  # asked once already, and found to be let in
            pass
        assert host.app[FOLLOWERS].count == 2
        assert (await host.anybody.delete("/api/v1/session", headers=host.origin)).status == 204
        heard = await socket.receive()
        assert (heard.type, heard.data) == (WSMsgType.CLOSE, 1001)
        assert b'"end"' not in await answer.content.read()
    assert host.app[FOLLOWERS].count == 0


async def test_a_token_that_is_deleted_reads_no_further(host: ControlHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the log says something all the time."""
    monkeypatch.setattr(follow, "BEAT_S", 0.02)
    deployment, headers = DeploymentId(await host.deploy()), await host.token()
    token = (await host.ask("GET", "/tokens"))["tokens"][0]["id"]
    async with (
        asyncio.timeout(60),
        host.anybody.ws_connect(f"/api/v1/deployments/{deployment}/live", headers=headers) as socket,
    ):
        heard = await socket.receive()
        await host.ask("DELETE", f"/tokens/{token}", status=204)
        while heard.type is WSMsgType.TEXT:
            await host.life.services.logs.write(deployment, "build", "on and on")
            heard = await socket.receive()
    assert (heard.type, heard.data) == (WSMsgType.CLOSE, 1001)  # what came: our own answer to it may come too late


async def test_a_new_password_ends_other_sessions_and_signs_in(host: ControlHost) -> None:
    other = (await host.sign_in()).cookies["scalemesh"].value
    await host.sign_in()
    body = {"password": "correct horse battery"}
    changed = await host.anybody.put("/api/v1/account/password", json=body, headers=host.origin)
    assert changed.status == 204
    assert (await host.anybody.get("/api/v1/session")).status == 200
    host.anybody.session.cookie_jar.clear()
    assert (await host.anybody.get("/api/v1/session", headers={"Cookie": f"scalemesh={other}"})).status == 401
    wrong = {"name": "owner", "password": "wrong"}
    assert (await host.anybody.post("/api/v1/session", json=wrong)).status == 401
    right = {"name": "owner", **body}
    assert (await host.anybody.post("/api/v1/session", json=right)).status == 204


async def test_another_page_cannot_change_anything_with_the_cookie(host: ControlHost) -> None:
    await host.sign_in()
    for headers in [*FOREIGN, {}]:
        refused = await host.anybody.post("/api/v1/projects", json={"name": "planted"}, headers=headers)
        assert refused.status == 403, headers
    assert (await host.ask("GET", "/projects"))["projects"] == []


async def test_another_page_cannot_sign_a_browser_in(host: ControlHost) -> None:
    code = (await host.ask("POST", "/welcome", status=201))["url"].rsplit("/", 1)[1]
    for headers in FOREIGN:
        answer = await host.anybody.post("/api/v1/session", json={"code": code}, headers=headers)
        assert answer.status == 403, headers


async def test_our_own_pages_may_change_things(host: ControlHost) -> None:
    await host.sign_in()
    for name, headers in (("one", host.origin), ("two", {"Sec-Fetch-Site": "same-origin"})):
        assert (await host.anybody.post("/api/v1/projects", json={"name": name}, headers=headers)).status == 201


async def test_another_page_cannot_listen_to_a_log_with_the_cookie(host: ControlHost) -> None:
    await host.sign_in()
    deployment = await host.deploy()
    path = f"/api/v1/deployments/{deployment}/live"
    for headers in ({"Origin": "http://site.localhost:8080"}, {}):
        with pytest.raises(WSServerHandshakeError, match="403"):
            await host.anybody.ws_connect(path, headers=headers)
    async with host.anybody.ws_connect(path, headers=host.origin) as socket:
        assert (await socket.receive_json())[0]["number"] == 1


async def test_only_the_admin_socket_gives_welcome_links(host: ControlHost) -> None:
    answer = await host.anybody.post("/api/v1/welcome", headers=await host.token())
    assert answer.status == 403


async def test_every_answer_carries_the_headers_that_protect_pages(host: ControlHost) -> None:
    for path in ("/api/v1/health", "/api/v1/projects", "/api/v1/nothing", "/sign-in", "/nothing"):
        headers = (await host.anybody.get(path)).headers
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert len(headers["X-Request-Id"]) == 16
        assert headers["Server"] == "Scale Mesh"


async def test_a_strangers_tries_do_not_keep_the_owner_out(host: ControlHost) -> None:
    accounts = host.life.services.accounts
    await accounts.set_password(host.life.user.id, "correct horse battery")
    guess = {"name": "owner", "password": "guess"}
    for _ in range(10):
        assert (await host.anybody.post("/api/v1/session", json=guess)).status == 401
    refused = await host.anybody.post("/api/v1/session", json=guess)
    assert (refused.status, "scalemesh welcome" in (await refused.json())["fix"]) == (429, True)
    assert await accounts.sign_in("owner", "correct horse battery", caller="192.0.2.7")
    await host.sign_in()
    body = {"password": "another horse battery"}
    assert (await host.anybody.put("/api/v1/account/password", json=body, headers=host.origin)).status == 204
    assert (await host.anybody.get("/api/v1/session")).status == 200, "signed out by setting a password"


async def test_who_signs_in_rightly_has_all_tries_again(host: ControlHost) -> None:
    accounts = host.life.services.accounts
    await accounts.set_password(host.life.user.id, "correct horse battery")
    right = {"name": "owner", "password": "correct horse battery"}
    for _ in range(2):
        for _ in range(9):
            wrong = {**right, "password": "x"}
            assert (await host.anybody.post("/api/v1/session", json=wrong, headers=host.origin)).status == 401
        assert (await host.anybody.post("/api/v1/session", json=right, headers=host.origin)).status == 204


@pytest.mark.parametrize("header", [b"Cookie: scalemesh=\xff\xfe", b"Authorization: Bearer \xff\xfe"])
async def test_a_secret_of_any_bytes_is_nobodys(host: ControlHost, header: bytes) -> None:
    server = host.anybody.server
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"GET /api/v1/projects HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + b"\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 401")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("application/x-www-form-urlencoded", b"name=\xff"),
        ("application/x-www-form-urlencoded", b"name=%ff"),
        ("application/x-www-form-urlencoded", b"&".join([b"a=1"] * 41)),
        ("multipart/form-data; boundary=a", b"--a\r\nContent-Disposition: form-data; name=x\r\n\r\nv\r\n--a--\r\n"),
        ("text/plain", b"name=a"),
    ],
)
async def test_what_is_no_form_of_ours_is_told_so(host: ControlHost, kind: str, data: bytes) -> None:
    headers = {"Content-Type": kind, **host.origin}
    answer = await host.anybody.post("/sign-in", data=data, headers=headers)
    assert answer.status == 400
    large = await host.anybody.post(
        "/sign-in", data=b"x" * 300_000, headers={**headers, "Content-Type": "application/x-www-form-urlencoded"}
    )
    assert large.status == 413
