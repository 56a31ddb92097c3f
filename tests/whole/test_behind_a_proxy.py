"""A real daemon behind a real proxy: it is believed what it says of visitors, and nobody else is."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from yarl import URL

from scalemesh.config import Hosts
from tests.whole.control_host import open_control_host
from tests.whole.daemon import RunningDaemon, running_daemon
from tests.whole.reverse_proxy import ReverseProxy

PROXY: Final = "127.0.0.2"
TRIES: Final = 3
HOSTS: Final = f'trusted_proxies = ["{PROXY}"]\n[accounts]\nattempts_per_minute = {TRIES}'
SECURE: Final = "__Host-scalemesh"
GUESS: Final = {"name": "owner", "password": "guess"}
PASSWORD: Final = "correct horse battery"
HEALTH: Final = "/api/v1/health"  #: of a site, it is its only page
WELL: Final = b'{"status": "ok"}'
HTTPS: Final = {"Origin": "https://localhost"}
FORGED: Final = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "localhost",
    "Forwarded": "proto=https;host=localhost",
}


@dataclass
class Behind:
    """A daemon, and the proxy that it trusts."""

    daemon: RunningDaemon
    proxy: ReverseProxy

    @property
    def direct(self) -> str:
        return f"http://127.0.0.1:{self.daemon.port}"

    async def ask(
        self, path: str, *, to: str = "", visitor: str = "127.0.0.1", host: str = "localhost", **more: Any
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and headers of *visitor*'s request: GET, or POST with ``json``; by the proxy, or *to*."""
        headers = {"Host": host, **more.pop("headers", {})}
        async with (
            client(visitor) as session,
            session.request(
                "POST" if "json" in more else "GET", (to or self.proxy.url) + path, headers=headers, **more
            ) as answer,
        ):
            return answer.status, await answer.read(), dict(answer.headers)

    async def sign_in(self, to: str = "", **headers: str) -> tuple[int, str]:
        """With the right password; the status, and the Set-Cookie header."""
        wanted = {"name": "owner", "password": PASSWORD}
        status, _, told = await self.ask("/api/v1/session", to=to, json=wanted, headers=headers)
        return status, told.get("Set-Cookie", "")


@asynccontextmanager
async def client(visitor: str) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(local_addr=(visitor, 0))
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout
    ) as session:
        yield session


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[Behind]:
    async with running_daemon(tmp_path, hosts=HOSTS) as daemon:
        await daemon.call("PUT", "/account/password", {"password": PASSWORD})
        async with ReverseProxy(URL(f"http://127.0.0.1:{daemon.port}"), PROXY).listening() as proxy:
            yield Behind(daemon, proxy)


async def guess(behind: Behind, visitor: str, to: str = "", **headers: str) -> int:
    return (await behind.ask("/api/v1/session", to=to, visitor=visitor, json=GUESS, headers=headers))[0]


async def test_each_visitor_of_a_proxy_has_tries_of_their_own(behind: Behind) -> None:
    assert [await guess(behind, "127.0.0.3") for _ in range(TRIES + 1)] == [401] * TRIES + [429]
    assert await guess(behind, "127.0.0.4") == 401
    for forged in ("127.0.0.9", "203.0.113.9, 127.0.0.9", "x", f"203.0.113.9, {PROXY}"):
        assert await guess(behind, "127.0.0.3", **{"X-Forwarded-For": forged}) == 429, forged


async def test_nobody_gets_more_tries_by_forging_whom_they_come_from(behind: Behind) -> None:
    found = [
        await guess(behind, "127.0.0.3", to=behind.direct, **{"X-Forwarded-For": f"203.0.113.{number}"})
        for number in range(TRIES + 1)
    ]
    assert found == [401] * TRIES + [429]
    assert await guess(behind, "127.0.0.4", to=behind.direct) == 401


async def test_nobody_uses_up_the_tries_of_another(behind: Behind) -> None:
    """Whoever could pass for the owner's address would keep the owner out."""
    for _ in range(TRIES + 1):
        await guess(behind, "127.0.0.3", to=behind.direct, **{"X-Forwarded-For": "127.0.0.4"})
        await guess(behind, "127.0.0.3", **{"X-Forwarded-For": "127.0.0.4"})
    assert await guess(behind, "127.0.0.4") == 401


