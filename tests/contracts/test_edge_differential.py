"""The quick way and aiohttp alone, side by side: whatever comes in, both say the same."""

import hashlib
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contracts.both_ways import LOOPS, Both, agree, both_ways
from tests.contracts.visits import FILES

HOST = b"Host: shop.localhost"
METHODS = [*[b"GET"] * 6, b"HEAD", b"OPTIONS", b"POST", b"PUT", b"DELETE", b"FOO", b"get", b"", b"CONNECT", b"TRACE"]
TARGETS = [
    *(b"/", b"/about", b"/docs", b"/docs/", b"/nothing", b"/nothing.js", b"/empty.txt", b"/assets/index-BxYz12aB.js"),
    *(b"/%2e%2e/x", b"/../x", b"/%00", b"//docs//", b"/about?x=1", b"/about?", b"/%", b"/d%C3%BCse.txt", b"/\\about"),
    *(
        b"http://shop.localhost/about",
        b"http://new.localhost/",
        b"*",
        b"",
        b"about",
        b"/a b",
        b"/about#x",
        b"/\xc3\xbc",
    ),
    *(b"/\xff", b"/a\tb", b"/\x00", b"/" + b"a" * 4095, b"/" + b"a" * 4096, b"/" + b"a" * 8189, b"/" + b"a" * 8200),
    *(b"http://[::1/", b"/%c0%af", b"/%252e", b"/;", b"/{}|^`", b'/"', b"/<>"),
]
VERSIONS = [*[b"HTTP/1.1"] * 10, b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"", b"HTTP/0.9"]
HOSTS = [
    *[HOST] * 12,
    *(b"Host: SHOP.localhost:80", b"Host: shop.localhost.", b"Host:shop.localhost", b"Host: \tshop.localhost \t"),
    *(b"Host: shop-678901.localhost", b"Host: new.localhost", b"Host: nobody.localhost", b"Host: a@shop.localhost"),
    *(b"Host: [::1]:80", b"Host: [::1", b"Host:", b"Host: shop.localhost, new.localhost", b"Host: shop.localhost:x"),
    *(b"host: shop.localhost", b"Host : shop.localhost", b" Host: shop.localhost", b"X: no host", b"Host: sh\xf6p"),
    *(b"Host: shop.localhost:99999", b"Host: shop.localhost\r\nHost: shop.localhost", b"Host: a\r\n b"),
]
FIELDS = [
    *(b"Accept-Encoding: gzip, br", b"Accept-Encoding: br;q=0", b"Accept: text/html", b"Accept: */*", b"X: y", b"X:"),
    *(b"If-None-Match: *", b'If-None-Match: "x"', b"If-None-Match: ", b"Range: bytes=0-3", b"Range: bytes=9-,1-2"),
    *(b"Range: bytes=99999999999999999999-", b"If-Modified-Since: Fri, 02 Jan 2026 03:04:05 GMT", b'If-Range: "x"'),
    *(b"Connection: close", b"Connection: keep-alive", b"Connection: Close", b"Connection: upgrade", b"Connection:"),
    *(b"Connection: close, x", b"Connection: keep-alive, close", b"Keep-Alive: timeout=1", b"Proxy-Connection: close"),
    *(b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 05", b"Content-Length: +5", b"Content-Length: -1"),
    *(
        b"Content-Length: 5, 5",
        b"Content-Length: 0x5",
        b"Content-Length: 5 ",
        b"Content-Length:",
        b"Content-Length: 5 5",
    ),
    *(
        b"Content-Length: 99999999999999999999999",
        b"Content-Length : 5",
        b"Content-Length\x0b: 5",
        b"content-length: 5",
    ),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding:  chunked", b"Transfer-Encoding: chunked, identity"),
    *(b"Transfer-Encoding : chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding:\r\n chunked"),
    *(b"Transfer-Encoding: identity", b"TE: trailers", b"Trailer: x", b"Content-Encoding: gzip"),
    *(b"Upgrade: websocket", b"Upgrade: h2c", b"Sec-WebSocket-Key1: x", b"Sec-WebSocket-Version: 13"),
    *(b"Sec-Fetch-Mode: navigate", b"Cookie: a=b", b"User-Agent: a", b"Server: a", b"ETag: a", b"Max-Forwards: 1"),
    *(b"Content-Type: a", b"Content-Location: /", b"Content-Range: bytes 0-1/2", b"Authorization: Basic x"),
    *(b"X: \x00", b"X: a\x01b", b"X: \x7f", b"X: \xff\xfe", b"X: \xc3\xbc", b"X y: z", b": v", b"X", b"", b"X: a\rb"),
    *(b"X: a\nb: c", b"X: a\r\n b", b"X: a\r\n\tb", b'X": y', b"X\xff: y", b"X: " + b"v" * 7000, b"X: " + b"v" * 8300),
    *(b"X-Forwarded-Host: new.localhost", b"X-Forwarded-For: 1.2.3.4", b"Forwarded: host=new.localhost"),
    b"\r\n".join(b"X-%d: y" % number for number in range(98)),
    b"\r\n".join(b"X-%d: y" % number for number in range(130)),
]
BODIES = [*[b""] * 8, b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b"5;x\r\nhello\r\n0\r\nX: y\r\n\r\n", b"\r\n"]
ENDS = [*[b"\r\n"] * 30, b"\n", b"\r", b"\r\r\n", b"\n\r\n"]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One that looks like a request, more or less; most are whole, so that there is something to answer."""
    if draw(st.integers(0, 3)):
        line = b"%s %s HTTP/1.1" % (draw(st.sampled_from(METHODS[:10])), draw(st.sampled_from(TARGETS)))
        end = b"\r\n"
        first = HOST if draw(st.integers(0, 4)) else draw(st.sampled_from(HOSTS))
    else:
        line = b" ".join(draw(st.sampled_from(part)) for part in (METHODS, TARGETS, VERSIONS))
        end = draw(st.sampled_from(ENDS))
        first = draw(st.sampled_from(HOSTS))
    fields = [first, *draw(st.lists(st.sampled_from(FIELDS), max_size=3))]
    if draw(st.booleans()):
        fields.reverse()
    made = line + b"".join(b"\r\n" + field for field in fields) + end + b"\r\n" + draw(st.sampled_from(BODIES))
    if not draw(st.integers(0, 9)):
        at = draw(st.integers(0, len(made)))
        made = made[:at] + draw(st.binary(max_size=3)) + made[at + draw(st.integers(0, 3)) :]
    return made


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Requests behind each other, cut into pieces anywhere."""
    stream = b"".join(draw(st.lists(requests(), min_size=1, max_size=4)))
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=3)))
    return [
        piece for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True) if (piece := stream[start:stop])
    ]


