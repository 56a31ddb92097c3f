"""The strict reader of heads: what it takes, aiohttp takes the same way; all else it leaves alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalemesh.edge.heads import (
    LINE,
    MAX_FIELDS,
    MAX_HEAD,
    MAX_KEPT,
    REMEMBERED,
    Heads,
    may_become_plain,
    read_head,
)

HOST = b"\r\nHost: shop.localhost"
END = b"\r\n\r\n"


def test_fields_are_read_without_the_spaces_around_them_and_names_in_lower_case() -> None:
    head = read_head(b"\r\nHOST:\t Shop.localhost:80 \t\r\nX:a:b\r\nEmpty:\r\n\r\n")
    assert head is not None
    assert head.host == "shop.localhost"
    assert head.pairs() == [("host", "Shop.localhost:80"), ("x", "a:b"), ("empty", "")]
    assert head.is_plainest


@pytest.mark.parametrize(
    "fields",
    [
        *(
            b"X: a\n b",
            b"X: a\r\n b",
            b"X: a\rb",
            b"X: \x00",
            b"X: \x7f",
            b"X : a",
            b" X: a",
            b": a",
            b"X",
            b"X\xff: a",
        ),
        *(b"Transfer-Encoding: chunked", b"transfer-encoding: identity", b"Upgrade: h2c", b"Expect: x", b"TE: x"),
        *(b"Host: shop.localhost", b"Content-Length: 5\r\nContent-Length: 5", b"User-Agent: a\r\nuser-agent: a"),
        *(b"Server: a\r\nServer: a", b"ETag: a\r\nETag: a", b"Max-Forwards: 1\r\nMax-Forwards: 1"),
        *(
            b"Content-Length: +5",
            b"Content-Length: 5, 5",
            b"Content-Length:",
            b"Content-Length: -1",
            b"Content-Length: 5 5",
        ),
        *(
            b"Content-Length: " + b"9" * 16,
            b"Connection: upgrade",
            b"Connection: close, x",
            b"Connection: close\r\nConnection:",
        ),
        b"X: " + b"v" * MAX_HEAD,
        b"\r\n".join([b"X: y"] * MAX_FIELDS),
    ],
    ids=lambda fields: repr(fields[:50]),
)
def test_what_two_readers_could_take_differently_is_left_alone(fields: bytes) -> None:
    assert read_head(HOST + END) is not None
    assert read_head(HOST + b"\r\n" + fields + END) is None


def test_a_head_without_a_host_is_left_alone() -> None:
    assert read_head(b"\r\nX: y" + END) is None
    assert read_head(END) is None


@given(st.lists(st.binary(max_size=8).map(lambda data: b"X: " + data), max_size=3))
def test_a_head_that_is_read_ends_where_it_seems_to(fields: list[bytes]) -> None:
    """Nothing of what a value may hold is an end of the head, or of a line."""
    head = read_head(HOST + b"".join(b"\r\n" + field for field in fields) + END)
    if head is not None:
        assert len(head.fields) == 1 + len(fields)
        assert not any(set(value) & set(b"\r\n\0") for _, value in head.fields)


WHOLE = b"OPTIONS /about?x=1 HTTP/1.1\r\nHost: shop.localhost\r\nX-Y:z: \xff\r\nEmpty:\r\n\r\n"


@pytest.mark.parametrize("stop", range(1, len(WHOLE)))
def test_every_beginning_of_a_plain_request_may_become_one(stop: int) -> None:
    assert may_become_plain(WHOLE[:stop])


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"hello",
            b"\x16\x03\x01",
            b"get /",
            b"GET  /",
            b"GET *",
            b"GET http://a/",
            b"GET /\n",
            b"GET / HTTP/1.1\nHost",
        ),
        *(b"GET / HTTP/1.0\r\n", b"GET / HTTP/1.1 \r\n", b"FOO / HT", b"GET /a b", b"GET /\x00", b"\r\n", b" GET"),
        *(
            b"GET / HTTP/1.1\r\n X: y",
            b"GET / HTTP/1.1\r\nX : y",
            b"GET / HTTP/1.1\r\nX: a\nb",
            b"GET / HTTP/1.1\r\nX: a\rb",
        ),
        *(b"GET / HTTP/1.1\r\n:", b"GET / HTTP/1.1\r\nX: \x00", b"GET /#x", b"GET / HTTP/1.1\r\r"),
    ],
)
def test_what_cannot_become_a_plain_request_is_known_at_once(data: bytes) -> None:
    assert not may_become_plain(data)


def test_targets_longer_than_any_path_of_a_site_are_left_alone() -> None:
    assert LINE.fullmatch(b"GET /" + b"a" * 4095 + b" HTTP/1.1")
    assert not LINE.fullmatch(b"GET /" + b"a" * 4096 + b" HTTP/1.1")


def test_heads_are_remembered_and_their_number_and_size_are_bounded() -> None:
    reads: list[bytes] = []

    def read(data: bytes) -> object:
        reads.append(data)
        return read_head(data)

    heads = Heads(read)  # type: ignore[arg-type]
    assert heads.learn(HOST + END) is heads.get(HOST + END)
    large = HOST + b"\r\nX: " + b"v" * MAX_KEPT + END
    assert heads.learn(large) is not None
    assert heads.get(large) is None
    flood = [HOST + b"\r\nX: %d" % number + END for number in range(3 * REMEMBERED)]
    for data in flood:
        heads.learn(data)
    assert sum(heads.get(data) is not None for data in flood) <= REMEMBERED
    assert len(reads) == len(flood) + 2
