"""The proxy's limits of time and size, and what happens to one side when the other goes or dawdles."""

import asyncio
import socket
from dataclasses import replace

import pytest
from aiohttp import web

from scalemesh.config import MIB, Proxying
from tests.contracts.origins import OPEN, both, front, until
from tests.contracts.visits import parse

IMPATIENT = replace(OPEN, connect_timeout_s=1, answer_timeout_s=1, idle_timeout_s=1)
SMALL = replace(OPEN, request_mib=1, answer_mib=1)
GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


async def never(request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def test_an_origin_that_never_answers_is_a_504() -> None:
    async with both(never, replace(IMPATIENT, connect_timeout_s=1)) as (_, site):
        got = await site.get()
    assert (got.status, got.body.split(b"\n")[0]) == (504, b"504 The server behind this page takes too long")


async def test_a_name_that_is_never_found_is_a_504() -> None:
    async def look_up(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
        await asyncio.Event().wait()
        raise AssertionError

    async with front("http://slow.example/", IMPATIENT, look_up=look_up) as site:
        assert (await site.get()).status == 504


async def test_an_upload_that_goes_on_is_waited_for_longer_than_an_answer() -> None:
    """The limit counts from the last piece: a slow line is no dead origin."""

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=await request.read())

    limits = replace(OPEN, connect_timeout_s=4, answer_timeout_s=4, idle_timeout_s=4)
    async with both(answering, limits) as (_, site):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\nConnection: close\r\n\r\n")
        for _ in range(8):
            writer.write(b"x")
            await asyncio.sleep(0.6)  # the very thing that is tested: more than the limit in all
        async with asyncio.timeout(30):
            got = parse(await reader.read())
        writer.close()
    assert (got.status, got.body) == (200, b"xxxxxxxx")


@pytest.mark.parametrize("ending", ["silence", "death"])
async def test_an_answer_that_breaks_off_midway_does_not_look_whole(ending: str) -> None:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"the first half")
        if ending == "silence":
            await asyncio.Event().wait()
        assert request.transport is not None
        request.transport.abort()
        return response

    async with both(answering, IMPATIENT) as (_, site):
        answer = await site.raw(GET)
    assert b"the first half" in answer
    assert not answer.endswith(LAST_CHUNK)
    assert len(site.broken) == 1


async def test_a_request_that_announces_too_much_is_refused_before_the_origin_hears_of_it() -> None:
    async with both(settings=SMALL) as (origin, site):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {MIB + 1}\r\n\r\n".encode())
        async with asyncio.timeout(30):
            head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"Connection: close" in head
        assert origin.connections == set()
        assert (await site.get("/", f"Content-Length: {MIB}", method="POST", body=b"x" * MIB)).status == 200


async def test_a_request_that_grows_over_the_limit_is_cut_off() -> None:
    whole: list[bytes] = []

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        whole.append(await request.read())
        return web.Response(text="all of it")

    async with both(answering, SMALL) as (_, site):
        body = b"100000\r\n" + b"x" * MIB + b"\r\n1\r\nx\r\n0\r\n\r\n"
        got = await site.get("/", "Transfer-Encoding: chunked", method="POST", body=body)
    assert (got.status, whole) == (413, [])


async def test_a_request_that_is_badly_chunked_never_looks_whole_to_the_origin() -> None:
    whole: list[bytes] = []

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        whole.append(await request.read())
        return web.Response(text="all of it")

    async with both(answering) as (_, site):
        answer = await site.raw(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\nx\r\nzz\r\n"
        )
    assert b"200 OK" not in answer
    assert whole == []


async def test_an_answer_that_announces_too_much_is_a_page() -> None:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"x" * (MIB + 1))

    async with both(answering, SMALL) as (_, site):
        got = await site.get()
    assert (got.status, got.body.split(b"\n")[0]) == (502, b"502 This answer is too large")


