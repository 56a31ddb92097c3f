"""How a question about a visit is read, and what Cache-Control means in words."""

import pytest

from scalemesh.edge.reasons import caching_in_words
from scalemesh.errors import InvalidError
from scalemesh.services.explaining import header_of_line, split_url


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://shop.localhost:8080/a/b?c=d#e", ("shop.localhost:8080", "/a/b?c=d")),
        ("https://shop.localhost", ("shop.localhost", "/")),
        ("HTTPS://shop.localhost/", ("shop.localhost", "/")),
        ("shop.localhost/a", ("shop.localhost", "/a")),
        ("shop.localhost?a", ("shop.localhost", "/?a")),
        ("shop.localhost:80/to?u=http://x/", ("shop.localhost:80", "/to?u=http://x/")),
        ("[::1]:8080/a", ("[::1]:8080", "/a")),
        ("http://h/d\u00fcse x?q=\u00fc", ("h", "/d%C3%BCse%20x?q=%C3%BC")),
        ("http://h/a%2Fb%", ("h", "/a%2Fb%")),
        ("http://h//evil//", ("h", "//evil//")),
        ("http://h/../a", ("h", "/../a")),
    ],
)
def test_an_address_is_split_and_encoded_as_a_browser_sends_it(url: str, parts: tuple[str, str]) -> None:
    assert split_url(url) == parts


@pytest.mark.parametrize(
    "url", ["", "/a", "http:///a", "ftp://h/", "javascript://h", "http://a:b@h/", "h/" + "a" * 9000]
)
def test_an_address_that_nobody_could_visit_is_refused(url: str) -> None:
    with pytest.raises(InvalidError):
        split_url(url)


def test_a_header_is_a_name_and_a_value() -> None:
    assert header_of_line("Accept-Language:  fr ") == ("Accept-Language", "fr")
    assert header_of_line("X: a: b") == ("X", "a: b")
    for line in ("", ":", "no colon", "a b: c"):
        with pytest.raises(InvalidError):
            header_of_line(line)


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ("", "Nothing is said: browsers and caches decide for themselves."),
        ("no-store", "Nobody keeps it."),
        (
            "public, max-age=0, must-revalidate",
            "Browsers and caches may keep it, and ask each time whether it still holds.",
        ),
        ("max-age=5, no-cache", "Browsers and caches may keep it, and ask each time whether it still holds."),
        ("public, max-age=31536000, immutable", "Browsers and caches may keep it for 1 year, and never ask."),
        ("private, max-age=90", "Only browsers keep it for 90 seconds."),
        ("public", "Browsers and caches may keep it, for as long as they see fit."),
        (
            "max-age=0, s-maxage=86400",
            "Browsers and caches may keep it, and ask each time whether it still holds; caches between for 1 day.",
        ),
        ("max-age=nonsense", "Browsers and caches may keep it, for as long as they see fit."),
    ],
)
def test_cache_control_is_told_in_words(control: str, words: str) -> None:
    assert caching_in_words(control) == words
