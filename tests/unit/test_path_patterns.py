"""Sources of vercel.json as patterns, and destinations as templates."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalemesh.edge.rules.ruleset import filled_address
from scalemesh.errors import InvalidError
from scalemesh.patterns import Budget, Pattern
from scalemesh.services.rules.destinations import References, header_template, redirect_template, rewrite_template
from scalemesh.services.rules.path_patterns import read_path_pattern


def matched(source: str, path: str) -> tuple[str | None, ...] | None:
    """What the groups of *source* capture of *path*; None where it does not match."""
    read = read_path_pattern(source)
    if read.path:
        return () if read.path == path else None
    found = Pattern(read.pattern).match(path)
    return None if found is None else tuple(found.get(str(number)) for number in range(1, len(read.groups) + 1))


@pytest.mark.parametrize(
    ("source", "path", "groups"),
    [
        ("/some/old/path", "/some/old/path", ()),
        ("/some/old/path", "/some/old/path/", None),
        ("/some/old/path", "/Some/old/path", None),
        ("/caf%C3%A9", "/café", ()),
        ("/next(\\.js)?", "/next", (None,)),
        ("/next(\\.js)?", "/next.js", (".js",)),
        ("/next(\\.js)?", "/nextAjs", None),
        ("/proxy/(.*)", "/proxy/dir/sub", ("dir/sub",)),
        ("/proxy/(.*)", "/proxy/", ("",)),
        ("/proxy/(.*)", "/proxy", None),
        ("/r/([a-zA-Z]{1,})", "/r/admin", ("admin",)),
        ("/r/([a-zA-Z]{1,})", "/r/user/1", None),
        ("/projects/:id/:action", "/projects/one/edit", ("one", "edit")),
        ("/projects/:id/:action", "/projects/one/edit/", None),
        ("/projects/:id/:action", "/projects/edit", None),
        ("/catchall/:hello*", "/catchall", (None,)),
        ("/catchall/:hello*", "/catchall/a/b", ("a/b",)),
        ("/catchall/:hello*", "/catchall/", None),
        ("/catchall/:hello+", "/catchall", None),
        ("/catchall/:hello+", "/catchall/a/b", ("a/b",)),
        ("/feedback/((?!general).*)", "/feedback/another", ("another",)),
        ("/feedback/((?!general).*)", "/feedback/general", None),
        ("/((?!api/|_next).*)", "/about", ("about",)),
        ("/((?!api/|_next).*)", "/api/x", None),
        ("/optional/:id?", "/optional", (None,)),
        ("/optional/:id?", "/optional/1", ("1",)),
        ("/optional/:id?", "/optionally", None),
        ("/feature-{:slug}", "/feature-first", ("first",)),
        ("/feature-{:slug}", "/feature/first", None),
        ("/(.*)-:id(\\d+).html", "/a/b-12.html", ("a/b", "12")),
        ("/(.*)-:id(\\d+).html", "/a/b-x.html", None),
        ("/post/:slug.:ext(json|xml)", "/post/a.b.json", ("a.b", "json")),
        ("/a{/:b/x}*", "/a/1/x/2/x", ("1/x/2",)),
        ("/a{/b}?", "/a/b", ()),
        ("/a{/b}?", "/a", ()),
        ("/a\\:b", "/a:b", ()),
        ("/a\\(b\\)", "/a(b)", ()),
        ("/:x.png", "/.png", None),
        ("/:x", "/a\nb", ("a\nb",)),
        ("(/x)?/y", "/x/y", ("/x",)),
    ],
)
def test_a_source_matches_what_path_to_regexp_6_says(source: str, path: str, groups: tuple[str, ...] | None) -> None:
    assert matched(source, path) == groups


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("/:", "character 2, a name is missing"),
        ("/a*", 'character 3, "*" means nothing'),
        ("/a?", 'character 3, "?" means nothing'),
        ("/(a", "character 2, a parenthesis is not closed"),
        ("/a)(", "not closed"),
        ("/()", "no pattern between"),
        ("/(?!x)", "may not begin with"),
        ("/((a))", "may not capture"),
        ("/(?:(?<x>a))", "may not begin with"),
        ("/((?<x>a))", "may have no name"),
        ("/{a", '"the end" means nothing'),
        ("/a}", '"}" means nothing'),
        ("/a\\", "nothing behind the backslash"),
        ("/([)", ""),
        ("/:x((?:a+)+(?!b)c)", ""),
    ],
)
def test_a_bad_source_is_refused_with_its_place(source: str, why: str) -> None:
    with pytest.raises(InvalidError) as refused:
        read_path_pattern(source)
    assert why in refused.value.why


SOURCES = st.text(st.sampled_from(list("/abc:*+?(){}[]\\.-|^$!<>=,0é \n")), max_size=30)


@given(SOURCES, st.lists(st.text("/abc0.-é", max_size=12), max_size=5))
def test_a_source_is_refused_or_matches_whatever_comes(source: str, paths: list[str]) -> None:
    try:
        read_path_pattern(source)
    except InvalidError:
        return
    for path in paths:
        matched(source, f"/{path}")


@given(st.lists(st.from_regex(r"[a-z]{1,5}", fullmatch=True), min_size=1, max_size=4, unique=True))
def test_each_name_captures_its_own_segment(names: list[str]) -> None:
    source = "".join(f"/:{name}" for name in names)
    assert matched(source, "".join(f"/{name}1" for name in names)) == tuple(f"{name}1" for name in names)


def references(source: str, *conditions: str) -> References:
    return References(read_path_pattern(source).references(), frozenset(conditions))


@pytest.mark.parametrize(
    ("source", "destination", "template"),
    [
        ("/old/:segment/path", "/new/path/:segment", "/new/path/${1}"),
        ("/catchall/:hello*", "/catchall/:hello*/", "/catchall/${1}/"),
        ("/hello/:world*", "/something#:world*", "/something#${1}"),
        ("/x/:id", "https://e.x/?utm=g.com#/g/:id/p?d=code", "https://e.x/?utm=g.com#/g/${1}/p?d=code"),
        ("/optional/:id?", "/api/optional/:id?", "/api/optional/${1}?"),
        ("/feature-{:slug}", "/blog-{:slug}", "/blog-${1}"),
        ("/hello/:world", "/somewhere?else={:world}", "/somewhere?else=${1}"),
        ("/r/(.*)", "https://firebase.com:8080/$1", "https://firebase.com:8080/${1}"),
        ("/r/(.*)/:b/(.*)", "/:b/:0/:1", "/${2}/${1}/${3}"),
        ("/:sub", "https://:sub.x.com", "https://${1}.x.com"),
        ("/:a", "/b", "/b"),
        ("/a", "/price/$5", "/price/$$5"),
        ("/a", "/b\\:c", "/b:c"),
        ("/(.*)", "$1", "/${1}"),
        ("/:a", ":a?b#c", "/${1}?b#c"),
        ("/:a", "?x=:a", "/?x=${1}"),
        ("/a", "//other.example/x", "https://other.example/x"),
        ("/a", "/ü x", "/%C3%BC%20x"),
        ("/a", "/%C3%BC?a=b%20c", "/%C3%BC?a=b%20c"),
        ("/:year", "/t#12:30", "/t#12:30"),
    ],
)
def test_a_destination_becomes_a_template(source: str, destination: str, template: str) -> None:
    assert redirect_template(destination, references(source)) == template


@pytest.mark.parametrize(
    ("source", "destination", "template"),
    [
        ("/p/:id/edit", "/projects.html", "/projects.html?id=${1}"),
        ("/users/:id", "/user?identifier=:id&version=v2", "/user?identifier=${1}&version=v2&id=${1}"),
        ("/:file/:id", "/:file/get?identifier=:id", "/${1}/get?identifier=${2}"),
        ("/q/:id/:hash", "/get?identifier=:id#:hash", "/get?identifier=${1}"),
        ("/d/:name/:age", "/final?name=bob&age=", "/final?name=bob&age="),
        ("/:path/:two", "/test?path=:path", "/test?path=${1}&two=${2}"),
        ("/(.*)", "https://www.firebase.com", "https://www.firebase.com/"),
        ("/(.*)-:id(\\d+).html", "/blog/:id", "/blog/${2}"),
    ],
)
def test_unused_captures_of_a_rewrite_go_into_its_query(source: str, destination: str, template: str) -> None:
    assert rewrite_template(destination, references(source)) == template


def test_what_has_captures_outweighs_the_path() -> None:
    found = references("/:first", "first", "host")
    assert redirect_template("/:first/:host/$host/$1", found) == "/${first}/${host}/${host}/${1}"


@pytest.mark.parametrize(
    "destination", ["/:nothing", "/a?b=:nothing", "https://:nothing.x.com/", "/:0", "a/b", "ftp://x", ""]
)
def test_a_destination_that_leads_nowhere_is_refused(destination: str) -> None:
    with pytest.raises(InvalidError):
        redirect_template(destination, references("/:id"))


@pytest.mark.parametrize(
    ("value", "template"),
    [(":x/$1", "${1}/${1}"), ("12:30", "12:30"), ("$5", "$$5"), (":y $y {:x}", ":y $$y {${1}}")],
)
def test_a_header_refers_to_what_there_is_and_else_is_text(value: str, template: str) -> None:
    assert header_template(value, references("/:x")) == template


@given(st.text(max_size=30))
def test_a_capture_never_leaves_its_place_in_an_address(captured: str) -> None:
    """In a host it cannot end the host; in a path it cannot begin a query or a fragment."""
    url = filled_address("https://${1}.shop.example/${1}?a=${1}", {"1": captured}, Budget())
    found = re.fullmatch(r"https://[A-Za-z0-9.-]*\.shop\.example/[^?#]*\?a=[^?#&=\s]*", url)
    assert found, url