@pytest.fixture(scope="module", params=LOOPS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    logging.disable(logging.ERROR)
    with both_ways(request.param, tmp_path_factory.mktemp("files")) as opened:
        yield opened
    logging.disable(logging.NOTSET)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(pieces=streams())
def test_whatever_comes_in_both_ways_say_the_same(both: Both, pieces: list[bytes]) -> None:
    quick, slow = both.compare(pieces)
    assert agree(quick, slow), (pieces, quick, slow)


KNOWN = [
    b"GET / HTTP/1.1\nHost: shop.localhost\n\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"GET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\nhello",
    b"GET / HTTP/1.1\r\nHost: shop.localhost\r\nUser-Agent: a\r\nUser-Agent: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: shop.localhost\r\nETag: a\r\netag: a\r\n\r\n",
    b"GET /" + b"a" * 8200 + b" HTTP/1.1\r\nHost: shop.localhost\r\n\r\n",
    b"FOO / HTTP/1.1",
    b"GET / HTTP/1.1\r\nHost : shop.localhost\r\n",
    b"GET / HTTP/1.1\r\nHost: shop.localhost\r\nX: \x00",
]


@pytest.mark.parametrize("stream", KNOWN, ids=lambda stream: repr(stream[:60]))
def test_what_is_badly_written_is_refused_as_aiohttp_does_and_at_once(both: Both, stream: bytes) -> None:
    quick, slow = both.compare([stream])
    assert agree(quick, slow), (quick, slow)
    assert quick.said.endswith(b"<400>")
    assert quick.is_closed


CONDITIONS = [
    *(
        b"",
        b"Accept-Encoding: gzip, br\r\n",
        b"Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n",
        b"Range: bytes=0-3\r\n",
    ),
    *(b"If-None-Match: *\r\n", b"If-None-Match: %s\r\n", b'If-None-Match: "x", W/%s\r\n', b"If-None-Match: W/%s\r\n"),
    *(b'If-None-Match: "x"\r\n', b"If-None-Match: %s\r\nAccept-Encoding: br\r\n", b"Accept: text/html\r\n"),
    *(
        b"If-None-Match: \r\n",
        b"If-Modified-Since: Fri, 02 Jan 2026 03:04:05 GMT\r\n",
        b"If-Range: %s\r\nRange: bytes=1-\r\n",
    ),
    *(b"Sec-Fetch-Mode: navigate\r\n", b"Content-Length: 0\r\n", b"Cookie: a=b\r\n"),
]
ETAG = b'"' + hashlib.sha256(FILES["about.html"]).hexdigest().encode() + b'"'
AGAIN = st.tuples(
    st.sampled_from([b"GET", b"GET", b"GET", b"HEAD", b"OPTIONS"]),
    st.sampled_from([b"/about", b"/about", b"/", b"/nothing", b"/nothing.js", b"/docs", b"/film.mp4", b"/empty.txt"]),
    st.sampled_from([b"shop.localhost", b"shop.localhost", b"shop-678901.localhost", b"new.localhost", b"x.localhost"]),
    st.sampled_from(CONDITIONS),
)
PROMOTE = "promote"


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(visits=st.lists(st.one_of(AGAIN, AGAIN, AGAIN, st.just(PROMOTE)), min_size=5, max_size=40))
def test_answers_given_again_and_again_are_those_of_aiohttp_also_after_a_promotion(
    both: Both, visits: list[Any]
) -> None:
    """Prebuilt answers come from the third visit on; what another deployment said before is never said again."""
    stream = b""
    for visit in [*visits, PROMOTE, *visits]:
        if visit != PROMOTE:
            method, target, host, conditions = visit
            tagged = conditions.replace(b"%s", ETAG)
            stream += b"%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (method, target, host, tagged)
            continue
        quick, slow = both.compare([request + b"\r\n\r\n" for request in stream.split(b"\r\n\r\n")[:-1]])
        assert agree(quick, slow), (stream, quick.said[-3000:], slow.said[-3000:])
        assert not quick.is_closed
        both.promote()
        stream = b""