async def test_an_answer_that_grows_over_the_limit_is_cut() -> None:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(17):
            await response.write(b"x" * (MIB // 16))
        return response

    async with both(answering, SMALL) as (_, site):
        answer = await site.raw(GET)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert not answer.endswith(LAST_CHUNK)
    assert len(site.broken) == 1


class Leaving:
    """An origin that tells when its visitor is gone."""

    def __init__(self, *, begins: bool) -> None:
        self.begins = begins
        self.begun, self.ended = asyncio.Event(), asyncio.Event()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        if self.begins:
            await response.prepare(request)
            await response.write(b"begun")
        self.begun.set()
        await until(lambda: request.transport is None)
        self.ended.set()
        return response


@pytest.mark.parametrize("begins", [False, True], ids=["before the answer", "while it waits for more of it"])
async def test_a_visitor_who_leaves_ends_the_request_to_the_origin(begins: bool) -> None:
    origin = Leaving(begins=begins)
    async with both(origin) as (_, site):
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(GET)
        await origin.begun.wait()
        writer.close()
        async with asyncio.timeout(30):
            await origin.ended.wait()
            await site.ended.wait()
    assert len(site.broken) == 1


async def test_a_visitor_who_leaves_midway_through_an_upload_ends_the_request_to_the_origin() -> None:
    outcome: list[object] = []

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        try:
            outcome.append(await request.read())
        except (ConnectionError, web.RequestPayloadError) as error:
            outcome.append(error)
            raise
        return web.Response()

    async with both(answering) as (origin, site):
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
        await until(lambda: bool(origin.connections))
        writer.close()
        async with asyncio.timeout(30):
            await site.ended.wait()
    assert not [one for one in outcome if isinstance(one, bytes)]


async def test_a_slow_visitor_slows_the_origin_down_instead_of_filling_memory() -> None:
    sent = 0

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(512):
            await response.write(b"x" * (MIB // 8))
            sent += MIB // 8
        return response

    async with both(answering) as (_, site):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=4096)
        writer.write(GET)
        before = -1
        async with asyncio.timeout(30):
            while before != sent or not sent:
                before = sent
                await asyncio.sleep(0.3)  # until the origin's progress stands still
        assert sent < 32 * MIB  # of 64: what the kernel's buffers hold on two connections
        got = 0
        async with asyncio.timeout(30):
            while piece := await reader.read(MIB):
                got += len(piece)
        writer.close()
    assert got > 64 * MIB


async def test_a_visitor_who_takes_nothing_is_cut_after_the_idle_time() -> None:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"x" * (64 * MIB))

    async with both(answering, IMPATIENT) as (_, site):
        _, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=4096)
        writer.write(GET)
        async with asyncio.timeout(30):
            await site.ended.wait()
        writer.close()
    assert len(site.broken) == 1


async def test_an_origin_that_answers_before_it_has_the_whole_request_is_heard() -> None:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        response = web.Response(status=401, text="no")
        response.force_close()
        return response

    async with both(answering) as (_, site):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\nConnection: close\r\n\r\nhalf")
        async with asyncio.timeout(30):
            head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 401 ")


async def test_an_origin_of_no_address_that_may_be_reached_is_a_page_that_says_which_setting_opens_it() -> None:
    async with both(settings=Proxying()) as (origin, site):
        got = await site.get("/", "Accept: text/html")
        assert (got.status, b"proxy.allow_networks" in got.body) == (502, True)
        assert origin.connections == set()
        async with front(origin.url, OPEN) as opened:
            assert (await opened.get()).status == 200  # the same place, opened: it was the rule that shut it


@pytest.mark.parametrize(
    "host", ["localhost", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "0.0.0.0",
             "0", "[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
             "１２７.0.0.1", "127。0。0。1", "%31%32%37.0.0.1", "[fe80::1%25lo]"],
)  # fmt: skip
async def test_this_machine_is_reached_by_none_of_its_names(host: str) -> None:
    async with both(settings=Proxying()) as (origin, site):
        site.leads_to(f"http://{host}:{origin.port}/")
        assert (await site.get()).status == 502
        assert (origin.connections, origin.seen) == (set(), [])


@pytest.mark.parametrize("host", ["localhost", "0x7f000001", "0.0.0.0", "[::ffff:127.0.0.1]"])
async def test_the_same_names_reach_this_machine_where_the_operator_opens_it(host: str) -> None:
    """So that the test above means protection, and not a name that leads nowhere."""
    settings = Proxying(allow_networks=("127.0.0.0/8", "0.0.0.0/8", "::ffff:0:0/96"))
    async with both(settings=settings) as (origin, site):
        site.leads_to(f"http://{host}:{origin.port}/")
        assert (await site.get()).status == 200


class Rebinds:
    """A name server that tells an open address first, and a shut one from then on."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
        self.asked += 1
        return [(socket.AF_INET, "127.0.0.1" if self.asked == 1 else "127.0.0.3")]


async def test_a_connection_goes_to_the_very_address_that_was_checked() -> None:
    names = Rebinds()
    settings = Proxying(allow_networks=("127.0.0.1/32",))
    async with both() as (origin, _):
        url = f"http://rebinds.example:{origin.port}/"
        async with front(url, settings, look_up=names) as site:
            assert ((await site.get()).status, names.asked) == (200, 1)
        async with front(url, settings, look_up=names) as later:
            got = await later.get()
    assert (got.status, b"closed network" in got.body, names.asked) == (502, True, 2)
