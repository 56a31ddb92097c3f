"""Which proxy of the operator's company leads where."""

import pytest

from scalemesh.web.upstream import Upstream, Upstreams

SECURE, PLAIN = Upstream("secure.test", 3128), Upstream("plain.test", 8080)


@pytest.mark.parametrize(
    ("host", "port", "is_straight"),
    [
        ("company.test", 443, True),
        ("a.company.test", 443, True),
        ("COMPANY.test.", 443, True),
        ("evilcompany.test", 443, False),
        ("one.test", 8443, True),
        ("one.test", 443, False),
        ("b.star.test", 443, True),
        ("example.com", 443, False),
    ],
)
def test_no_proxy_names_hosts_and_all_below_them(host: str, port: int, is_straight: bool) -> None:
    env = {"https_proxy": "http://secure.test", "NO_PROXY": ".company.test, one.test:8443,*.star.test,"}
    assert Upstreams(env).to(host, port, is_plain=False) == (None if is_straight else SECURE)


def test_each_kind_of_request_has_its_own_proxy_and_one_may_do_for_all() -> None:
    both = Upstreams({"HTTPS_PROXY": "http://secure.test:3128", "http_proxy": "plain.test:8080"})
    assert (both.to("a.test", 443, is_plain=False), both.to("a.test", 80, is_plain=True)) == (SECURE, PLAIN)
    every = Upstreams({"ALL_PROXY": "http://secure.test"})
    assert (every.to("a.test", 443, is_plain=False), every.to("a.test", 80, is_plain=True)) == (SECURE, SECURE)
    assert Upstreams({"HTTPS_PROXY": "http://secure.test", "NO_PROXY": "*"}).to("a.test", 443, is_plain=False) is None


@pytest.mark.parametrize("url", ["", "socks5://proxy.test:1080", "http://"])
def test_what_is_spoken_to_otherwise_is_no_proxy_here(url: str) -> None:
    assert Upstream.at(url) is None


def test_a_name_and_password_are_shown_to_the_proxy() -> None:
    found = Upstream.at("http://a%40b:c%3Ad@proxy.test:1")
    assert found == Upstream("proxy.test", 1, "Basic YUBiOmM6ZA==")
    asked = found.asking("a.test", 80, b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n")
    assert asked == (
        b"GET http://a.test:80/x HTTP/1.1\r\nProxy-Authorization: Basic YUBiOmM6ZA==\r\nHost: a.test\r\n\r\n"
    )
