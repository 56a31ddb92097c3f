"""The dialect of Cloudflare Pages: every sentence of what a site of theirs may bring, and what is answered."""

import pytest

from scalemesh.rules import Dialect
from scalemesh.services.rules.choice import dialect_of
from scalemesh.services.rules.compiling import compile_rules
from scalemesh.services.rules.notes import RulesError
from scalemesh.services.rules.sources import Sources
from tests.unit.dialects import FORMS, MATRIX, Asked, brought

SITE = (*MATRIX, "index.html", "404.html", "new.html", "assets/app.js", "folder/404.html")
APP = ("index.html", "about.html", "assets/app.js")


def site(redirects: str = "", headers: str = "", paths: tuple[str, ...] = SITE) -> Asked:
    files = {"_redirects": redirects, "_headers": headers}
    return brought(Dialect.CLOUDFLARE, {name: text for name, text in files.items() if text}, paths)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("wrangler.toml", 'pages_build_output_dir = "dist"\n'),
        ("wrangler.jsonc", '{"pages_build_output_dir": "dist"} // a comment'),
    ],
)
def test_a_wrangler_file_of_a_pages_site_or_the_setting_chooses_the_dialect(name: str, text: str) -> None:
    sources = Sources({name: text.encode(), "_redirects": b""})
    assert dialect_of(sources) is Dialect.CLOUDFLARE
    assert dialect_of(Sources({name: b"name = 'worker'", "_redirects": b""})) is Dialect.NETLIFY
    assert compile_rules(Sources({"_redirects": b""}), Dialect.CLOUDFLARE).rules.dialect is Dialect.CLOUDFLARE


ROW = (200, "/file", "/file", "/folder/", 200, "/folder/", 200, 200, "/both", "/both/")


@pytest.mark.parametrize(("form", "expected"), [*zip(FORMS, ROW, strict=True)])
def test_pages_are_found_by_their_row_of_the_slash_matrix(form: str, expected: int | str) -> None:
    said = site(paths=MATRIX).ask(f"{form}?a=b")
    if expected == 200:
        assert (said.status, said.location) == (200, None)
    else:
        assert (said.status, said.location) == (308, f"{expected}?a=b")


def test_html_handling_serves_the_page_that_is_meant() -> None:
    asked = site()
    assert asked.ask("/file").file == "file.html"
    assert asked.ask("/folder/").file == "folder/index.html"
    assert asked.ask("/both").file == "both.html"
    assert asked.ask("/both/").file == "both/index.html"
    assert asked.ask("/").file == "index.html"
    assert asked.ask("/index.html").location == "/"
    assert asked.ask("/index").location == "/"
    assert asked.ask("/folder/index").location == "/folder/"
    assert asked.ask("/folder/index/").location == "/folder/"
    assert asked.ask("/assets/app.js").file == "assets/app.js"


def test_an_extension_stays_where_another_file_has_the_name_without_it() -> None:
    asked = site(paths=("page", "page.html"))
    assert (asked.ask("/page").file, asked.ask("/page.html").file) == ("page", "page.html")


def test_static_redirects_come_before_dynamic_ones_above_them() -> None:
    asked = site("/s /above\n/a/:x /dynamic\n")
    assert asked.ask("/s").location == "/above"
    assert asked.ask("/a/b").location == "/dynamic"
    first = [(rule.place.line, bool(rule.pattern)) for rule in asked.compiled.rules.first]
    assert first == [(1, False), (2, True)]


def test_an_exact_path_below_a_dynamic_rule_is_tried_after_it() -> None:
    assert site("/a/* /dynamic\n/a/b /static\n").ask("/a/b").location == "/dynamic"


def test_of_two_lines_for_one_path_the_lower_line_number_wins() -> None:
    asked = site("/a /one\n/a /two\n")
    assert asked.ask("/a").location == "/one"
    assert asked.notes == ["_redirects:2: left out: a line above has the same path, '/a', and wins."]


@pytest.mark.parametrize(
    ("line", "target", "status", "location"),
    [
        ("/a /b", "/a", 302, "/b"),
        *[(f"/a /b {status}", "/a", status, "/b") for status in (301, 302, 303, 307, 308)],
        ("/a /b", "/a?x=1&y", 302, "/b?x=1&y"),
        ("/a /b?own", "/a?x=1", 302, "/b?own"),
        ("/a /b#part", "/a?x=1", 302, "/b?x=1#part"),
        ("/a https://other.example/b?c#d", "/a?x=1", 302, "https://other.example/b?c#d"),
        ("/blog/:post /p/:post", "/blog/hi", 302, "/p/hi"),
        ("/x/* /y/:splat", "/x/a/b", 302, "/y/a/b"),
        ("/x/*.html /y/:splat", "/x/a/b.html", 302, "/y/a/b"),
        ("/:a-:b /:b/:a", "/one-two", 302, "/two/one"),
        ("/* https://new.example/:splat 301", "/any/where", 301, "https://new.example/any/where"),
        ("a /b", "/a", 302, "/b"),
    ],
)
def test_a_line_redirects_with_302_or_its_status_and_keeps_the_query(
    line: str, target: str, status: int, location: str
) -> None:
    said = site(f"# a comment\n{line}\n").ask(target)
    assert (said.status, said.location) == (status, location)


