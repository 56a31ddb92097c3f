"""What the bench of serving reckons with: the rest of it is run by hand."""

import random

import pytest

from tests.bench.measure import Figure, PeerError
from tests.bench.serving import asked, sites
from tests.bench.serving.load import Answered, read_result
from tests.bench.serving.promotion import during_any

SAID = """Running 1s test @ http://127.0.0.1:8080
  1 threads and 64 connections
  50000 requests in 2.00s, 120.00MB read
  Non-2xx or 3xx responses: 7

RESULT {"requests": 50000, "duration_us": 2000000, "bytes": 125000000, "connect": 1, "read": 2, "write": 3, \
"timeout": 4, "status": 7, "p50_us": 600, "p99_us": 1900}
"""


def test_the_rate_is_read_from_what_wrk_prints() -> None:
    found = read_result(SAID)
    assert (found.per_s, found.answer_bytes, found.p99_ms) == (25_000, 2500, 1.9)


def test_statuses_are_no_failures_but_lost_connections_and_time_outs_are() -> None:
    assert read_result(SAID).failed == 1 + 2 + 3 + 4


def test_wrk_without_a_result_is_told_with_its_words() -> None:
    with pytest.raises(PeerError, match="unable to connect"):
        read_result("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_the_second_host_is_visited_half_as_often_as_the_first() -> None:
    first, second, *_ = weights = asked.zipf(1000)
    assert second - first == first / 2
    assert weights[-1] - weights[-2] == pytest.approx(first / 1000)


def test_visits_by_zipf_reach_every_kind_of_page_and_favour_the_first_hosts() -> None:
    asks = (asked.PAGE, asked.ASSET)
    draws = asked.by_zipf(asks, [sites.host(number) for number in range(100)], 5000).draws
    hosts = [draw // len(asks) for draw in draws]
    assert {draw % len(asks) for draw in draws} == {0, 1}
    assert hosts.count(0) > hosts.count(10) > hosts.count(99)


def test_a_tenth_of_the_mixed_requests_of_any_connection_is_slow() -> None:
    work, connections = asked.mixed([sites.host(number) for number in range(200)]), 64
    length = len(work.draws)
    for first in range(connections):
        own = [work.draws[(first + turn * connections) % length] % len(work.asks) for turn in range(length)]
        assert sum(which != 0 for which in own) / length == pytest.approx(asked.SLOW_SHARE, abs=0.02)


def test_a_request_is_as_long_as_a_browser_s_and_carries_its_tag() -> None:
    request = asked.NOT_MODIFIED.request("a.localhost", '"tag"').decode()
    assert request.startswith('GET / HTTP/1.1\r\nHost: a.localhost\r\nIf-None-Match: "tag"\r\n')
    assert request.endswith("\r\n\r\n")
    assert 450 < len(request) < 800


@pytest.mark.parametrize(
    ("status", "encoding", "body", "fault"),
    [
        (200, None, b"page", None),
        (200, "br", sites.encoded(b"page"), "encoding br instead of None"),
        (404, None, b"page", "status 404 instead of 200"),
        (200, None, b"other", "another body"),
    ],
)
def test_only_the_answer_that_was_asked_for_is_measured(
    status: int, encoding: str | None, body: bytes, fault: str | None
) -> None:
    headers = {} if encoding is None else {"content-encoding": encoding}
    assert Answered(status=status, headers=headers, body=body, raw=body).fault(asked.PAGE, b"page") == fault


def test_sites_are_the_same_in_every_run_and_of_the_sizes_that_the_rows_name() -> None:
    site = sites.site(3)
    assert site == sites.site(3)
    assert [len(site[name]) for name in (sites.PAGE, sites.ASSET, sites.FILM)] == [2048, 60 * 1024, 1024 * 1024]


def test_a_page_does_not_get_smaller_by_encoding_and_a_style_sheet_does() -> None:
    page, style = sites.page("Page", random.Random(1)), sites.site(1)[sites.STYLE]
    assert len(sites.encoded(page)) > 0.95 * len(page)
    assert len(sites.encoded(style)) < 0.5 * len(style)


def test_visits_that_overlap_a_swap_are_told_from_those_between() -> None:
    swaps = [(100, 200), (300, 400)]
    between, across, inside, after = (210, 290), (150, 250), (320, 330), (500, 600)
    assert during_any([between, across, inside, after], swaps) == [100, 10]


def test_a_figure_with_a_lower_bound_is_met_above_it() -> None:
    def figure(value: float) -> Figure:
        return Figure(bench="page", name="ours / nginx", unit="x", values=[value], at_least=1.25)

    assert figure(1.3).is_met
    assert not figure(1.2).is_met
    assert figure(1.2).aim == "at least 1.250 x"


def test_what_could_not_be_measured_is_neither_met_nor_missed() -> None:
    figure = Figure(bench="br", name="ours", unit="x", values=[], at_least=1.2, note="not answered as asked")
    assert figure.is_met is None
    assert figure.as_json()["median"] is None
    assert figure.shown(figure.median) == "none"
