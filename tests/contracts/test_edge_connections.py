"""The life of visitors' connections: full of requests, broken off, handed over and back, and at the server's end."""

import asyncio
import gc
import hashlib
import os
import socket

import pytest

from scalemesh.edge.protocol import MAX_WAITING, Connection
from scalemesh.values import Digest
from tests.contracts.both_loops import event_loop_policy  # noqa: F401
from tests.contracts.visitors import (
    CHUNKED,
    FILM,
    PLAIN,
    SOON_S,
    Files,
    connections,
    front_of,
    open_files,
    until,
    visitor,
)
from tests.contracts.visits import BIG, FILES, Site, open_site

pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")


# Many requests


async def test_hundreds_of_requests_at_once_are_answered_in_their_order(quick_site: Site) -> None:
    """Plain ones, files, and what aiohttp answers, mixed: each answer stands where it was asked for."""
    kinds: list[tuple[bytes, int, bytes]] = [
        (PLAIN, 200, FILES["about.html"]),
        (b"GET /nothing HTTP/1.1\r\nHost: shop.localhost\r\n\r\n", 404, FILES["404.html"]),
        (b"GET / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 9\r\n\r\nGET / HTT", 200, FILES["index.html"]),
        (b"GET /film.mp4 HTTP/1.1\r\nHost: shop.localhost\r\nRange: bytes=300-65836\r\n\r\n", 206, BIG[300:65837]),
        (b"GET /docs/ HTTP/1.1\r\nHost: shop.localhost\r\n\r\n", 200, FILES["docs/index.html"]),
    ]
    asked = [kinds[number * 7 % len(kinds) if number % 3 else number % 2] for number in range(600)]
    async with visitor(quick_site) as one:
        one.send(b"".join(request for request, _, _ in asked))
        for number, (_, status, body) in enumerate(asked):
            assert await one.get() == (status, body), number


async def test_a_visitor_who_only_asks_and_never_reads_takes_bounded_memory(quick_site: Site) -> None:
    sock = socket.create_connection(("127.0.0.1", quick_site.port))
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    sent = 0
    with sock:
        with pytest.raises(TimeoutError):
            while sent < 200 << 20:
                async with asyncio.timeout(0.3):
                    await loop.sock_sendall(sock, PLAIN * 1000)
                sent += 1000 * len(PLAIN)
        (connection,) = connections(quick_site)
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() < 512 * 1024
        assert len(connection._waiting) <= MAX_WAITING + 256 * 1024
    await until(lambda: not connections(quick_site))


async def test_a_visitor_who_asks_much_and_reads_late_gets_every_answer(quick_site: Site) -> None:
    async with visitor(quick_site, kernel_bytes=4096) as one:
        one.send(PLAIN * 20_000)
        for _ in range(20_000):
            assert await one.get() == (200, FILES["about.html"])


async def test_a_large_file_comes_whole_to_a_slow_reader_and_so_does_each_part_of_it(quick_site: Site) -> None:
    async with visitor(quick_site, read_bytes=4096, kernel_bytes=4096) as one:
        assert await one.get(FILM) == (200, BIG)
        for start, stop in ((0, 1), (1, len(BIG)), (123_457, 1_234_567), (len(BIG) - 1, len(BIG))):
            part = b"GET /film.mp4 HTTP/1.1\r\nHost: shop.localhost\r\nRange: bytes=%d-%d\r\n\r\n" % (start, stop - 1)
            assert await one.get(part) == (206, BIG[start:stop])
        assert quick_site.server.requests_count == 1  # the manifest had to be read


async def test_a_file_that_the_disk_must_be_asked_for_comes_whole_too(quick_site: Site, files: Files) -> None:
    path = files.path(Digest(hashlib.sha256(BIG).hexdigest()))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        for kernel_bytes in (4096, 1 << 20):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            async with visitor(quick_site, kernel_bytes=kernel_bytes) as one:
                await one.get(PLAIN)
                assert await one.get(FILM) == (200, BIG)
                assert await one.get(PLAIN) == (200, FILES["about.html"])


# Broken ones


async def test_a_file_is_sent_to_its_end_also_to_a_visitor_who_sends_no_more(quick_site: Site) -> None:
    async with visitor(quick_site, read_bytes=4096, kernel_bytes=4096) as one:
        await one.get(PLAIN)
        one.send(FILM)
        one.end()
        assert (await one.rest()).endswith(BIG)
    async with visitor(quick_site, read_bytes=4096, kernel_bytes=4096) as one:
        one.send(PLAIN * 5000)
        one.end()
        assert (await one.rest()).count(b"HTTP/1.1 200") == 5000
    await until(lambda: not connections(quick_site))


async def test_a_visitor_who_leaves_in_the_middle_of_a_file_leaves_nothing_behind(quick_site: Site) -> None:
    async with visitor(quick_site) as one:
        await one.get(PLAIN)
    before = open_files()
    for _ in range(20):
        async with visitor(quick_site, read_bytes=1024, kernel_bytes=4096) as one:
            one.send(FILM)
            await until(lambda: any(found._sender for found in connections(quick_site)))
            one.reset()
    await until(lambda: not connections(quick_site))
    await until(lambda: open_files() <= before)


