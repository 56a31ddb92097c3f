"""Visits over real connections: a real aiohttp server on a port of the system's choice, and bytes on a socket."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.stores.disk import DiskConfig, DiskStore
from scalemesh.edge.visit import MOST_LINES
from scalemesh.errors import UnreachableError
from scalemesh.services.manifests import encode, make_manifest
from scalemesh.values import Blob, Digest, HostKind, ProjectId, Route
from tests.contracts.visits import (
    AT,
    BIG,
    CHUNK,
    FILES,
    ID,
    DiesMidway,
    Got,
    Hangs,
    MemoryStore,
    Site,
    Unreachable,
    open_site,
    parse,
)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site(MemoryStore()) as opened:
        yield opened


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def test_the_default_store_serves_the_same_bytes(tmp_path: Path) -> None:
    async def once(data: bytes) -> AsyncIterator[bytes]:
        yield data

    memory = MemoryStore()
    async with (
        DiskStore.open(DiskConfig(path=tmp_path / "blobs")) as disk,
        open_site(memory, served_from=disk) as site,
    ):
        for sha256, data in memory.blobs.items():
            await disk.put(Blob(sha256=sha256, size_bytes=len(data)), once(data))
        for path, data in FILES.items():
            assert (await site.get("/" + path.replace("ü", "%C3%BC"))).body == data
        part = await site.get("/film.mp4", "Range: bytes=300000-900000")
        assert (part.status, part.body) == (206, BIG[300_000:900_001])
        assert not memory.begun


@pytest.mark.parametrize("path", FILES)
async def test_every_file_comes_back_as_it_was_built(site: Site, path: str) -> None:
    got = await site.get("/" + path.replace("ü", "%C3%BC"))
    assert got.status == 200
    assert got.body == FILES[path]
    assert got.headers["Content-Length"] == str(len(FILES[path]))
    assert got.headers["ETag"] == f'"{hashlib.sha256(FILES[path]).hexdigest()}"'
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["X-Scalemesh-Deployment"] == ID
    assert len(got.headers["X-Request-Id"]) == 16
    assert got.headers["Server"] == "scalemesh"


REQUESTS: list[tuple[str, tuple[str, ...]]] = [
    *[
        (target, ())
        for target in ("/", "/about", "/docs", "/docs/", "/nothing", "/nothing.js", "/film.mp4", "/%", "/..")
    ],
    *[(target, ()) for target in ("/empty.txt", "/assets/index-BxYz12aB.js", "//docs//", "/d%C3%BCse.txt", "/%00")],
    ("/", ("If-None-Match: *",)),
    ("/", ('If-None-Match: "x"', f'If-None-Match: W/"{hashlib.sha256(FILES["index.html"]).hexdigest()}"')),
    ("/", ("If-Modified-Since: Fri, 02 Jan 2026 03:04:05 GMT",)),
    *[("/film.mp4", (f"Range: bytes={asked}",)) for asked in ("0-0", "-9", "700000-", "9999999-", "1-2,4-5", "x")],
    *[("/", (f"Range: bytes={asked}",)) for asked in ("0-0", "-9", "3-", "999-")],
    ("/film.mp4", ("Range: bytes=0-9", 'If-Range: "other"')),
    ("/nothing", ("Accept: text/html",)),
]


@pytest.mark.parametrize(("target", "more"), REQUESTS, ids=str)
@pytest.mark.parametrize("host", ["shop.localhost", "SHOP-678901.localhost:80", "new.localhost", "nobody.localhost"])
async def test_head_says_what_get_says_without_the_body(
    site: Site, target: str, more: tuple[str, ...], host: str
) -> None:
    got = await site.get(target, *more, host=host)
    head = await site.get(target, *more, method="HEAD", host=host)
    assert head.body == b""
    assert head.status == got.status
    volatile = {"Date", "X-Request-Id"}
    assert {k: v for k, v in head.headers.items() if k not in volatile} == {
        k: v for k, v in got.headers.items() if k not in volatile
    }
    if got.status != 304:
        assert int(got.headers["Content-Length"]) == len(got.body)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("more", ["X: y", "If-None-Match: *"])
async def test_an_answer_without_a_body_leaves_the_connection_usable(site: Site, method: str, more: str) -> None:
    first = f"{method} / HTTP/1.1\r\nHost: shop.localhost\r\n{more}\r\n\r\n"
    second = "GET /about HTTP/1.1\r\nHost: shop.localhost\r\nConnection: close\r\n\r\n"
    answer = await site.raw((first + second).encode())
    assert answer.endswith(FILES["about.html"])
    assert answer.count(b"HTTP/1.1 ") == 2


async def test_a_304_and_a_204_carry_neither_length_nor_type(site: Site) -> None:
    for got in (await site.get("/", "If-None-Match: *"), await site.get("/", method="OPTIONS")):
        assert got.status in (204, 304)
        assert not {"Content-Length", "Content-Type", "Transfer-Encoding"} & got.headers.keys()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["film.mp4", "index.html"]), data=st.data())
def test_a_range_is_the_slice(name: str, data: st.DataObject) -> None:
    content = FILES[name]
    edge = st.integers(0, len(content) + 10) | st.sampled_from([0, 1, CHUNK, len(content) - 1, len(content)])
    first, last = data.draw(edge | st.none(), "first"), data.draw(edge | st.none(), "last")

    async def ask() -> Got:
        async with open_site(MemoryStore()) as opened:
            header = f"Range: bytes={'' if first is None else first}-{'' if last is None else last}"
            return await opened.get(f"/{name}", header)

    got = asyncio.run(ask())
    part, status = sliced(content, first, last)
    assert got.status == status
    if status != 416:
        assert got.body == part
    if status == 206:
        start = len(content) - len(part) if first is None else first
        assert got.headers["Content-Range"] == f"bytes {start}-{start + len(part) - 1}/{len(content)}"


def sliced(content: bytes, first: int | None, last: int | None) -> tuple[bytes, int]:
    if first is None and last is None:
        return content, 200
    if first is None:
        return (content[-last:], 206) if last else (b"", 416)
    if last is not None and last < first:
        return content, 200
    part = content[first:] if last is None else content[first : last + 1]
    return part, 206 if part else 416


@pytest.mark.parametrize(
    "host", ["", "nobody.localhost", "localhost", "a b", "user@shop.localhost", "shop.localhost:x"]
)
async def test_an_unknown_host_is_a_friendly_404_that_tells_of_no_other(site: Site, host: str) -> None:
    for target in ("/", "/index.html", "/%"):
        got = await site.get(target, "Accept: text/html", host=host)
        assert got.status == 404
        assert b"There is no site here" in got.body
        assert b"shop" not in got.body
        assert "X-Scalemesh-Deployment" not in got.headers
        assert got.headers["X-Request-Id"]


async def test_a_site_without_anything_ready_is_503_and_says_so(site: Site) -> None:
    got = await site.get("/any/page", "Accept: text/html", host="new.localhost")
    assert (got.status, got.headers["Retry-After"]) == (503, "5")
    assert b"is building" in got.body
    assert b'http-equiv="refresh"' in got.body


async def test_two_host_headers_are_400(site: Site) -> None:
    answer = await site.raw(b"GET / HTTP/1.1\r\nHost: shop.localhost\r\nHost: b\r\nConnection: close\r\n\r\n")
    assert b" 400 " in answer.splitlines()[0]


async def test_an_absolute_target_outweighs_the_host_header(site: Site) -> None:
    assert (await site.get("http://shop.localhost/about", host="nobody.localhost")).body == FILES["about.html"]
    assert (await site.get("http://nobody.localhost/about")).status == 404


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/%2e%2e/%2e%2e/etc/passwd", 400),
        ("/../../etc/passwd", 400),
        ("/..%2f..%2fetc%2fpasswd", 400),
        ("/%00", 400),
        ("/index.html%00.png", 400),
        ("/%c0%ae%c0%ae/", 400),
        ("/%e0%80%af", 400),
        ("/%", 400),
        ("/%zz", 400),
        ("/docs%2findex.html", 200),
        ("/docs%5cindex.html", 404),
        ("/docs\\index.html", 404),
        ("/%252e%252e/", 404),
        ("//index.html", 308),
        ("/.git/config", 404),
        ("/" + "a" * 5000, 414),
        ("/düse.txt", 400),
    ],
)
async def test_strange_addresses_have_one_answer_each(site: Site, target: str, status: int) -> None:
    got = await site.get(target)
    assert got.status == status
    assert got.headers.get("Location") == ("/index.html" if status == 308 else None)


async def test_other_methods_are_405_also_with_a_body(site: Site) -> None:
    request = b"POST / HTTP/1.1\r\nHost: shop.localhost\r\nConnection: close\r\nContent-Length: 3\r\n\r\na=b"
    got = parse(await site.raw(request))
    assert (got.status, got.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_only_the_permalink_hides_from_search_engines(site: Site) -> None:
    assert "X-Robots-Tag" not in (await site.get("/")).headers
    assert (await site.get("/", host="shop-678901.localhost")).headers["X-Robots-Tag"] == "noindex"


async def test_a_hundred_visitors_at_once_cost_one_read_of_each_blob(site: Site) -> None:
    answers = await asyncio.gather(*(site.get("/about") for _ in range(100)))
    assert {(got.status, got.body) for got in answers} == {(200, FILES["about.html"])}
    assert len(site.store.begun) == 2  # the manifest and the page
    assert (await site.get("/", method="HEAD")).status == 200
    assert len(site.store.begun) == 2  # HEAD needs no bytes


async def test_a_store_that_is_away_is_503_for_what_is_not_in_memory_alone() -> None:
    store = Unreachable()
    async with open_site(store) as site:
        assert (await site.get("/about")).status == 200
        store.away = True
        assert (await site.get("/about")).status == 200
        assert (await site.get("/nothing.png", method="HEAD")).status == 404
        for target in ("/", "/film.mp4"):
            got = await site.get(target)
            assert (got.status, got.headers["Retry-After"]) == (503, "5")
            assert got.headers["Cache-Control"] == "no-store"
            assert got.headers["X-Scalemesh-Deployment"] == ID
        store.away = False
        assert (await site.get("/film.mp4")).body == BIG


async def test_a_store_that_hangs_is_503_before_the_visitor_gives_up() -> None:
    async with open_site(Hangs(), stall_s=0.05) as site:
        assert (await site.get("/")).status == 503


@pytest.mark.parametrize("lost", ["index.html", "film.mp4"])
async def test_a_blob_that_is_lost_is_a_500_and_an_error_in_the_log(
    site: Site, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    await site.store.delete([Digest(hashlib.sha256(FILES[lost]).hexdigest())])
    got = await site.get(f"/{lost}")
    assert (got.status, got.headers["Cache-Control"]) == (500, "no-store")
    assert [record.levelno for record in caplog.records if record.name.startswith("scalemesh")] == [logging.ERROR]
    assert (await site.get("/about")).status == 200


async def test_visitors_of_what_is_lost_do_not_fill_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    await site.store.delete([Digest(hashlib.sha256(FILES["index.html"]).hexdigest())])
    for _ in range(3 * MOST_LINES):
        assert (await site.get("/index.html")).status == 500
    assert len([record for record in caplog.records if record.name == "scalemesh.edge.visit"]) == MOST_LINES


@pytest.mark.parametrize("error", [UnreachableError("gone"), RuntimeError("a bug")], ids=["gone", "bug"])
async def test_a_store_that_dies_midway_never_looks_like_a_whole_answer(error: Exception) -> None:
    async with open_site(DiesMidway(error)) as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"GET /film.mp4 HTTP/1.1\r\nHost: shop.localhost\r\n\r\n")
        received = b""
        try:
            async with asyncio.timeout(30):
                while chunk := await reader.read(1 << 20):
                    received += chunk
        except ConnectionResetError:
            pass
        finally:
            writer.close()
        got = parse(received) if received else None
        assert got is None or (int(got.headers["Content-Length"]) == len(BIG) and len(got.body) <= CHUNK)
        assert got is None or BIG.startswith(got.body)


async def test_a_visitor_who_leaves_midway_leaves_nothing_open(site: Site) -> None:
    film = Digest(hashlib.sha256(BIG).hexdigest())
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=1024)
    writer.write(b"GET /film.mp4 HTTP/1.1\r\nHost: shop.localhost\r\n\r\n")
    await reader.readexactly(100)
    assert film in site.store.begun
    writer.transport.abort()
    await until(lambda: film in site.store.ended)


async def test_a_visitor_who_takes_nothing_is_let_go() -> None:
    store = MemoryStore()
    huge = store.add(bytes(64 * 1024 * 1024))  # more than all socket buffers hold
    async with open_site(store, stall_s=0.2) as site:
        listing = [("huge.bin", huge, 64 * 1024 * 1024)]
        manifest = store.add(encode(make_manifest(ID, AT, listing).manifest))
        slow = Route(
            host="slow.localhost",
            kind=HostKind.PRODUCTION,
            project=ProjectId("prj_b"),
            project_name="slow",
            deployment=ID,
            manifest=manifest,
        )
        site.routes.apply(slow.project, 1, [slow])
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=1024)
        writer.write(b"GET /huge.bin HTTP/1.1\r\nHost: slow.localhost\r\n\r\n")
        await reader.readexactly(100)
        await until(lambda: huge in store.ended and not site.server.connections)
        writer.transport.abort()