def test_a_splat_does_not_match_the_folder_without_its_slash() -> None:
    asked = site("/x/* /y/:splat\n")
    assert asked.ask("/x/").location == "/y/"
    assert asked.ask("/x").status == 404


def test_redirects_win_over_files() -> None:
    assert site("/file /new\n").ask("/file").location == "/new"


def test_redirects_come_before_the_method_is_looked_at() -> None:
    asked = site("/a /b 307\n/shown /file 200\n")
    assert asked.ask("/a", "POST").location == "/b"
    assert asked.ask("/file", "POST").status == 405
    assert asked.ask("/file.html", "POST").status == 405
    assert asked.ask("/shown", "POST").status == 405


def test_200_shows_another_path_once_and_no_rule_is_tried_for_that() -> None:
    asked = site("/users/* /file 200\n/file /new 301\n/x /folder/ 200\n")
    assert asked.ask("/users/7?q").file == "file.html"
    assert asked.ask("/file").location == "/new"
    assert asked.ask("/x").file == "folder/index.html"


def test_a_rewrite_is_relative_only() -> None:
    asked = site("/a https://other.example/ 200\n")
    assert asked.notes == [
        "_redirects:1: left out: a rewrite (200) leads to a path of this site only. Instead: a path that begins with /"
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/a", "a line has two or three words, and this one 1. Instead: from to [status]"),
        ("/a /b 301 more", "and this one 4."),
        ("/a /b 301!", "'301!' is no status here"),
        ("/a /b 404", "'404' is no status here. Instead: 200, 301"),
        ("https://a.example/ /b", "from is a URL"),
        ("/a b", "is no target"),
        ("/a http://other.example/", "a URL of http"),
        ("/a https://:host/", "visitors would choose it"),
        ("/*/a/* /b", "more than one splat"),
        ("/:a/:a /b", "stands there twice"),
        ("/* /index.html 200", "leads to itself, since pages are served without their extension"),
        ("/a" + "b" * 2000 + " /c", "longer than 2,000 characters"),
        ("/a\x01 /c", "control character"),
    ],
)
def test_a_single_bad_line_is_named_and_left_out(line: str, words: str) -> None:
    asked = site(f"{line}\n/good /new\n")
    assert [note.split(": ")[:2] for note in asked.notes] == [["_redirects:1", "left out"]]
    assert words in asked.notes[0]
    assert asked.ask("/good").location == "/new"


def test_the_query_of_from_is_named_as_not_looked_at() -> None:
    asked = site("/a?x=1 /b\n")
    assert asked.notes[0].startswith("_redirects:1: limited: only the path of from is looked at")
    assert asked.ask("/a").location == "/b"


def test_2000_static_and_100_dynamic_redirects_count_and_the_rest_is_named() -> None:
    static = "".join(f"/s{number} /x\n" for number in range(2001))
    dynamic = "".join(f"/d{number}/* /x\n" for number in range(101))
    asked = site(static + dynamic)
    assert len(asked.compiled.rules.first) == 2100
    assert asked.notes == [
        "_redirects:2001: left out: there are at most 2,000 static redirects.",
        "_redirects:2102: left out: there are at most 100 dynamic redirects; the rest is not read.",
    ]


def test_100_header_rules_count_and_the_rest_is_named() -> None:
    asked = site(headers="".join(f"/{number}\n X-A: 1\n" for number in range(101)))
    assert len(asked.compiled.rules.found) == 100
    assert asked.notes == ["_headers:201: left out: there are at most 100 header rules; the rest is not read."]


def test_header_rules_that_match_apply_in_order_and_repeated_names_are_joined() -> None:
    asked = site(headers="/*\n  X-A: 1\n  Cache-Control: public\n/file\n  x-a: 2\n  X-A: 3\n")
    said = asked.ask("/file")
    assert (said.one("X-A"), said.one("Cache-Control")) == ("1, 2, 3", "public")
    assert asked.ask("/folder/").one("X-A") == "1"


def test_an_exclamation_mark_removes_a_header() -> None:
    headers = "/*\n  X-A: 1\n  X-B: 1\n/file\n  ! X-A\n  ! Access-Control-Allow-Origin\n  ! ETag\n"
    asked = site(headers=headers)
    said = asked.ask("/file")
    assert [said.one(name) for name in ("X-A", "X-B", "Access-Control-Allow-Origin")] == [None, "1", None]
    assert said.one("ETag")
    assert asked.ask("/new").one("X-A") == "1"


def test_what_is_removed_may_be_set_anew_by_the_same_rule() -> None:
    asked = site(headers="/*\n  X-A: 1\n/file\n  X-A: 2\n  ! X-A\n")
    assert asked.ask("/file").one("X-A") == "2"


def test_values_may_hold_the_splat_and_placeholders() -> None:
    headers = "/folder/*\n  X-Rest: <:splat> $1 ${splat}\n/:page\n  X-Page: is :page; :other\n"
    asked = site(headers=headers)
    assert asked.ask("/folder/").one("X-Rest") == "<> $1 ${splat}"
    assert asked.ask("/file").one("X-Page") == "is file; :other"


