"""Rewrites to other origins over real connections: what goes there, what comes back, what is said if nothing does."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from scalemesh.config import Proxying
from tests.contracts.origins import CLIENT, HOST, OPEN, Front, Origin, both, front, serving, until
from tests.contracts.visits import parse


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Origin, Front]]:
    async with both() as opened:
        yield opened


Pair = tuple[Origin, Front]


async def test_an_answer_comes_back_with_its_own_headers_and_ours(pair: Pair) -> None:
    origin, site = pair
    site.leads_to(
        origin.url + "/a%20b/%E2%82%AC?q=%2F&r", answer_headers=(("X-Scalemesh-Deployment", "dpl_x"), ("Via", "us"))
    )
    got = await site.get()
    assert (got.status, got.body) == (200, b"from the origin")
    assert got.headers["Content-Length"] == "15"
    assert (got.headers["Server"], got.headers["X-Request-Id"]) == ("scalemesh", "0123456789abcdef")
    assert (got.headers["X-Scalemesh-Deployment"], got.headers["Via"]) == ("dpl_x", "us")
    assert origin.seen[0].target == "/a%20b/%E2%82%AC?q=%2F&r"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "QUERY"])
async def test_every_method_goes_through_with_its_body(pair: Pair, method: str) -> None:
    origin, site = pair
    got = await site.get("/", "Content-Length: 5", "Content-Type: a/b", method=method, body=b"hello")
    assert got.status == 200
    seen = origin.seen[0]
    assert (seen.method, seen.body, seen.headers["Content-Type"]) == (method, b"hello", "a/b")
    assert (seen.headers["Content-Length"], seen.headers.get("Transfer-Encoding")) == ("5", None)


async def test_connect_is_no_request_to_pass_on(pair: Pair) -> None:
    _, site = pair
    answer = await site.raw(b"CONNECT shop.localhost:80 HTTP/1.1\r\nHost: shop.localhost\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405 ")


async def test_the_origin_is_told_who_visits_in_our_words_alone(pair: Pair) -> None:
    origin, site = pair
    await site.get(
        "/", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: gopher", "x_forwarded_for: 6.6.6.6",
        "X-Forwarded-Port: 1", "Forwarded: for=6.6.6.6", "X-Real-IP: 6.6.6.6", "Accept-Language: de",
    )  # fmt: skip
    headers = origin.seen[0].headers
    assert headers["Host"] == f"127.0.0.1:{origin.port}"
    assert (headers["X-Forwarded-For"], headers["X-Forwarded-Proto"]) == (CLIENT, "https")
    assert (headers["X-Forwarded-Host"], headers["Accept-Language"]) == (HOST, "de")
    assert "6.6.6.6" not in str(headers)
    assert "X-Forwarded-Port" not in headers


async def test_nothing_is_added_that_the_visitor_did_not_say(pair: Pair) -> None:
    origin, site = pair
    await site.get()
    assert set(origin.seen[0].headers) == {
        *("Host", "CDN-Loop", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"),
    }


async def test_what_is_about_one_connection_does_not_cross() -> None:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        origin.seen.append(request)  # type: ignore[arg-type]
        headers = {
            "Connection": "X-Private, Content-Type",
            "X-Private": "1",
            "Proxy-Authenticate": "Basic",
            "Trailer": "X",
        }
        return web.Response(text="hi", headers={**headers, "Keep-Alive": "timeout=5", "X-Public": "1"})

    async with both(answering) as (origin, site):
        await site.raw(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nTE: trailers\r\n"
            b"Upgrade: h2c\r\nKeep-Alive: 5\r\nProxy-Authorization: Basic x\r\nProxy: http://evil\r\nX-Open: 1\r\n\r\n"
        )
        sent = set(origin.seen[0].headers)
        got = await site.get()
    assert sent.isdisjoint({"X-Secret", "TE", "Upgrade", "Keep-Alive", "Proxy-Authorization", "Proxy", "Connection"})
    assert "X-Open" in sent
    assert set(got.headers).isdisjoint({"X-Private", "Proxy-Authenticate", "Keep-Alive", "Trailer"})
    assert (got.headers["X-Public"], got.headers["Content-Type"]) == ("1", "text/plain; charset=utf-8")


async def test_credentials_go_along_only_where_the_rule_says_so(pair: Pair) -> None:
    origin, site = pair
    asked = ("Cookie: session=1", "Authorization: Bearer t")
    await site.get("/", *asked)
    assert {"Cookie", "Authorization"}.isdisjoint(origin.seen[0].headers)
    site.leads_to(origin.url, keeps_credentials=True)
    await site.get("/", *asked)
    assert (origin.seen[1].headers["Cookie"], origin.seen[1].headers["Authorization"]) == ("session=1", "Bearer t")


async def test_a_rule_sets_headers_for_the_origin_but_cannot_break_the_request(pair: Pair) -> None:
    origin, site = pair
    site.leads_to(
        origin.url,
        headers=(("X-Key", "k\r\nX-More: 1"), ("Authorization", "Basic y"), ("CDN-Loop", ""), ("Content-Length", "9")),
    )
    await site.get("/", "X-Key: mine", "Authorization: Basic x")
    headers = origin.seen[0].headers
    assert (headers["X-Key"], headers["Authorization"]) == ("k  X-More: 1", "Basic y")
    assert ("Content-Length" in headers, headers["CDN-Loop"]) == (False, "scalemesh")


async def test_a_cookie_of_the_origin_stays_with_the_host_that_was_visited() -> None:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        response = web.Response(text="hi")
        response.headers.add("Set-Cookie", "a=1; Domain=localhost; Path=/; HttpOnly")
        response.headers.add("Set-Cookie", "scalemesh=stolen; Path=/")
        response.headers.add("Set-Cookie", "b=2")
        return response

    async with both(answering) as (_, site):
        answer = await site.raw(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    cookies = [line for line in answer.decode().split("\r\n") if line.startswith("Set-Cookie")]
    assert cookies == ["Set-Cookie: a=1; Path=/; HttpOnly", "Set-Cookie: b=2"]


async def test_a_redirect_is_passed_on_and_not_followed() -> None:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "http://169.254.169.254/latest"})

    async with both(answering) as (_, site):
        got = await site.get()
    assert (got.status, got.headers["Location"]) == (302, "http://169.254.169.254/latest")


async def test_a_compressed_body_crosses_as_it_is_both_ways() -> None:
    packed = gzip.compress(b"a" * 10_000)

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        assert (await request.read(), request.headers["Content-Encoding"]) == (packed, "gzip")
        assert request.headers["Accept-Encoding"] == "gzip, br"
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    async with both(answering) as (_, site):
        asked = ("Content-Encoding: gzip", f"Content-Length: {len(packed)}", "Accept-Encoding: gzip, br")
        got = await site.get("/", *asked, method="POST", body=packed)
    assert (got.status, got.body, got.headers["Content-Encoding"]) == (200, packed, "gzip")


async def test_a_head_tells_the_length_that_get_would_have(pair: Pair) -> None:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(headers={"Content-Length": str(1 << 40)})  # over any limit: HEAD carries nothing of it

    origin, site = pair
    origin.handler = answering
    got = await site.get(method="HEAD")
    assert (got.status, got.headers["Content-Length"], got.body) == (200, str(1 << 40), b"")


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_ends_with_its_head(pair: Pair, status: int) -> None:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, headers={"ETag": '"a"'})

    origin, site = pair
    origin.handler = answering
    answer = await site.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer.count(f"HTTP/1.1 {status} ".encode()) == 2
    assert answer.endswith(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in answer


async def test_headers_that_are_no_ascii_cross_as_text() -> None:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        transport.write(
            b"HTTP/1.1 200 Tr\xe8s bien\r\nX-Latin: caf\xe9\r\nX-Utf: \xc3\xa9\r\nContent-Length: 0\r\n\r\n"
        )
        await asyncio.Event().wait()
        raise AssertionError

    async with both(answering) as (_, site):
        answer = await site.raw(b"GET / HTTP/1.1\r\nHost: a\r\nX-Latin: \xe9\r\nConnection: close\r\n\r\n")
    assert answer.decode().startswith("HTTP/1.1 200 Très bien\r\nX-Latin: café\r\nX-Utf: é\r\n")


async def test_events_arrive_one_by_one_as_the_origin_sends_them() -> None:
    go_on = asyncio.Event()

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(3):
            await response.write(f"data: {number}\n\n".encode())
            await go_on.wait()
            go_on.clear()
        return response

    async with both(answering) as (_, site):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(30):
            for number in range(3):
                await reader.readuntil(f"data: {number}\n\n".encode())
                go_on.set()
            await reader.readuntil(b"0\r\n\r\n")
        writer.close()


async def test_a_body_of_unknown_length_streams_to_the_origin_before_it_ends() -> None:
    arrived: list[bytes] = []

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        while piece := await request.content.readany():
            arrived.append(piece)
        return web.Response(text=request.headers.get("Transfer-Encoding", ""))

    async with both(answering) as (_, site):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\none\r\n"
        )
        await until(lambda: arrived == [b"one"])
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
        async with asyncio.timeout(30):
            got = parse(await reader.read())
        writer.close()
    assert (got.status, got.body, arrived) == (200, b"chunked", [b"one", b"two"])


async def test_who_waits_to_be_asked_for_the_body_is_asked(pair: Pair) -> None:
    origin, site = pair
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    async with asyncio.timeout(30):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        got = parse(await reader.read())
    writer.close()
    assert (got.status, origin.seen[0].body) == (200, b"hi")
    assert "Expect" not in origin.seen[0].headers


async def test_in_an_application_that_asks_for_the_body_itself_it_is_asked_for_once(pair: Pair) -> None:
    origin, site = pair
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", site.__call__)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.port = runner.addresses[0][1]
    answer = await site.raw(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\nhi"
    )
    await runner.cleanup()
    assert (answer.count(b"100 Continue"), answer.count(b"200 OK"), origin.seen[0].body) == (1, 1, b"hi")


async def test_a_visitor_who_speaks_http_1_0_gets_the_whole_and_then_the_end() -> None:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"of unknown length")
        return response

    async with both(answering) as (_, site):
        answer = await site.raw(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nof unknown length")


async def test_two_visits_one_after_the_other_use_one_connection_to_the_origin(pair: Pair) -> None:
    origin, site = pair
    await site.get()
    await site.get()
    assert len(origin.connections) == 1


async def test_two_that_lead_to_each_other_end_in_508() -> None:
    async with front("http://127.0.0.1:1/") as one, front(f"http://127.0.0.1:{one.port}/") as other:
        one.leads_to(f"http://127.0.0.1:{other.port}/")
        got = await one.get("/", "Accept: text/html")
    assert got.status == 508
    assert b"leads back to itself" in got.body


async def test_one_over_the_number_at_once_is_told_to_come_again() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        begun.set()
        await go_on.wait()
        return web.Response(text="late")

    settings = Proxying(allow_networks=OPEN.allow_networks, most_at_once=1)
    async with both(answering, settings) as (_, site):
        first = asyncio.create_task(site.get())
        await begun.wait()
        second = await site.get()
        go_on.set()
        assert (await first).body == b"late"
        assert (second.status, second.headers["Retry-After"]) == (503, "5")
        assert (await site.get()).status == 200


async def test_a_page_of_ours_keeps_what_says_which_site_it_is_of(pair: Pair) -> None:
    _, site = pair
    headers = (("X-Scalemesh-Deployment", "dpl_x"), ("X-Robots-Tag", "noindex"), ("Cache-Control", "public, max-age=9"))
    site.leads_to("http://127.0.0.1:1/", answer_headers=headers)
    got = await site.get("/", "Accept: text/html")
    assert (got.status, got.headers["Cache-Control"]) == (502, "no-store")
    assert (got.headers["X-Scalemesh-Deployment"], got.headers["X-Robots-Tag"]) == ("dpl_x", "noindex")
    assert got.headers["X-Request-Id"] == "0123456789abcdef"
    assert b"no connection to it could be made" in got.body
    assert b"127.0.0.1" not in got.body


@pytest.mark.parametrize(
    "url",
    ["ftp://127.0.0.1/", "http://user:pw@127.0.0.1/", "http://@/", "/x", "http://127.0.0.1:0/", "http://a b/", "http://[::1/",
     "http://127.0.0.1/\r\nX: y", "http://x:99999/", ""],
)  # fmt: skip
async def test_a_place_that_is_none_is_said_to_be_none(pair: Pair, url: str) -> None:
    _, site = pair
    site.leads_to(url)
    got = await site.get()
    assert (got.status, got.body.split(b"\n")[0]) == (502, b"502 This page leads nowhere")


async def test_a_name_that_does_not_exist_is_said_so(pair: Pair) -> None:
    async def nobody_knows(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
        raise OSError(-2, "Name or service not known")

    async with front("http://none.example/", look_up=nobody_knows) as site:
        got = await site.get()
    assert (got.status, b"host name could not be found" in got.body) == (502, True)


async def test_an_origin_that_does_not_speak_http_is_a_502() -> None:
    async def garbled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 smtp ready\r\n")
        writer.close()

    server = await asyncio.start_server(garbled, "127.0.0.1", 0)
    async with server, front(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/") as site:
        got = await site.get()
    assert (got.status, got.body.split(b"\n")[0]) == (502, b"502 The server behind this page answers badly")


async def test_an_origin_that_switches_protocols_unasked_is_a_502() -> None:
    async def switching(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil\r\nConnection: upgrade\r\n\r\nhello")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(switching, "127.0.0.1", 0)
    async with server, front(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/") as site:
        got = await site.get()
    assert got.status == 502


async def test_the_session_is_made_at_the_first_visit_and_closed_at_the_end() -> None:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="hi")

    async with serving(answering) as port:
        async with front(f"http://127.0.0.1:{port}/") as site:
            assert site.proxy._session is None
            await site.get()
            session = site.proxy._session
            assert session is not None
        assert session.closed
