"""A request target is decoded once, strictly, and can name nothing above its root."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalemesh.edge.targets import MAX_TARGET, Malformed, Target, TooLong, origin_form, read_target, write_target


@pytest.mark.parametrize(
    ("raw", "path", "query"),
    [
        ("/", "", ""),
        ("/a/b.html", "a/b.html", ""),
        ("/a?b=c?d", "a", "b=c?d"),
        ("/a?", "a", ""),
        ("/a%20b", "a b", ""),
        ("/%C3%BC", "ü", ""),
        ("/%c3%bc", "ü", ""),
        ("/\u00fc", "ü", ""),
        ("/%252e%252e/x", "%2e%2e/x", ""),
        ("/a%2Fb", "a/b", ""),
        ("/a+b", "a+b", ""),
        ("/a\\b", "a\\b", ""),
        ("/a%5Cb", "a\\b", ""),
        ("/a?x=%zz%00", "a", "x=%zz%00"),
        ("//a//b", "/a//b", ""),
        ("/...", "...", ""),
        ("/..a/.b", "..a/.b", ""),
    ],
)
def test_a_target_is_decoded_once(raw: str, path: str, query: str) -> None:
    assert read_target(raw) == Target(path, query)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "a",
        "*",
        "?",
        "http://host/a",
        "/%",
        "/%2",
        "/%zz",
        "/%u0041",
        "/a%00",
        "/%0d%0a",
        "/a\x00",
        "/a\x7f",
        "/a#b",
        "/..",
        "/../a",
        "/a/..",
        "/a/../b",
        "/%2e%2e/a",
        "/.%2e/a",
        "/%2E%2E%2fa",
        "/a/%2e",
        "/./a",
        "/.",
        "/%c0%ae%c0%ae/a",
        "/%e0%80%af",
        "/%ff",
        "/%ed%a0%80",
        "/%c3",
        "/\udcff",
        "/a?\udcff",
        "/a\n?b",
    ],
)
def test_a_malformed_target_is_refused(raw: str) -> None:
    with pytest.raises(Malformed):
        read_target(raw)


def test_a_target_has_a_longest_length() -> None:
    assert len(read_target("/" + "a" * (MAX_TARGET - 1)).path) == MAX_TARGET - 1
    with pytest.raises(TooLong):
        read_target("/" + "a" * MAX_TARGET)


@given(st.text(), st.text("ab=&?/:%[]\"'<> \\é", max_size=20))
def test_a_location_leads_back_to_its_path_on_the_same_host(path: str, query: str) -> None:
    try:
        path = read_target("/" + path).path.lstrip("/")
    except Malformed:
        return
    location = write_target(path, query)
    assert read_target(location).path == path
    assert location.isascii()
    assert location.isprintable()
    assert not {" ", '"', "<", "\\"} & set(location)
    parts = urlsplit(location)
    assert parts.scheme == parts.netloc == ""


@pytest.mark.parametrize("path", ["//evil.example", "/evil.example", "\\\\evil.example", "///"])
def test_a_location_never_names_another_host(path: str) -> None:
    assert urlsplit(write_target(path, "")).netloc == ""
    assert not write_target(path, "").startswith(("//", "/\\"))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("/a?b", ("/a?b", None)),
        ("http://Host:80/a?b", ("/a?b", "Host:80")),
        ("HTTP://host", ("/", "host")),
        ("http://host?x", ("/?x", "host")),
        ("*", ("*", None)),
        ("http://[::1/", ("http://[::1/", None)),
        ("//host/a", ("//host/a", None)),
    ],
)
def test_a_target_in_absolute_form_is_split(raw: str, expected: tuple[str, str | None]) -> None:
    assert origin_form(raw) == expected