async def test_the_cookie_is_secure_where_the_visitor_speaks_https(behind: Behind) -> None:
    status, cookie = await behind.sign_in(**HTTPS)
    assert status == 204
    assert cookie.startswith(f"{SECURE}=")
    assert "; Secure" in cookie
    pair = cookie.partition(";")[0]
    session = pair.partition("=")[2]
    for sent, known in (
        (pair, 200),
        (f"scalemesh=planted; {pair}", 200),
        (f"a=b {SECURE}=planted; {pair}", 200),
        (f"{pair}; a=b {SECURE}=planted", 200),
        (f"{SECURE}=planted; {pair}", 401),
        (f"scalemesh={session}", 401),  # a neighbour, or anybody on the way, can plant that name
        (f"a=b {pair}", 401),
    ):
        assert (await behind.ask("/api/v1/session", headers={"Cookie": sent}))[0] == known, sent
    assert (await behind.ask("/api/v1/session", to=behind.direct, headers={"Cookie": pair, **FORGED}))[0] == 401


async def test_the_cookie_is_plain_for_who_only_claims_to_speak_https(behind: Behind) -> None:
    status, cookie = await behind.sign_in(to=behind.direct, **FORGED)
    assert status == 204
    assert cookie.startswith("scalemesh=")
    assert "Secure" not in cookie
    pair = cookie.partition(";")[0]
    assert (await behind.ask("/api/v1/session", to=behind.direct, headers={"Cookie": pair, **FORGED}))[0] == 200
    assert (await behind.ask("/api/v1/session", headers={"Cookie": pair}))[0] == 401


async def test_signing_out_takes_the_cookie_that_was_given(behind: Behind) -> None:
    pair = (await behind.sign_in(**HTTPS))[1].partition(";")[0]
    status, _, told = await behind.ask("/sign-out", json={}, headers={**HTTPS, "Cookie": pair}, allow_redirects=False)
    assert status == 303
    assert told["Set-Cookie"].startswith(f'{SECURE}="";')
    assert "; Secure" in told["Set-Cookie"]
    assert (await behind.ask("/api/v1/session", headers={"Cookie": pair}))[0] == 401


async def test_a_page_is_ours_by_the_scheme_and_host_that_the_proxy_was_asked_by(behind: Behind) -> None:
    cookie = {"Cookie": (await behind.sign_in(**HTTPS))[1].partition(";")[0]}

    async def made(name: str, host: str = "localhost", **headers: str) -> int:
        return (await behind.ask("/api/v1/projects", host=host, json={"name": name}, headers={**cookie, **headers}))[0]

    assert await made("one", **HTTPS) == 201
    assert await made("two", "localhost:8443", Origin="https://localhost:8443") == 201
    for foreign in (
        *("http://localhost", f"http://localhost:{behind.daemon.port}", behind.direct, "https://localhost:8443"),
        *("https://site.localhost", "https://evil.example", "null"),
    ):
        assert await made("planted", Origin=foreign) == 403, foreign
        assert await made("planted", **{"Origin": foreign, "X-Forwarded-Host": foreign.rpartition("/")[2]}) == 403


async def test_no_header_of_a_strangers_makes_a_page_ours(behind: Behind) -> None:
    pair = (await behind.sign_in(to=behind.direct))[1].partition(";")[0]
    for origin, forged in (
        ("https://localhost", {"X-Forwarded-Proto": "https"}),
        (f"https://localhost:{behind.daemon.port}", {"X-Forwarded-Proto": "https"}),
        ("http://evil.example", {"X-Forwarded-Host": "evil.example"}),
        ("http://evil.example", {"Forwarded": "host=evil.example"}),
        ("https://evil.example", {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}),
    ):
        headers = {"Cookie": pair, "Origin": origin, **forged, "X-Forwarded-For": PROXY}
        for host in ("localhost", f"localhost:{behind.daemon.port}"):
            answer = await behind.ask(
                "/api/v1/projects", to=behind.direct, host=host, json={"name": "planted"}, headers=headers
            )
            assert answer[0] == 403, (origin, forged)
    assert (await behind.daemon.call("GET", "/projects"))["projects"] == []


