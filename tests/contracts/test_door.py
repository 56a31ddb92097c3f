"""The way in for builders elsewhere: who holds the door finds it shut, and the others come in."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from scalemesh.services.callers import Callers
from scalemesh.web.door import Room, open_door


@asynccontextmanager
async def door(room: Room) -> AsyncIterator[int]:
    """One that leads to a server that says hello; yields its port."""

    async def hello(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="hello")

    server = web.Server(hello, access_log=None)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        async with open_door(server, sock, room, backlog=16):
            yield sock.getsockname()[1]
        await server.shutdown(1)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """What a request is answered with; empty where the connection was ended."""
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(30):
            return await reader.read(4000)
    except ConnectionError:
        return b""


async def test_past_its_room_a_connection_is_ended_and_one_that_leaves_makes_place() -> None:
    async with door(Room(callers=Callers(), connections=2)) as port, connected(port) as second:
        async with connected(port) as first:
            assert b"hello" in await asked(*first)
            assert b"hello" in await asked(*second)
            async with connected(port) as third:
                assert await asked(*third) == b""
        async with asyncio.timeout(30):
            answer = b""
            while b"hello" not in answer:  # until the server has seen that the first one left
                async with connected(port) as third:
                    answer = await asked(*third)


OTHERS = ["192.0.2.1"] * 3 + ["198.51.100.9"]


@pytest.mark.parametrize(
    ("peer", "is_let_in"),
    [
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("192.0.2.2", True),
        ("2001:db8::1", True),
        ("127.0.0.1", True),
        ("", True),
    ],
)
def test_one_address_cannot_take_the_room_of_the_others(peer: str, is_let_in: bool) -> None:
    assert Room(callers=Callers(), per_address=3).has_place(peer, OTHERS) is is_let_in


def test_one_network_of_ipv6_is_one_address() -> None:
    others = ["2001:db8::1", "2001:db8::2"]
    room = Room(callers=Callers(), per_address=2)
    assert not room.has_place("2001:db8::ffff", others)
    assert room.has_place("2001:db8:0:1::1", others)


def test_a_trusted_proxy_brings_any_number() -> None:
    assert Room(callers=Callers(("192.0.2.1",)), per_address=3).has_place("192.0.2.1", OTHERS)
    assert not Room(callers=Callers(("192.0.2.1",)), connections=4).has_place("192.0.2.1", OTHERS)
