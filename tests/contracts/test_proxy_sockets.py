"""Websockets through the proxy, over real connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from scalemesh.config import MIB, Proxying
from tests.contracts.origins import CLIENT, OPEN, Front, Origin, both


@dataclass
class Stage:
    """A visitor's websocket, through the proxy, and the origin's end of it."""

    visitor: aiohttp.ClientWebSocketResponse
    origin: web.WebSocketResponse
    site: Front
    headers: dict[str, str]  #: as the origin got them


@asynccontextmanager
async def stage(settings: Proxying = OPEN, *, headers: Any = None, **more: Any) -> AsyncIterator[Stage]:
    """Both ends open; the origin's handler waits until the test is over."""
    opened: asyncio.Future[tuple[web.WebSocketResponse, dict[str, str]]] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("chat.v2", "chat.v1"), autoping=False, autoclose=False, timeout=1)
        socket.headers["X-Origin"] = "yes"
        socket.headers["Set-Cookie"] = "a=1; Domain=localhost"
        await socket.prepare(request)
        opened.set_result((socket, dict(request.headers)))
        await over.wait()
        return socket

    async with both(answering, settings) as (_, site), aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{site.port}/chat"
        async with session.ws_connect(url, headers=headers, autoping=False, autoclose=False, **more) as visitor:
            origin, seen = await opened
            try:
                async with asyncio.timeout(50):
                    yield Stage(visitor, origin, site, seen)
            finally:
                over.set()


async def test_messages_cross_both_ways_as_they_are() -> None:
    async with stage(max_msg_size=0) as on:
        await on.visitor.send_str("grüße")
        await on.visitor.send_bytes(b"\x00" * MIB)
        assert await on.origin.receive_str() == "grüße"
        assert await on.origin.receive_bytes() == b"\x00" * MIB
        await on.origin.send_str("")
        await on.origin.send_bytes(b"x" * MIB)
        assert await on.visitor.receive_str() == ""
        assert await on.visitor.receive_bytes() == b"x" * MIB


async def test_the_subprotocol_is_the_one_that_the_origin_chooses() -> None:
    async with stage(protocols=("chat.v1", "chat.v9")) as on:
        assert (on.visitor.protocol, on.origin.ws_protocol) == ("chat.v1", "chat.v1")
    async with stage() as on:
        assert (on.visitor.protocol, on.origin.ws_protocol) == (None, None)


async def test_the_handshake_tells_the_origin_what_a_request_would() -> None:
    async with stage(headers={"Cookie": "a=1", "Origin": "https://shop", "X-Forwarded-For": "6.6.6.6"}) as on:
        assert (on.headers["X-Forwarded-For"], on.headers["Origin"]) == (CLIENT, "https://shop")
        assert (on.headers["CDN-Loop"], "Cookie" in on.headers) == ("scalemesh", False)


async def test_the_answer_to_the_handshake_carries_the_origins_headers_and_ours() -> None:
    async with stage() as on:
        headers = on.visitor._response.headers
        assert (headers["X-Origin"], headers["Set-Cookie"]) == ("yes", "a=1")
        assert (headers["Server"], headers["X-Request-Id"]) == ("scalemesh", "0123456789abcdef")
        assert len(headers.getall("Sec-WebSocket-Accept")) == 1


async def test_pings_and_pongs_cross() -> None:
    async with stage() as on:
        await on.visitor.ping(b"there?")
        message = await on.origin.receive()
        assert (message.type, message.data) == (WSMsgType.PING, b"there?")
        await on.origin.pong(b"here")
        message = await on.visitor.receive()
        assert (message.type, message.data) == (WSMsgType.PONG, b"here")


@pytest.mark.parametrize("code", [1000, 1001, 1008, 3000, 4999])
async def test_a_close_of_the_visitor_reaches_the_origin_with_its_code_and_words(code: int) -> None:
    async with stage() as on:
        closing = asyncio.create_task(on.visitor.close(code=code, message=b"genug"))
        message = await on.origin.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, code, "genug")
        await on.origin.close()
        await closing
        assert on.visitor.close_code == code