async def test_a_log_is_followed_through_the_proxy_by_our_own_pages_alone(behind: Behind) -> None:
    cookie = {"Host": "localhost", "Cookie": (await behind.sign_in(**HTTPS))[1].partition(";")[0]}
    deployment = await behind.daemon.upload("site", "prebuilt", {"index.html": b"here"})
    path = f"/api/v1/deployments/{deployment}/live"
    async with client("127.0.0.1") as session, asyncio.timeout(60):
        for base, headers in (
            (behind.proxy.url, {"Origin": "http://localhost"}),
            (behind.proxy.url, {"Origin": "https://site.localhost"}),
            (behind.direct, {**HTTPS, **FORGED}),
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError, match=r"40[13]"):
                await session.ws_connect(base + path, headers={**cookie, **headers})
        async with session.ws_connect(behind.proxy.url + path, headers={**cookie, **HTTPS}) as socket:
            assert (await socket.receive_json())[0]["number"] == 1


@pytest.mark.parametrize("keeps_host", [True, False])
async def test_the_visitors_host_is_found_whether_or_not_the_proxy_keeps_it(behind: Behind, keeps_host: bool) -> None:
    behind.proxy.keeps_host = keeps_host
    await behind.daemon.until(await behind.daemon.upload("site", "prebuilt", {"index.html": b"here"}), "ready")
    assert (await behind.ask("/", host="site.localhost"))[:2] == (200, b"here")
    assert (await behind.ask("/", host="Site.localhost.:8443"))[:2] == (200, b"here")
    assert (await behind.ask(HEALTH))[1] == WELL
    assert (await behind.ask(HEALTH, host="site.localhost", headers=FORGED))[1] == b"here"
    status, _ = await behind.sign_in(**HTTPS)
    assert status == 204


async def test_no_strangers_header_leads_to_another_host(behind: Behind) -> None:
    await behind.daemon.until(await behind.daemon.upload("site", "prebuilt", {"index.html": b"here"}), "ready")
    for host, forged, body in (
        ("site.localhost", "localhost", b"here"),
        ("localhost", "site.localhost", WELL),
        ("site.localhost", "unknown.localhost", b"here"),
    ):
        headers = {"X-Forwarded-Host": forged, "X-Forwarded-For": PROXY, "Forwarded": f"host={forged}"}
        assert (await behind.ask(HEALTH, to=behind.direct, host=host, headers=headers))[1] == body, (host, forged)


async def test_an_https_public_url_alone_makes_cookie_and_origin_those_of_https(tmp_path: Path) -> None:
    """A proxy that is not believed tells no scheme; a page over plain http is still none of ours."""
    async with open_control_host(tmp_path, Hosts(public_url="https://localhost:8443")) as host:
        for origin, status in (
            ("https://localhost:8443", 204),
            ("https://localhost", 204),
            ("http://localhost", 403),
            (host.url, 403),
            ("https://site.localhost:8443", 403),
        ):
            code = (await host.ask("POST", "/welcome", status=201))["url"].rsplit("/", 1)[1]
            headers = {"Host": "localhost", "Origin": origin, "X-Forwarded-Proto": "http"}
            answer = await host.anybody.post("/api/v1/session", json={"code": code}, headers=headers)
            assert answer.status == status, origin
            assert [(name, cookie["secure"]) for name, cookie in answer.cookies.items()] == (
                [(SECURE, True)] if status == 204 else []
            )


@pytest.mark.parametrize(
    ("hosts", "lines"),
    [
        (
            'public_url = "https://localhost"',
            [
                "ok      hosts: public_url names a proxy, and none is trusted: "
                "all its visitors share one count of tries to sign in",
                "        fix: set trusted_proxies to the address that it comes from",
            ],
        ),
        ('trusted_proxies = ["::1", "10.0.0.0/8"]', ["ok      hosts: trusted proxies: ::1, 10.0.0.0/8"]),
    ],
)
async def test_a_check_tells_which_proxies_are_believed(tmp_path: Path, hosts: str, lines: list[str]) -> None:
    config = tmp_path / "scalemesh.toml"
    config.write_text(f"[hosts]\n{hosts}\n")
    checked = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scalemesh", "check", "--config", str(config), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        told = (await checked.communicate())[0].decode().splitlines()
    assert told[1 : 1 + len(lines)] == lines
