"""Bad requests that are known from elsewhere, each with what it must be answered: the same on both ways.

Each stream is followed by a request for a page of another host. Where two readers could disagree on where a request
ends, that page must not be what the first is answered with, and nothing may be answered that nobody asked for.
"""

import logging
import re
from collections.abc import Iterator

import pytest

from tests.contracts.both_ways import LOOPS, Both, agree, both_ways
from tests.contracts.visits import BIG

SECRET = b"GET /about HTTP/1.1\r\nHost: shop-678901.localhost\r\n\r\n"  #: what is smuggled, or comes next
H = b"Host: shop.localhost\r\n"
OPEN, SHUT = False, True
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")

Row = tuple[str, bytes, list[int], bool]


def get(target: bytes, more: bytes = b"") -> bytes:
    return b"GET %s HTTP/1.1\r\n%s%s\r\n" % (target, H, more)


def post(more: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n%s%s\r\n%s" % (H, more, body)


SMUGGLED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(SECRET), SECRET)
SMUGGLING: list[Row] = [
    ("length and chunks", post(b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nG"), [400], SHUT),
    ("chunks and length", post(b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", b"0\r\n\r\nG"), [400], SHUT),
    ("chunks", post(b"Transfer-Encoding: chunked\r\n", SMUGGLED), [405, 200], OPEN),
    ("a space before the colon", post(b"Transfer-Encoding : chunked\r\n", SMUGGLED), [400], SHUT),
    ("a tab before the colon", post(b"Transfer-Encoding\t: chunked\r\n", SMUGGLED), [400], SHUT),
    ("a vertical tab", post(b"Transfer-Encoding: \x0bchunked\r\n", SMUGGLED), [400], SHUT),
    ("chunked twice", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", SMUGGLED), [400], SHUT),
    ("chunked not last", post(b"Transfer-Encoding: chunked, identity\r\n", SMUGGLED), [400], SHUT),
    ("an unknown coding", post(b"Transfer-Encoding: xchunked\r\n", SMUGGLED), [400], SHUT),
    ("a folded coding", post(b"Transfer-Encoding:\r\n chunked\r\n", SMUGGLED), [400], SHUT),
    ("a folded length", post(b"Content-Length:\r\n 5\r\n", b"hello"), [400], SHUT),
    ("a chunk of a negative size", post(b"Transfer-Encoding: chunked\r\n", b"-1\r\nx\r\n0\r\n\r\n"), [400], SHUT),
    ("a length twice, the same", post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"), [400], SHUT),
    ("a length twice", post(b"Content-Length: 0\r\nContent-Length: 5\r\n", b"hello"), [400], SHUT),
    ("a list of lengths", post(b"Content-Length: 5, 5\r\n", b"hello"), [400], SHUT),
    ("a length with a sign", post(b"Content-Length: +5\r\n", b"hello"), [400], SHUT),
    ("a negative length", post(b"Content-Length: -5\r\n", b"hello"), [400], SHUT),
    ("a length in hex", post(b"Content-Length: 0x5\r\n", b"hello"), [400], SHUT),
    ("a length beyond 64 bits", post(b"Content-Length: 18446744073709551621\r\n", b"hello"), [400], SHUT),
    ("an empty length", post(b"Content-Length:\r\n"), [400], SHUT),
    ("a length with zeros", post(b"Content-Length: 0005\r\n", b"hello"), [405, 200], OPEN),
    ("a body of GET", get(b"/", b"Content-Length: 5\r\n") + b"hello", [200, 200], OPEN),
    ("a request as a body", get(b"/", b"Content-Length: %d\r\n" % len(SECRET)) + SECRET, [200, 200], OPEN),
    ("a folded field", get(b"/", b"X: a\r\n b\r\n"), [400], SHUT),
    ("a bare line feed in a value", get(b"/", b"X: a\nTransfer-Encoding: chunked\r\n"), [400], SHUT),
    ("bare line feeds", b"GET / HTTP/1.1\nHost: shop.localhost\n\n", [400], SHUT),
    ("a bare carriage return", get(b"/", b"X: a\rb\r\n"), [400], SHUT),
    ("a NUL in a value", get(b"/", b"X: a\0b\r\n"), [400], SHUT),
    ("a NUL in a name", get(b"/", b"X\0: a\r\n"), [400], SHUT),
    ("no colon", get(b"/", b"X\r\n"), [400], SHUT),
    ("no name", get(b"/", b": x\r\n"), [400], SHUT),
    ("a field before the host", b"GET / HTTP/1.1\r\n X: y\r\n" + H + b"\r\n", [400], SHUT),
    ("a line before the request", b"\r\n" + get(b"/"), [200, 200], OPEN),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400], SHUT),
    ("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n", [400], SHUT),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400], SHUT),
    # aiohttp drops what comes in one packet with an upgrade that it does not take. No client sends any.
    ("an upgrade to HTTP/2", get(b"/", b"Upgrade: h2c\r\nConnection: Upgrade\r\n"), [200], OPEN),
    ("64 KiB of one field", get(b"/", b"X: " + b"v" * 65536 + b"\r\n"), [400], SHUT),
    ("64 KiB of fields", get(b"/", b"X: v\r\n" * 11000), [400], SHUT),
    ("128 fields", get(b"/", b"X: v\r\n" * 126), [200, 200], OPEN),
]
HOSTS: list[Row] = [
    ("none", b"GET / HTTP/1.1\r\n\r\n", [400], SHUT),
    ("twice", b"GET / HTTP/1.1\r\n" + H + H + b"\r\n", [400], SHUT),
    ("two different", b"GET / HTTP/1.1\r\n" + H + b"Host: shop-678901.localhost\r\n\r\n", [400], SHUT),
    ("with a port", b"GET / HTTP/1.1\r\nHost: shop.localhost:8080\r\n\r\n", [200, 200], OPEN),
    ("with no digits behind the colon", b"GET / HTTP/1.1\r\nHost: shop.localhost:\r\n\r\n", [200, 200], OPEN),
    ("in upper case", b"GET / HTTP/1.1\r\nHost: SHOP.LocalHost\r\n\r\n", [200, 200], OPEN),
    ("with a dot behind", b"GET / HTTP/1.1\r\nHost: shop.localhost.\r\n\r\n", [200, 200], OPEN),
    ("with two dots behind", b"GET / HTTP/1.1\r\nHost: shop.localhost..\r\n\r\n", [404, 200], OPEN),
    ("with a name before", b"GET / HTTP/1.1\r\nHost: a@shop.localhost\r\n\r\n", [404, 200], OPEN),
    ("with a path behind", b"GET / HTTP/1.1\r\nHost: shop.localhost/x\r\n\r\n", [404, 200], OPEN),
    ("with a comma", b"GET / HTTP/1.1\r\nHost: shop.localhost, x\r\n\r\n", [404, 200], OPEN),
    ("an address of IPv6", b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", [404, 200], OPEN),
    ("half an address of IPv6", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", [404, 200], OPEN),
    ("empty", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", [404, 200], OPEN),
    ("not ASCII", b"GET / HTTP/1.1\r\nHost: sh\xc3\xb6p.localhost\r\n\r\n", [404, 200], OPEN),
    ("in the target", b"GET http://shop.localhost/ HTTP/1.1\r\nHost: x\r\n\r\n", [200, 200], OPEN),
    ("unknown in the target", b"GET http://x/ HTTP/1.1\r\n" + H + b"\r\n", [404, 200], OPEN),
    ("with a name in the target", b"GET http://a@shop.localhost/ HTTP/1.1\r\n" + H + b"\r\n", [404, 200], OPEN),
    ("HTTP/1.0 without one", b"GET / HTTP/1.0\r\n\r\n", [400], SHUT),
]
TARGETS: list[Row] = [
    ("up", get(b"/../../etc/passwd"), [400, 200], OPEN),
    ("up, encoded", get(b"/%2e%2e/%2E%2e/etc/passwd"), [400, 200], OPEN),
    ("up, slash encoded", get(b"/..%2f..%2fetc/passwd"), [400, 200], OPEN),
    ("up, encoded twice", get(b"/%252e%252e/etc/passwd"), [404, 200], OPEN),
    ("up, by backslash", get(b"/..\\..\\etc\\passwd"), [404, 200], OPEN),
    ("up, overlong", get(b"/%c0%ae%c0%ae/etc/passwd"), [400, 200], OPEN),
    ("a slash, overlong", get(b"/..%c0%af"), [400, 200], OPEN),
    ("a surrogate", get(b"/%ed%a0%80"), [400, 200], OPEN),
    ("a NUL", get(b"/about%00.html"), [400, 200], OPEN),
    ("a line end", get(b"/about%0d%0aX: y"), [400], SHUT),
    ("a line end without a space", get(b"/about%0d%0aX:y"), [400, 200], OPEN),
    ("a broken escape", get(b"/%4"), [400, 200], OPEN),
    ("half an escape of UTF-8", get(b"/d%C3"), [400, 200], OPEN),
    ("bytes that are no UTF-8", get(b"/d\xfcse.txt"), [400], SHUT),
    ("bytes of UTF-8", get(b"/d\xc3\xbcse.txt"), [400], SHUT),
    ("two slashes", get(b"//about"), [308, 200], OPEN),
    ("a fragment", get(b"/about#x"), [400, 200], OPEN),
    ("a control character", get(b"/a\x01"), [400], SHUT),
    ("a space", get(b"/a b"), [400], SHUT),
    ("as long as may be", get(b"/" + b"a" * 4095), [404, 200], OPEN),
    ("too long", get(b"/" + b"a" * 4096), [414, 200], OPEN),
    ("too long for aiohttp", get(b"/" + b"a" * 9000), [400], SHUT),
    ("a star", b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n", [204, 200], OPEN),
    ("none", b"GET  HTTP/1.1\r\n" + H + b"\r\n", [400], SHUT),
    ("a dot file", get(b"/.env"), [404, 200], OPEN),
]
RANGES: list[Row] = [
    ("one", get(b"/film.mp4", b"Range: bytes=5-9\r\n"), [206, 200], OPEN),
    ("past the end", get(b"/film.mp4", b"Range: bytes=99999999-\r\n"), [416, 200], OPEN),
    ("beyond 64 bits", get(b"/film.mp4", b"Range: bytes=0-18446744073709551616\r\n"), [200, 200], OPEN),
    ("18 digits", get(b"/film.mp4", b"Range: bytes=0-" + b"9" * 18 + b"\r\n"), [206, 200], OPEN),
    ("backwards", get(b"/about", b"Range: bytes=9-5\r\n"), [200, 200], OPEN),
    ("the last 0 bytes", get(b"/about", b"Range: bytes=-0\r\n"), [416, 200], OPEN),
    ("thousands", get(b"/about", b"Range: bytes=" + b",".join([b"0-1"] * 1900) + b"\r\n"), [200, 200], OPEN),
    ("negative", get(b"/about", b"Range: bytes=--5\r\n"), [200, 200], OPEN),
    ("another unit", get(b"/about", b"Range: lines=1-2\r\n"), [200, 200], OPEN),
    ("twice", get(b"/about", b"Range: bytes=0-1\r\nRange: bytes=3-4\r\n"), [200, 200], OPEN),
    ("of what is not there", get(b"/nothing", b"Range: bytes=0-1\r\n"), [404, 200], OPEN),
]
KINDS = {"request": SMUGGLING, "host": HOSTS, "target": TARGETS, "range": RANGES}
ROWS = [(f"{kind} {name}", *rest) for kind, rows in KINDS.items() for name, *rest in rows]


@pytest.fixture(scope="module", params=LOOPS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    logging.disable(logging.ERROR)
    with both_ways(request.param, tmp_path_factory.mktemp("files")) as opened:
        yield opened
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("how", ["at once", "in pieces"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_bad_request_is_answered_as_it_must_be_by_both_ways(both: Both, row: Row, how: str) -> None:
    _, stream, statuses, is_shut = row
    stream += SECRET
    half = len(stream) // 2
    quick, slow = both.compare([stream] if how == "at once" else [stream[:7], stream[7:half], stream[half:]])
    assert agree(quick, slow), (quick.said[:2000], slow.said[:2000])
    assert [int(status) for status in STATUS.findall(quick.received)] == statuses, quick.received[:2000]
    assert quick.is_closed == is_shut
    assert b"root:" not in quick.received
    assert len(quick.received) < len(BIG) + 20_000
