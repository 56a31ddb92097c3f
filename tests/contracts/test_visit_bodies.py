"""Bodies over the wire: several ranges as one, variants as they are stored."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from email import message_from_bytes

import brotli
import pytest

from scalemesh.services import encodings
from scalemesh.services.encodings import Encodings
from scalemesh.values import Blob, Digest
from tests.contracts.visits import BIG, FILES, PROJECT, Got, MemoryStore, Site, Unreachable, open_site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site(MemoryStore()) as opened:
        yield opened


def parts(got: Got) -> list[tuple[str, bytes]]:
    """(Content-Range, bytes) of each part of a multipart body, as a library reads it."""
    message = message_from_bytes(b"Content-Type: " + got.headers["Content-Type"].encode() + b"\r\n\r\n" + got.body)
    assert message.get_content_type() == "multipart/byteranges"
    assert message.is_multipart()
    assert not message.defects
    found = [part for part in message.walk() if not part.is_multipart()]
    return [(str(part["Content-Range"]), bytes(part.get_payload(decode=True))) for part in found]


async def test_several_ranges_of_a_streamed_file_are_its_parts(site: Site) -> None:
    middle = 70_000  # across the store's chunks
    got = await site.get("/film.mp4", f"Range: bytes=0-9,1000-{middle},-5")
    size = len(BIG)
    assert (got.status, int(got.headers["Content-Length"])) == (206, len(got.body))
    raw = got.body.split(f"--{got.headers['Content-Type'].partition('boundary=')[2]}".encode())
    assert [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in raw[1:-1]] == [
        BIG[:10],
        BIG[1000 : middle + 1],
        BIG[-5:],
    ]
    assert raw[-1] == b"--\r\n"
    ranges = [
        line
        for part in raw
        for line in part.split(b"\r\n\r\n")[0].decode("latin1").split("\r\n")
        if "Content-Range" in line
    ]
    assert ranges == [
        f"Content-Range: bytes 0-9/{size}",
        f"Content-Range: bytes 1000-{middle}/{size}",
        f"Content-Range: bytes {size - 5}-{size - 1}/{size}",
    ]


async def test_several_ranges_of_a_small_file_are_its_parts() -> None:
    text = "".join(f"line {number}\n" for number in range(200)).encode()
    async with open_site(MemoryStore(), files={**FILES, "lines.txt": text}) as site:
        got = await site.get("/lines.txt", "Range: bytes=900-919,0-19")
        assert parts(got) == [
            (f"bytes 900-919/{len(text)}", text[900:920]),
            (f"bytes 0-19/{len(text)}", text[:20]),
        ]


async def test_several_ranges_have_a_head_like_any_answer(site: Site) -> None:
    asked = "Range: bytes=0-9,5000-5009"
    got, head = await site.get("/film.mp4", asked), await site.get("/film.mp4", asked, method="HEAD")
    assert (head.status, head.body) == (206, b"")
    assert head.headers["Content-Length"] == str(len(got.body))


async def test_hundreds_of_ranges_are_the_whole_file(site: Site) -> None:
    got = await site.get("/film.mp4", "Range: bytes=" + ",".join(f"{at * 900}-{at * 900}" for at in range(500)))
    assert (got.status, got.body) == (200, BIG)


@pytest.mark.parametrize("quick", [True, False])
async def test_variants_go_out_from_the_moment_their_route_names_them(quick: bool) -> None:
    """Also where the plain bytes were kept ready to be sent."""
    store, text = MemoryStore(), b"a line of text\n" * 200
    async with open_site(store, files={**FILES, "lines.txt": text}, quick=quick) as site:
        asked = ("/lines.txt", "Accept-Encoding: gzip, br")
        plain = [await site.get(*asked) for _ in range(3)]
        assert {got.body for got in plain} == {text}

        packed = brotli.compress(text)
        table = Encodings({digest(text): {"br": Blob(sha256=store.add(packed), size_bytes=len(packed))}})
        before = site.routes.find("shop.localhost")
        assert before is not None
        site.routes.apply(PROJECT, 2, [replace(before, encodings=store.add(encodings.encode(table)))])
        for _ in range(3):
            got = await site.get(*asked)
            assert (got.body, got.headers["Content-Encoding"]) == (packed, "br")
            assert (await site.get("/lines.txt", "Accept-Encoding: gzip")).body == text
            same = await site.get(*asked, f"If-None-Match: {got.headers['ETag']}")
            other = await site.get(*asked, f"If-None-Match: {plain[0].headers['ETag']}")
            assert (same.status, other.status) == (304, 200)
            assert got.headers["Vary"] == same.headers["Vary"] == plain[0].headers["Vary"] == "Accept-Encoding"


def digest(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


async def test_parts_of_a_store_that_is_away_are_a_clean_503() -> None:
    store = Unreachable()
    async with open_site(store) as site:
        await site.get("/")
        store.away = True
        got = await site.get("/film.mp4", "Range: bytes=0-9,5000-5009")
        assert (got.status, got.headers["Retry-After"]) == (503, "5")