async def test_a_file_that_is_gone_or_cut_is_left_to_the_other_way(quick_site: Site, files: Files) -> None:
    async with visitor(quick_site) as one:
        await one.get(PLAIN)
        path = files.path(Digest(hashlib.sha256(BIG).hexdigest()))
        os.truncate(path, 1000)
        before = quick_site.server.requests_count
        assert await one.get(FILM) == (200, BIG)  # the store of this test has it in memory
        assert quick_site.server.requests_count == before + 1
        assert await one.get(PLAIN) == (200, FILES["about.html"])


async def test_a_file_that_shrinks_while_it_is_sent_ends_the_connection(quick_site: Site, files: Files) -> None:
    async with visitor(quick_site, read_bytes=1024, kernel_bytes=4096) as one:
        await one.get(PLAIN)
        one.send(FILM)
        await until(lambda: any(found._sender for found in connections(quick_site)))
        os.truncate(files.path(Digest(hashlib.sha256(BIG).hexdigest())), 1000)
        assert len(await one.rest()) < len(BIG)
    await until(lambda: not connections(quick_site))


def held_connections() -> list[Connection]:
    """Those that anything still refers to."""
    gc.collect()
    return [found for found in gc.get_objects() if isinstance(found, Connection)]


async def test_a_thousand_connections_leave_nothing_behind(quick_site: Site) -> None:
    loop = asyncio.get_running_loop()
    async with visitor(quick_site) as one:
        await one.get(PLAIN)
    await until(lambda: not connections(quick_site))
    gc.collect()
    before = open_files()
    for number in range(1000):
        async with visitor(quick_site) as one:
            asked = (
                PLAIN,
                PLAIN[:9],
                FILM,
                b"POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 9\r\n\r\n",
                b"",
            )[number % 5]
            one.send(asked)
            if asked is PLAIN:
                await one.get()
    await until(lambda: not connections(quick_site))
    await until(lambda: not quick_site.server.connections)
    await until(lambda: open_files() <= before)
    await until(lambda: not held_connections())
    scheduled = getattr(loop, "_scheduled", [])  # uvloop keeps its own
    assert sum(not handle.cancelled() for handle in scheduled) < 20


# There and back


async def test_a_connection_comes_back_to_the_quick_way_after_aiohttp_has_answered(
    quick_site: Site, files: Files
) -> None:
    async with visitor(quick_site) as one:
        await one.get(PLAIN)
        os.truncate(files.path(Digest(hashlib.sha256(BIG).hexdigest())), 1000)  # so that it is aiohttp's to answer
        for _ in range(3):
            before = quick_site.server.requests_count
            one.send(FILM + PLAIN * 2)
            assert await one.get() == (200, BIG)
            for _ in range(2):
                assert await one.get() == (200, FILES["about.html"])
            assert await one.get(PLAIN) == (200, FILES["about.html"])
            assert quick_site.server.requests_count == before + 1


@pytest.mark.parametrize("size", [10, 100_000, 300_000, 3_000_000])
@pytest.mark.parametrize("piece", [1 << 30, 50_001])
async def test_a_body_that_comes_in_pieces_ends_where_it_was_said_to(quick_site: Site, size: int, piece: int) -> None:
    """The body looks like requests, none of which is ever answered; the request behind it is."""
    body = (PLAIN * (size // len(PLAIN) + 1))[:size]
    request = b"POST /about HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: %d\r\n\r\n" % size + body + FILM + PLAIN
    async with visitor(quick_site) as one:
        for start in range(0, len(request), piece):
            one.send(request[start : start + piece])
            await asyncio.sleep(0)
        assert (await one.get())[0] == 405
        assert await one.get() == (200, BIG)
        assert await one.get() == (200, FILES["about.html"])
        assert await one.get(PLAIN) == (200, FILES["about.html"])


async def test_an_answer_before_the_body_is_whole_leaves_a_connection_that_can_go_on(quick_site: Site) -> None:
    async with visitor(quick_site) as one:
        begun = b"POST /about HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: %d\r\n\r\n" % (len(PLAIN) + 5)
        assert (await one.get(begun + b"hello"))[0] == 405
        one.send(PLAIN)  # the rest of the body, not a request
        one.send(FILM)
        assert await one.get() == (200, BIG)


async def test_a_visitor_may_wait_for_100_continue_and_send_chunks(quick_site: Site) -> None:
    async with visitor(quick_site) as one:
        asking = b"POST /about HTTP/1.1\r\nHost: shop.localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        assert (await one.get(asking))[0] == 405  # nobody wants that body
        one.send(b"hello")
        chunked = b"POST /about HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        one.send(chunked + b"2d\r\n" + PLAIN + b"\r\n")
        assert (await one.get(b"0\r\n\r\n"))[0] == 405
        assert await one.get(PLAIN) == (200, FILES["about.html"])


# The end


async def test_at_the_end_those_finish_who_are_being_answered_and_idle_ones_are_closed_at_once(files: Files) -> None:
    loop = asyncio.get_running_loop()
    async with (
        open_site(files.store, file_of=files.path) as site,
        visitor(site) as idle,
        visitor(site) as for_good,
        visitor(site, read_bytes=1024, kernel_bytes=4096) as busy,
    ):
        await idle.get(PLAIN)
        await for_good.get(CHUNKED)
        busy.send(FILM)
        await until(lambda: any(found._sender for found in connections(site)))
        closing = asyncio.ensure_future(front_of(site).close(60))
        assert await idle.rest() == b""
        assert await for_good.rest() == b""
        assert not closing.done()
        began = loop.time()
        assert (await busy.rest()).endswith(BIG)
        await closing
        assert loop.time() - began < SOON_S
