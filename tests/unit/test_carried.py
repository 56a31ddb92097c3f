"""Headers that cross a proxy, as pure functions."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from scalemesh.edge.answers import Passage
from scalemesh.edge.cookies import host_only
from scalemesh.edge.origins.carried import Arrival, as_text, hops, to_origin, to_visitor

PASSAGE = Passage(url="http://o.example/", because="a rule")
ARRIVAL = Arrival(client="203.0.113.9", scheme="https", host="shop.example")


def sent(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


@pytest.mark.parametrize(
    ("cookie", "kept"),
    [
        ("a=1", "a=1"),
        ("a=1; Path=/; Secure", "a=1; Path=/; Secure"),
        ("a=1; domain = .example.com ;Path=/", "a=1;Path=/"),
        ("a=1;DOMAIN=x;Domain=y", "a=1"),
        ("a=domain=x; Max-Age=0", "a=domain=x; Max-Age=0"),
        ("scalemesh=1; Path=/", None),
        (" __Host-scalemesh =1; Secure; Path=/", None),
        ("=scalemesh=1", None),
        ("scalemesh-theme=1", "scalemesh-theme=1"),
    ],
)
def test_a_cookie_keeps_all_but_its_domain_and_never_has_a_name_of_ours(cookie: str, kept: str | None) -> None:
    assert host_only(cookie) == kept


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ((), 0),
        (("scalemesh",), 1),
        (("Scalemesh; v=1, cloudflare, scalemesh",), 2),
        (("scalemesh", "scalemesh"), 2),
        (("scalemesh-not",), 0),
    ],
)
def test_hops_are_our_own_entries_however_they_are_written(values: tuple[str, ...], count: int) -> None:
    assert hops(sent(*(("CDN-Loop", value) for value in values))) == count


def test_what_others_wrote_about_loops_is_kept_before_our_own() -> None:
    headers = to_origin(sent(("CDN-Loop", "cloudflare"), ("cdn-loop", "scalemesh")), PASSAGE, ARRIVAL)
    assert headers.getall("CDN-Loop") == ["cloudflare, scalemesh, scalemesh"]


def test_a_header_that_stands_there_twice_crosses_twice() -> None:
    assert to_origin(sent(("X-A", "1"), ("x-a", "2")), PASSAGE, ARRIVAL).getall("X-A") == ["1", "2"]
    assert to_visitor(sent(("Link", "a"), ("Link", "b")), PASSAGE).getall("Link") == ["a", "b"]


@pytest.mark.parametrize("name", ["Forwarded", "X_Forwarded_Host", "X-Forwarded-Server", "X-Real-Ip", "True_Client-IP"])
def test_no_spelling_lets_a_visitor_say_where_it_comes_from(name: str) -> None:
    values = to_origin(sent((name, "6.6.6.6")), PASSAGE, ARRIVAL).values()
    assert "6.6.6.6" not in list(values)


def test_orders_to_a_server_in_front_of_us_do_not_reach_it() -> None:
    got = sent(("X-Accel-Redirect", "/secret"), ("X-Sendfile", "/etc/passwd"), ("Alt-Svc", 'h3=":443"'), ("X-A", "1"))
    assert list(to_visitor(got, PASSAGE)) == ["X-A"]


def test_naming_the_type_or_length_as_hop_by_hop_takes_neither_away() -> None:
    got = sent(
        ("Connection", "Content-Type, content-length, X-A"),
        ("Content-Type", "a/b"),
        ("Content-Length", "1"),
        ("X-A", "1"),
    )
    assert dict(to_visitor(got, PASSAGE)) == {"Content-Type": "a/b", "Content-Length": "1"}


def test_a_value_in_latin_1_becomes_text() -> None:
    assert as_text(b"caf\xe9".decode("utf-8", "surrogateescape")) == "café"
    assert as_text("é€") == "é€"
    assert as_text("a\r\nb\x00\tc") == "a  b \tc"
