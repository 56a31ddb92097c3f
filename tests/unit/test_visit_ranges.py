"""Ranges of bytes, held against plain slices."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalemesh.edge.ranges import MAX_SPANS, NEAR_BYTES, Span, Unsatisfiable, asked_spans

SIZES = st.integers(0, 40)
NUMBERS = st.integers(0, 60)


def as_slice(header: str, data: bytes) -> bytes | None:
    """What asked_spans says, done to *data*; None for 416."""
    try:
        spans = asked_spans(header, len(data))
    except Unsatisfiable:
        return None
    return b"".join(data[span.start : span.stop] for span in spans) if spans else data


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
def test_whatever_is_sent_the_spans_lie_inside_the_file(header: str, size: int) -> None:
    try:
        spans = asked_spans(header, size)
    except Unsatisfiable:
        return
    assert all(0 <= span.start < span.stop <= size for span in spans)


@given(st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 3000)), min_size=1, max_size=MAX_SPANS))
def test_several_ranges_hold_every_byte_that_was_asked_for_once(asked: list[tuple[int, int]]) -> None:
    """And at most the gaps that cost less than the head of a part."""
    header = "bytes=" + ", ".join(f"{start}-{start + more}" for start, more in asked)
    wanted = {at for start, more in asked for at in range(start, min(start + more + 1, 10_000))}
    spans = asked_spans(header, 10_000)
    sent = [at for span in spans for at in range(span.start, span.stop)]
    assert len(sent) == len(set(sent))
    assert wanted <= set(sent)
    assert len(sent) - len(wanted) <= NEAR_BYTES * len(asked)
    ordered = sorted(spans, key=lambda span: span.start)
    assert all(b.start - a.stop > NEAR_BYTES for a, b in pairwise(ordered))


def test_ranges_far_apart_keep_the_order_in_which_they_were_asked_for() -> None:
    assert asked_spans("bytes=-10,0-9,500-509", 1000) == (Span(990, 1000), Span(0, 10), Span(500, 510))


def test_ranges_that_overlap_or_nearly_touch_become_one() -> None:
    assert asked_spans("bytes=50-59,0-9,5-20", 1000) == (Span(0, 60),)
    assert asked_spans("bytes=500-599,550-560,0-9", 1000) == (Span(0, 10), Span(500, 600))


def test_ranges_past_the_end_are_left_out_while_one_can_be_given() -> None:
    assert asked_spans("bytes=5000-6000,0-9,-0", 1000) == (Span(0, 10),)
    with pytest.raises(Unsatisfiable):
        asked_spans("bytes=5000-6000,1000-,-0", 1000)


@pytest.mark.parametrize("count", [MAX_SPANS + 1, 1000, 100_000])
def test_thousands_of_ranges_get_the_whole_file_at_no_cost(count: int) -> None:
    header = "bytes=" + ",".join(f"{1000 * number}-{1000 * number}" for number in range(count))
    begun = time.process_time()
    assert asked_spans(header, 1 << 40) == ()
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=2-1",
        "bytes=0-1,2-1",
        "bytes=0-1,x",
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
    assert asked_spans(header, 10) == ()


@pytest.mark.parametrize("header", ["BYTES=0-1", " bytes=0-1 ", "bytes= 0-1", "bytes=,0-1,"])
def test_a_range_may_be_written_as_the_grammar_allows(header: str) -> None:
    assert asked_spans(header, 10) == (Span(0, 2),)
