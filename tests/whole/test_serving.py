"""The whole of serving, by one process and by two beside the daemon: the same answers, whoever gives them."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.contracts.origins import serving
from tests.contracts.visits import Got, parse
from tests.whole.daemon import RunningDaemon, running_daemon

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
HOST = "shop.localhost"
HASHED = "assets/index-BxYz12aB.js"
FILES = {
    "index.html": b"<h1>home</h1>" * 100,
    "404.html": b"<h1>lost</h1>",
    "film.mp4": bytes(range(256)) * 2000,
    HASHED: b"console.log(1)",
    ".env": b"secret",
}
TRUSTED = "127.0.0.2"


def rules(origin: int) -> bytes:
    settings = {
        "redirects": [{"source": "/old/:rest*", "destination": "/new/:rest*"}],
        "headers": [{"source": "/(.*)", "headers": [{"key": "X-Rule", "value": "yes"}]}],
        "rewrites": [
            {"source": "/api/:rest*", "destination": f"http://127.0.0.1:{origin}/:rest*"},
            {"source": "/:view*", "has": [{"type": "cookie", "key": "app"}], "destination": "/index.html"},
        ],
    }
    return json.dumps(settings).encode()


async def origin_answers(request: web.BaseRequest) -> web.StreamResponse:
    if "upgrade" in request.headers.get("Connection", "").lower():
        sock: web.WebSocketResponse[bool] = web.WebSocketResponse()
        await sock.prepare(request)
        await sock.send_str(str(await sock.receive_str()))
        await sock.close()
        return sock
    told = {name: request.headers.get(name) for name in ("X-Forwarded-For", "X-Forwarded-Host", "Cookie")}
    told |= {"method": request.method, "target": request.raw_path, "body": (await request.read()).decode()}
    return web.json_response(told, status=201, headers={"Set-Cookie": "a=1; Domain=localhost"})


@dataclass
class Serving:
    daemon: RunningDaemon
    deployment: str

    async def raw(self, data: bytes, source: str = "127.0.0.1") -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.daemon.port, local_addr=(source, 0))
        try:
            writer.write(data)
            async with asyncio.timeout(60):
                return await reader.read()
        finally:
            writer.close()

    async def get(self, line: str, *fields: str, host: str = HOST, body: bytes = b"", source: str = "127.0.0.1") -> Got:
        """The answer to the request *line*, by whichever process."""
        lines = [f"{line} HTTP/1.1", f"Host: {host}", "Connection: close", *fields, "", ""]
        return parse(await self.raw("\r\n".join(lines).encode() + body, source))

    async def is_encoded(self) -> bool:
        """Whether the variants are made, and every process knows it: answers change once, when it does."""
        found = await asyncio.gather(*(self.get("GET /", "Accept-Encoding: br") for _ in range(12)))
        return all(got.headers.get("Content-Encoding") == "br" for got in found)

    async def every(self, line: str, *fields: str, **more: str | bytes) -> Got:
        """The one answer of all processes; what is new at each answer left out."""
        found = await asyncio.gather(*(self.get(line, *fields, **more) for _ in range(6)))  # type: ignore[arg-type]
        ids = {got.headers.get("X-Request-Id") for got in found}
        assert len(ids) == len(found)
        assert all(len(one or "") == 16 for one in ids)
        told = {
            (got.status, tuple(pair for pair in got.headers.items() if pair[0] not in FRESH), got.body) for got in found
        }
        assert len(told) == 1, told
        return found[0]


FRESH = ("Date", "X-Request-Id")


@pytest_asyncio.fixture(
    params=["", "workers = 2"], ids=["one process", "two workers"], scope="module", loop_scope="module"
)
async def at(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    """One for all tests here: they only look."""
    home = tmp_path_factory.mktemp("serving")
    edge = f'{request.param}\n[proxy]\nallow_networks = ["127.0.0.0/8"]'
    trusted = f'trusted_proxies = ["{TRUSTED}"]'
    async with serving(origin_answers) as origin, running_daemon(home, edge=edge, hosts=trusted) as daemon:
        deployment = await daemon.upload("shop", "prebuilt", {**FILES, "vercel.json": rules(origin)})
        await daemon.until(deployment, "ready")
        at = Serving(daemon, deployment)
        await daemon.eventually(at.is_encoded)
        yield at


async def test_every_kind_of_answer_is_the_same_from_every_process(at: Serving) -> None:
    """And each carries the deployment, and an id of its own."""
    home = await at.every("GET /")
    etag = home.headers.get("ETag")
    cases = [
        (200, await at.every("HEAD /")),
        (200, await at.every("GET /", "Accept-Encoding: br, zstd, gzip")),
        (304, await at.every("GET /", f'If-None-Match: "other", W/{etag}')),
        (304, await at.every("GET /", "If-None-Match: *")),
        (206, await at.every("GET /film.mp4", "Range: bytes=5-9")),
        (206, await at.every("GET /film.mp4", "Range: bytes=5-9,9000-9009")),
        (416, await at.every("GET /film.mp4", "Range: bytes=900000000-")),
        (200, await at.every(f"GET /{HASHED}")),
        (308, await at.every("GET /old/a/b?c=d")),
        (404, await at.every("GET /nothing")),
        (404, await at.every("GET /.env")),
        (404, await at.every("GET /old-1a2b3c4d.js", "Cookie: app=1")),
        (200, await at.every("GET /view", "Cookie: app=1")),
        (405, await at.every("POST /", "Content-Length: 2", body=b"hi")),
        (405, await at.every("DELETE /nothing")),
        (204, await at.every("OPTIONS /")),
        (400, await at.every("GET /%zz")),
        (400, await at.every("GET /%2e%2e/x")),
        (414, await at.every("GET /" + "a" * 5000)),
        (201, await at.every("GET /api/x?y=z")),
        (201, await at.every("PUT /api/x", "Content-Length: 2", body=b"hi")),
    ]
    for status, got in cases:
        assert (got.status, got.headers.get("X-Scalemesh-Deployment")) == (status, at.deployment), (status, got)
        assert got.headers.get("X-Content-Type-Options") == "nosniff"


async def test_what_is_no_request_is_refused_by_every_process(at: Serving) -> None:
    for fields in (("Bad Header: x",), ("Host: b.localhost",), ("Transfer-Encoding: odd",), ("Content-Length: x",)):
        got = await at.every("GET /", *fields)
        assert (got.status, got.headers.get("Server")) == (400, "scalemesh"), (fields, got)
        assert got.headers.get("X-Content-Type-Options") == "nosniff"


async def test_other_origins_are_asked_as_the_visitor_asked(at: Serving) -> None:
    got = await at.every("POST /api/a%2Fb?c=d", "Content-Length: 4", "Cookie: own=1", body=b"body")
    told = json.loads(got.body)
    assert told == {
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Host": HOST,
        "Cookie": None,
        "method": "POST",
        "target": "/a/b?c=d",
        "body": "body",
    }
    assert (got.headers.get("Set-Cookie"), got.headers.get("X-Rule")) == ("a=1", "yes")
    url = f"http://127.0.0.1:{at.daemon.port}/api/socket"
    for _ in range(4):
        async with aiohttp.ClientSession() as session, session.ws_connect(url, headers={"Host": HOST}) as sock:
            await sock.send_str("grüße")
            assert await sock.receive_str(timeout=30) == "grüße"


async def test_no_host_leads_a_stranger_to_the_control_host(at: Serving) -> None:
    """The site has no such page, and the control host answers 200."""
    forged: Mapping[str, str] = {"X-Forwarded-Host": "localhost", "Forwarded": "host=localhost", "X-Host": "localhost"}
    for name, value in forged.items():
        got = await at.every("GET /api/v1/health", f"{name}: {value}")
        assert (got.status, got.headers.get("X-Scalemesh-Deployment")) == (201, at.deployment), name
    for host in ("shop.localhost@localhost", "localhost.shop.localhost", "localhost..", "xlocalhost", "localhost/"):
        got = await at.every("GET /api/v1/health", host=host)
        assert b'"ok"' not in got.body, (host, got)
    for host in (HOST, "localhost"):
        got = await at.every("GET http://localhost/api/v1/health", host=host)
        assert (got.status, b'"ok"' in got.body) == (404, False), "an absolute target never means the control host"
    got = await at.every(f"GET http://{HOST}/", host="localhost")
    assert (got.status, got.headers.get("X-Scalemesh-Deployment")) == (200, at.deployment)


async def test_a_trusted_proxy_is_believed_by_every_process(at: Serving) -> None:
    fields = (f"X-Forwarded-Host: {HOST}", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https")
    got = await at.every("GET /api/x", *fields, host="inner.localhost", source=TRUSTED)
    told = json.loads(got.body)
    assert (told["X-Forwarded-For"], told["X-Forwarded-Host"]) == ("203.0.113.9", HOST)
    assert (await at.every("GET /", *fields, host="inner.localhost", source=TRUSTED)).status == 200
    assert (await at.every("GET /", *fields, host="inner.localhost")).status == 404
    got = await at.every("GET /api/v1/health", "X-Forwarded-Host: localhost", host=HOST, source=TRUSTED)
    assert json.loads(got.body) == {"status": "ok"}


async def test_explain_tells_what_every_process_answers(at: Serving) -> None:
    for target in ("/", "/old/x", "/nothing", "/view"):
        told = await at.daemon.call("POST", "/explain", {"url": f"http://{HOST}{target}"})
        got = await at.every(f"GET {target}")
        assert (told["status"], told["deployment"]) == (got.status, at.deployment)
        assert {header["name"] for header in told["headers"]} == set(got.headers) - {
            *FRESH,
            "Connection",
        }
