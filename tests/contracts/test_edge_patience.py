"""How long visitors may keep us waiting, and how many there may be."""

import asyncio
import socket
from dataclasses import replace

import pytest

from tests.contracts.both_loops import event_loop_policy  # noqa: F401
from tests.contracts.visitors import CHUNKED, FILM, PLAIN, SOON_S, Files, connections, front_of, until, visitor
from tests.contracts.visits import FILES, PATIENT, Site, open_site

pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")


async def test_a_head_may_come_byte_by_byte_and_the_connection_stays_on_the_quick_way(quick_site: Site) -> None:
    async with visitor(quick_site) as one:
        await one.get(PLAIN)
        before = quick_site.server.requests_count
        for byte in PLAIN[:-1]:
            one.send(bytes([byte]))
            await asyncio.sleep(0)
        assert await one.get(PLAIN[-1:]) == (200, FILES["about.html"])
        assert await one.get(PLAIN) == (200, FILES["about.html"])
        assert quick_site.server.requests_count == before


@pytest.mark.parametrize(
    "begun",
    [
        b"GET / HTTP/1.1\r\nHost: shop.localhost\r\nX: ",
        PLAIN + b"G",
        b"",
        PLAIN,
        b"POST / HTTP/1.0\r\nHost: shop.localhost\r\nX: ",
    ],
)
async def test_a_visitor_who_does_not_finish_asking_is_let_go_also_one_who_trickles(files: Files, begun: bytes) -> None:
    async with (
        open_site(files.store, patience=replace(PATIENT, idle_s=0.5, head_s=0.5)) as site,
        visitor(site) as one,
    ):
        reading = asyncio.ensure_future(one.rest())
        one.send(begun)
        while not reading.done():
            if begun.endswith(b" "):
                one.send(b"x")
            await asyncio.wait([reading], timeout=0.05)
        assert (await reading).count(b"HTTP/1.1 200") == begun.count(b"\r\n\r\n")
        await until(lambda: not connections(site))


async def test_a_connection_that_is_aiohttps_for_good_is_let_go_when_it_trickles(files: Files) -> None:
    async with (
        open_site(files.store, patience=replace(PATIENT, idle_s=0.5)) as site,
        visitor(site) as one,
    ):
        assert (await one.get(CHUNKED))[0] == 405
        reading = asyncio.ensure_future(one.rest())
        one.send(b"GET / HTTP/1.1\r\nX: ")
        while not reading.done():
            one.send(b"x")
            await asyncio.wait([reading], timeout=0.05)
        await reading


@pytest.mark.parametrize("asks_on", [False, True])
@pytest.mark.parametrize("asked", [FILM, PLAIN * 100_000], ids=["a file", "many pages"])
async def test_a_visitor_who_takes_nothing_is_let_go_whatever_they_send(
    files: Files, asked: bytes, asks_on: bool
) -> None:
    async with (
        open_site(files.store, file_of=files.path, patience=replace(PATIENT, stall_s=0.5)) as site,
        visitor(site, read_bytes=1024, kernel_bytes=4096) as one,
    ):
        one.send(asked)
        await until(lambda: bool(connections(site)))
        begun = asyncio.get_running_loop().time()
        while connections(site):
            if asks_on:
                one.send(PLAIN)
            await asyncio.sleep(0.05)
            assert asyncio.get_running_loop().time() - begun < SOON_S


async def test_a_visitor_who_takes_a_little_all_the_time_is_not_let_go(files: Files) -> None:
    """The limit is for those who take nothing."""
    async with (
        open_site(files.store, patience=replace(PATIENT, stall_s=2.0)) as site,
        visitor(site, read_bytes=1024, kernel_bytes=4096) as one,
    ):
        await until(lambda: bool(connections(site)))
        (connection,) = connections(site)
        assert connection._transport is not None
        connection._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        one.send(PLAIN * 20_000)
        stalled = 0
        for _ in range(60):
            for _ in range(10):
                assert await one.get() == (200, FILES["about.html"])
            stalled += bool(connection._stalled)
            await asyncio.sleep(0.1)
        assert stalled > 30


async def test_connections_are_capped_and_one_that_ends_makes_room(files: Files) -> None:
    async with open_site(files.store, patience=replace(PATIENT, connections=5)) as site:
        async with visitor(site) as first:
            await first.get(PLAIN)
            others = [asyncio.open_connection("127.0.0.1", site.port) for _ in range(4)]
            opened = await asyncio.gather(*others)
            await until(lambda: len(connections(site)) == 5)
            async with visitor(site) as sixth:
                assert await sixth.rest() == b""
            assert (await first.get(PLAIN))[0] == 200
            opened[0][1].close()
            await until(lambda: len(connections(site)) == 4)
            async with visitor(site) as again:
                assert (await again.get(PLAIN))[0] == 200
        for _, writer in opened:
            writer.close()


class Counted:
    """A connection, as far as it is counted."""

    def close_soon(self) -> None: ...
    def abort(self) -> None: ...


async def test_connections_are_capped_for_each_address_and_for_each_network_of_ipv6(files: Files) -> None:
    async with open_site(files.store, patience=replace(PATIENT, connections_per_address=2)) as site:
        front = front_of(site)

        def admitted(*peers: str) -> list[bool]:
            made = [(Counted(), peer) for peer in peers]
            found = [front.admit(one, peer) for one, peer in made]
            for one, peer in made:
                front.release(one, peer)
            return found

        assert admitted("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2") == [True, True, False, True]
        assert admitted("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1") == [True, True, False]
        assert admitted("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1") == [True, True, False, True]
        for own in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", ""):
            assert admitted(own, own, own) == [True, True, True]
        assert admitted("fe80::1%eth0") == [True]
        assert not front._by_address
        assert not front._open