@pytest.mark.parametrize("code", [1000, 1011, 1012, 4000])
async def test_a_close_of_the_origin_reaches_the_visitor_with_its_code_and_words(code: int) -> None:
    async with stage() as on:
        closing = asyncio.create_task(on.origin.close(code=code, message=b"later"))
        message = await on.visitor.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, code, "later")
        await on.visitor.close()
        await closing


async def test_an_origin_that_dies_is_told_to_the_visitor() -> None:
    async with stage() as on:
        assert on.origin._req is not None
        transport = on.origin._req.transport
        assert transport is not None
        transport.abort()
        message = await on.visitor.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1014)


async def test_a_visitor_that_dies_is_told_to_the_origin() -> None:
    async with stage() as on:
        connection = on.visitor._response.connection
        assert connection is not None
        assert connection.transport is not None
        connection.transport.abort()
        message = await on.origin.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        await on.site.ended.wait()


@pytest.mark.parametrize("talker", ["visitor", "origin"])
async def test_a_message_over_the_limit_ends_both_sides(talker: str) -> None:
    async with stage(replace(OPEN, websocket_message_mib=1), max_msg_size=0) as on:
        sender, other = (on.visitor, on.origin) if talker == "visitor" else (on.origin, on.visitor)
        await sender.send_bytes(b"x" * MIB)  # the limit itself is under it
        assert len(await other.receive_bytes()) == MIB
        await sender.send_bytes(b"x" * (MIB + 1))
        for end in (sender, other):
            message = await end.receive()
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1009)


async def test_a_side_that_says_nothing_any_more_is_noticed_by_pings() -> None:
    """The origin's handler reads nothing, so that no ping is answered."""
    async with stage(replace(OPEN, idle_timeout_s=1)) as on:
        pinged = await on.visitor.receive()
        assert pinged.type is WSMsgType.PING
        await on.visitor.pong(pinged.data)
        while (message := await on.visitor.receive()).type is WSMsgType.PING:
            await on.visitor.pong(message.data)
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1014)


async def test_a_slow_reader_slows_the_writer_down_instead_of_filling_memory() -> None:
    sent = 0
    async with stage() as on:

        async def flood() -> None:
            nonlocal sent
            for _ in range(512):
                await on.origin.send_bytes(b"x" * (MIB // 8))
                sent += 1

        flooding = asyncio.create_task(flood())
        before = -1
        while before != sent or not sent:
            before = sent
            await asyncio.sleep(0.3)  # until the writer's progress stands still
        assert sent < 256  # of 512: what the kernel's buffers hold on two connections
        for _ in range(512):
            await on.visitor.receive_bytes()
        await flooding


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Origin, Front]]:
    async with both() as opened:
        yield opened


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_an_origin_that_declines_is_heard_with_its_whole_answer(pair: tuple[Origin, Front]) -> None:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        response = web.Response(status=307, headers={"Location": "http://127.0.0.1:1/x"}, text="over there")
        response.force_close()
        return response

    origin, site = pair
    origin.handler = answering
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(HANDSHAKE)
    async with asyncio.timeout(30):
        answer = await reader.readuntil(b"over there")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 307 ")
    assert b"Location: http://127.0.0.1:1/x" in answer


async def test_a_handshake_that_is_none_goes_on_as_a_plain_request(pair: tuple[Origin, Front]) -> None:
    origin, site = pair
    got = await site.raw(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200 ")
    assert {"Upgrade", "Connection"}.isdisjoint(origin.seen[0].headers)


async def test_a_websocket_leads_to_no_address_that_a_request_may_not_reach() -> None:
    async with both(settings=Proxying()) as (origin, site):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(HANDSHAKE)
        async with asyncio.timeout(30):
            assert (await reader.readline()).startswith(b"HTTP/1.1 502 ")
        writer.close()
    assert origin.connections == set()


async def test_an_origin_that_gives_a_wrong_answer_to_the_handshake_is_a_502(pair: tuple[Origin, Front]) -> None:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Accept: x\r\n\r\n"
        )
        await asyncio.Event().wait()
        raise AssertionError

    origin, site = pair
    origin.handler = answering
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(HANDSHAKE)
    async with asyncio.timeout(30):
        assert (await reader.readline()).startswith(b"HTTP/1.1 502 ")
    writer.close()
