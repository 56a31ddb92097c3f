"""Who a visitor is: what a believed proxy says counts, and what anybody else says changes nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from scalemesh.services.callers import MAX_HOPS, Caller, Callers

PROXY, OTHER_PROXY = "192.0.2.1", "198.51.100.7"
CALLERS = Callers([PROXY, "198.51.100.0/24", "2001:db8:1::/48"])
NAMES = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "X-Forwarded-Port", "X-Real-IP")

strangers = st.ip_addresses().map(str).filter(lambda text: not CALLERS.trusts(text))
proxies = st.sampled_from([PROXY, OTHER_PROXY, "198.51.100.8:4711", "2001:db8:1::9", "[2001:db8:1::a]:80"])
junk = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=80)
headers = st.lists(st.tuples(st.sampled_from(NAMES), junk | st.ip_addresses().map(str)), max_size=8)


def asked(peer: str, *lines: tuple[str, str], callers: Callers = CALLERS) -> Caller:
    return callers.of(peer, CIMultiDict(lines).getall, scheme="http", host="site.localhost:8080")


def visitor(*lines: str, peer: str = PROXY) -> str:
    """Whom X-Forwarded-For names."""
    return asked(peer, *(("X-Forwarded-For", line) for line in lines)).address


@given(strangers, headers)
def test_who_is_not_believed_changes_nothing_by_any_header(peer: str, sent: list[tuple[str, str]]) -> None:
    assert asked(peer, *sent) == asked(peer)


@given(headers)
def test_without_a_trusted_proxy_nobody_is_believed(sent: list[tuple[str, str]]) -> None:
    for peer in (PROXY, "127.0.0.1", "::1", ""):
        assert asked(peer, *sent, callers=Callers()) == asked(peer, callers=Callers())


@given(strangers, st.lists(proxies, max_size=4), st.lists(junk, max_size=8), st.booleans())
def test_what_stands_left_of_the_visitor_never_counts(
    stranger: str, passed: list[str], forged: list[str], is_apart: bool
) -> None:
    true = ", ".join([stranger, *passed])
    lines = [*forged, true] if is_apart else [", ".join([*forged, true])]
    assert visitor(*lines) == visitor(true) == asked(stranger).address


@given(st.sampled_from([PROXY, OTHER_PROXY]), headers)
def test_whatever_is_sent_the_answer_is_an_address_a_scheme_and_a_host(peer: str, sent: list[tuple[str, str]]) -> None:
    found = asked(peer, *sent)
    assert asked(found.address).address == found.address
    assert found.scheme in {"http", "https"}
    assert found.host


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9", OTHER_PROXY], "203.0.113.9"),
        ([f"203.0.113.9,{OTHER_PROXY} ,\t{PROXY}"], "203.0.113.9"),
        (["203.0.113.9:555"], "203.0.113.9"),
        (["2001:DB8:0::5"], "2001:db8::5"),
        (["[2001:db8::5]"], "2001:db8::5"),
        (["[2001:db8::5]:80"], "2001:db8::5"),
        (["::ffff:203.0.113.9"], "203.0.113.9"),
        (["[::ffff:198.51.100.7]:1"], "198.51.100.7"),
        (["198.51.100.8, 198.51.100.7"], "198.51.100.8"),  # all are believed: the farthest
    ],
)
def test_the_visitor_is_the_last_address_that_is_no_proxys(lines: list[str], address: str) -> None:
    assert visitor(*lines) == address


@pytest.mark.parametrize(
    "entry",
    [
        *("", "unknown", "_hidden", "203.0.113.9:", "203.0.113.9:x", "203.0.113.9:123456", "203.0.113.9:1:1"),
        *("203.0.113.09", "203.0.113", "3405803777", "0x7f.1", "203.0.113.9/32", '"203.0.113.9"', "203.0.113.9 x"),
        *("[203.0.113.9]", "[203.0.113.9]:80", "[2001:db8::5", "2001:db8::5]", "[2001:db8::5]80", "[2001:db8::5]:x"),
        *("fe80::1%eth0", "[fe80::1%eth0]:80", "[]", "2001:db8::5 " + "0" * 80, "\u0661.1.1.1"),
    ],
)
def test_what_is_no_address_ends_the_walk_at_the_last_that_was(entry: str) -> None:
    assert visitor(entry) == PROXY
    assert visitor(f"203.0.113.9, {entry}, {OTHER_PROXY}") == OTHER_PROXY


def test_a_longer_row_of_proxies_than_anybody_has_is_not_walked_to_its_end() -> None:
    assert visitor(", ".join(["203.0.113.9", *[OTHER_PROXY] * (MAX_HOPS - 1)])) == "203.0.113.9"
    assert visitor(", ".join(["203.0.113.9", *[OTHER_PROXY] * MAX_HOPS])) == OTHER_PROXY


@pytest.mark.parametrize(
    ("lines", "scheme"),
    [
        (["https"], "https"),
        (["HTTPS"], "https"),
        (["wss"], "https"),
        (["http, https"], "https"),
        (["https", "http"], "http"),
        (["https, "], "http"),
        (["javascript"], "http"),
        (["https;"], "http"),
        ([], "http"),
    ],
)
def test_the_scheme_is_what_the_proxy_next_to_us_says(lines: list[str], scheme: str) -> None:
    assert asked(PROXY, *(("X-Forwarded-Proto", line) for line in lines)).scheme == scheme


@pytest.mark.parametrize(
    ("lines", "host"),
    [
        (["shop.example"], "shop.example"),
        (["Shop.Example:8443"], "Shop.Example:8443"),
        (["[2001:db8::1]:80"], "[2001:db8::1]:80"),
        (["evil.example, shop.example"], "shop.example"),
        (["evil.example", "shop.example"], "shop.example"),
        *(([text], "site.localhost:8080") for text in ("", "a b", "user@shop.example", "shop.example/x", "x:99999")),
        (["shop.example, "], "site.localhost:8080"),
    ],
)
def test_the_host_is_what_the_proxy_next_to_us_says_if_it_is_one(lines: list[str], host: str) -> None:
    assert asked(PROXY, *(("X-Forwarded-Host", line) for line in lines)).host == host


@pytest.mark.parametrize("peer", [PROXY, f"::ffff:{PROXY}", "198.51.100.200", "2001:db8:1::77", "2001:db8:1::77%eth0"])
def test_a_proxy_is_known_by_address_or_network(peer: str) -> None:
    assert CALLERS.trusts(peer)
    assert visitor("203.0.113.9", peer=peer) == "203.0.113.9"


@pytest.mark.parametrize("peer", ["192.0.2.2", "::ffff:192.0.2.2", "2001:db8:2::1", "::c000:201", "", "unix", "/s"])
def test_nobody_else_is_a_proxy(peer: str) -> None:
    assert not CALLERS.trusts(peer)
    assert visitor("203.0.113.9", peer=peer) != "203.0.113.9"


def test_a_unix_socket_has_no_address() -> None:
    assert asked("") == Caller(address="", scheme="http", host="site.localhost:8080")


@pytest.mark.parametrize(("public_url", "scheme"), [("https://example.com", "https"), ("http://example.com", "http")])
def test_an_https_public_url_is_the_scheme_of_all(public_url: str, scheme: str) -> None:
    callers = Callers([PROXY], public_url)
    assert asked("203.0.113.9", callers=callers).scheme == scheme
    assert asked(PROXY, ("X-Forwarded-Proto", "http"), callers=callers).scheme == scheme


@pytest.mark.parametrize(
    ("address", "network"),
    [("192.0.2.7", "192.0.2.7"), ("2001:db8::1:2:3:4", "2001:db8::/64"), ("", ""), ("::ffff:192.0.2.7", "192.0.2.7")],
)
def test_an_ipv6_network_is_one_caller(address: str, network: str) -> None:
    assert asked(address).network == network
