"""One range of bytes, held against a plain slice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalemesh.edge.ranges import Span, Unsatisfiable, asked_span

SIZES = st.integers(0, 40)
NUMBERS = st.integers(0, 60)


def as_slice(header: str, data: bytes) -> bytes | None:
    """What asked_span says, done to *data*; None for 416."""
    try:
        span = asked_span(header, len(data))
    except Unsatisfiable:
        return None
    return data if span is None else data[span.start : span.stop]


@given(SIZES, NUMBERS, NUMBERS)
def test_a_closed_range_is_the_slice(size: int, first: int, last: int) -> None:
    data = bytes(range(size))
    expected = data if last < first or not data else data[first : last + 1] or None
    assert as_slice(f"bytes={first}-{last}", data) == expected


@given(SIZES, NUMBERS)
def test_an_open_range_is_the_rest(size: int, first: int) -> None:
    data = bytes(range(size))
    assert as_slice(f"bytes={first}-", data) == (data[first:] or (None if data else data))


@given(SIZES, NUMBERS)
def test_a_suffix_range_is_the_end(size: int, count: int) -> None:
    data = bytes(range(size))
    assert as_slice(f"bytes=-{count}", data) == ((data[-count:] if count else None) if data else data)


@given(st.text("bytes=-,0123 \t", max_size=24) | st.text(max_size=20), SIZES)
def test_whatever_is_sent_the_span_lies_inside_the_file(header: str, size: int) -> None:
    try:
        span = asked_span(header, size)
    except Unsatisfiable:
        return
    assert span is None or 0 <= span.start < span.stop <= size


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=2-1",
        "bytes=0-1,3-4",
        "lines=0-1",
        "bytes=--1",
        "bytes=0-1-2",
        "bytes=１-２",
        "bytes 0-1",
        "bytes=0 - 1",
        "bytes=0x1-2",
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_what_we_do_not_follow_gets_the_whole_file(header: str) -> None:
    assert asked_span(header, 10) is None


@pytest.mark.parametrize("header", ["BYTES=0-1", " bytes=0-1 ", "bytes= 0-1", "bytes=,0-1,"])
def test_a_range_may_be_written_as_the_grammar_allows(header: str) -> None:
    assert asked_span(header, 10) == Span(0, 2)