def test_a_visitor_cannot_write_headers_through_a_placeholder() -> None:
    asked = site("/x/* /new 200\n", "/x/*\n  X-Rest: :splat\n")
    assert asked.ask("/x/a%C3%A9%20b").one("X-Rest") == "a%C3%A9 b"
    assert asked.ask("/x/a%0d%0aSet-Cookie:b").status == 400
    assert asked.ask("/x/a%C2%85b").one("X-Rest") == "a%C2%85b"


def test_a_header_rule_may_name_a_host() -> None:
    headers = "https://:name.pages.dev/*\n  X-Robots-Tag: noindex, :name\nhttps://shop.localhost/file\n  X-B: 1\n"
    asked = site(headers=headers)
    assert asked.ask("/file").one("X-Robots-Tag") is None
    assert asked.ask("/file", host="shop.pages.dev").one("X-Robots-Tag") == "noindex, shop"
    assert asked.ask("/file", host="a.b.pages.dev").one("X-Robots-Tag") is None
    assert (asked.ask("/file").one("X-B"), asked.ask("/file", host="x.localhost").one("X-B")) == ("1", None)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ("X-A: 1\n", "_headers:1: left out: no path stands above"),
        ("/a\n", "_headers:1: left out: no header stands below"),
        ("http://a.example/\n X-A: 1\n", "_headers:1: left out: it is neither a path nor a URL of https"),
        ("https://a b/\n X-A: 1\n", "_headers:1: left out: 'a b' is no host"),
        ("https://:a.:a.example/\n X-A: 1\n", "_headers:1: left out: a placeholder stands there twice"),
        ("/*/*\n X-A: 1\n", "_headers:1: left out: it has more than one splat"),
        ("/a\n !\n X-A: 1\n", "_headers:2: left out: '' is no name"),
        ("/a\n Basic-Auth: a:b\n X-A: 1\n", "_headers:2: left out: Basic-Auth protects nothing in this dialect"),
        ("/a\n Transfer-Encoding: chunked\n X-A: 1\n", "_headers:2: left out: Transfer-Encoding is set by the server"),
    ],
)
def test_a_bad_header_rule_is_named_and_left_out(headers: str, words: str) -> None:
    assert any(note.startswith(words) for note in site(headers=headers + "\n/b\n X-B: 1\n").notes)


def test_two_headers_are_there_by_default_and_a_rule_replaces_them() -> None:
    asked = site("/a /b\n", "/file\n  Access-Control-Allow-Origin: https://a.example\n  ! Referrer-Policy\n")
    for target in ("/new", "/nothing", "/a", "/file.html"):
        said = asked.ask(target)
        assert said.one("Access-Control-Allow-Origin") == "*"
        assert said.one("Referrer-Policy") == "strict-origin-when-cross-origin"
    said = asked.ask("/file")
    assert (said.one("Access-Control-Allow-Origin"), said.one("Referrer-Policy")) == ("https://a.example", None)


def test_404_is_the_nearest_page_walking_up() -> None:
    asked = site()
    assert (asked.ask("/folder/x/y").status, asked.ask("/folder/x/y").file) == (404, "folder/404.html")
    assert (asked.ask("/x").status, asked.ask("/x").file) == (404, "404.html")


def test_a_404_drops_user_headers_and_is_no_store() -> None:
    said = site(headers="/*\n  X-A: 1\n  Cache-Control: public, max-age=60\n").ask("/nothing")
    assert (said.status, said.one("X-A"), said.one("Cache-Control")) == (404, None, "no-store")


def test_without_a_404_page_at_the_top_the_site_is_a_single_page_application() -> None:
    asked = site(headers="/*\n  X-A: 1\n", paths=APP)
    said = asked.ask("/users/jane.doe")
    assert (said.status, said.file, said.one("X-A")) == (200, "index.html", "1")
    nested = site(paths=(*APP, "docs/404.html"))
    assert (nested.ask("/docs/x").status, nested.ask("/docs/x").file) == (404, "docs/404.html")
    assert nested.ask("/x").file == "index.html"
    assert site(paths=("about.html",)).ask("/x").status == 404


def test_a_missing_asset_never_answers_as_the_application_unless_somebody_navigates_there() -> None:
    asked = site(paths=APP)
    assert (asked.ask("/assets/old.js").status, asked.ask("/assets/old.js").by_target) == (404, False)
    assert asked.ask("/assets/old.js", fetch_mode="navigate").file == "index.html"
    assert asked.ask("/.env").status == 404
    assert asked.ask("/.well-known/x").status == 404


def test_functions_are_named_as_not_served() -> None:
    notes = site(paths=(*APP, "_worker.js", "_routes.json")).notes
    assert notes == [
        "_routes.json: left out: functions are not served.",
        "_worker.js: left out: functions are not served.",
    ]


def test_what_was_to_be_protected_and_cannot_be_told_refuses_the_deploy() -> None:
    with pytest.raises(RulesError, match="Basic-Auth"):
        site(headers="Basic-Auth: a:b\n")
