"""Netlify's dialect: every sentence of what a site of Netlify's may bring, and what is answered."""

from typing import Any

import pytest

from scalemesh.rules import Dialect
from scalemesh.services.rules.choice import dialect_of
from scalemesh.services.rules.notes import RulesError
from scalemesh.services.rules.sources import Sources
from tests.unit.dialects import FORMS, MATRIX, Asked, brought

SITE = (*MATRIX, "index.html", "404.html", "new.html", "assets/app.js", "blog/index.html")
OFF = "[build.processing.html]\npretty_urls = false\n"


def site(redirects: str = "", headers: str = "", toml: str = "", paths: tuple[str, ...] = SITE) -> Asked:
    files = {"_redirects": redirects, "_headers": headers, "netlify.toml": toml}
    return brought(Dialect.NETLIFY, {name: text for name, text in files.items() if text}, paths)


@pytest.mark.parametrize("name", ["_redirects", "_headers", "netlify.toml"])
def test_one_of_its_files_chooses_the_dialect(name: str) -> None:
    assert dialect_of(Sources({name: b""})) is Dialect.NETLIFY


PRETTY = (200, "/file", 200, "/folder/", 200, 200, 200, "/both", 200, 200)


@pytest.mark.parametrize(("form", "expected"), [*zip(FORMS, PRETTY, strict=True)])
def test_pretty_urls_are_on_by_default_and_follow_their_row_of_the_slash_matrix(form: str, expected: int | str) -> None:
    said = site(paths=MATRIX).ask(f"{form}?a=b")
    if expected == 200:
        assert (said.status, said.location) == (200, None)
        assert said.file == form.strip("/").removesuffix("/index.html").removesuffix(".html") + (
            "/index.html" if form in ("/folder/", "/folder/index.html", "/both/index.html") else ".html"
        )
    else:
        assert (said.status, said.location) == (301, f"{expected}?a=b")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("off", [OFF, "[build.processing]\nskip_processing = true\n"])
def test_without_pretty_urls_every_form_of_the_slash_matrix_answers(form: str, off: str) -> None:
    said = site(toml=off, paths=MATRIX).ask(form)
    assert (said.status, said.location) == (200, None)


def test_what_turns_pretty_urls_off_is_remembered_with_its_file() -> None:
    rules = site(toml=OFF).compiled.rules
    assert [(str(place), place.text) for place in rules.places] == [("netlify.toml", "pretty_urls = false")]


@pytest.mark.parametrize("toml", ["", OFF])
@pytest.mark.parametrize("target", ["/nothing", "/file.html/x", "/folder//x", "//", "/index/", "/.env"])
def test_what_is_not_there_is_404_with_the_page_at_the_top(target: str, toml: str) -> None:
    said = site(toml=toml, paths=(*MATRIX, "404.html", "folder/404.html")).ask(target)
    assert (said.status, said.file, said.one("Cache-Control")) == (404, "404.html", "no-store")


def test_doubled_slashes_lead_to_what_is_there_without_them() -> None:
    assert site().ask("//folder//?q").location == "/folder/?q"
    assert site().ask("//evil.example/").status == 404


def test_rules_of_the_redirects_file_come_before_those_of_netlify_toml() -> None:
    toml = '[[redirects]]\nfrom = "/a"\nto = "/toml"\n[[redirects]]\nfrom = "/b"\nto = "/toml"\n'
    asked = site("/a /lines\n", toml=toml)
    assert asked.ask("/a").location == "/lines"
    assert asked.ask("/b").location == "/toml"
    assert [str(rule.place) for rule in asked.compiled.rules.first] == [
        "_redirects:1",
        "netlify.toml:1",
        "netlify.toml:4",
    ]


def test_the_first_rule_that_matches_wins() -> None:
    assert site("/a/* /first/:splat\n/a/b /second\n").ask("/a/b").location == "/first/b"


def test_a_file_that_exists_wins_over_a_rule_unless_the_rule_is_forced() -> None:
    assert site("/file /new\n").ask("/file").file == "file.html"
    assert site("/file /new 301!\n").ask("/file").location == "/new"
    toml = '[[redirects]]\nfrom = "/file"\nto = "/new"\nforce = true\n'
    assert site(toml=toml).ask("/file").location == "/new"
    assert site("/* /index.html 200\n").ask("/folder").location == "/folder/"


@pytest.mark.parametrize(
    ("line", "target", "status", "location"),
    [
        ("/a /b", "/a", 301, "/b"),
        ("/a /b 302", "/a", 302, "/b"),
        ("/a\t/b\t\t307", "/a", 307, "/b"),
        ("/a /b # /c 302", "/a", 301, "/b"),
        ("/a /b 302 # a comment", "/a", 302, "/b"),
        ("/a /b#part 302", "/a?x=1", 302, "/b?x=1#part"),
        ("/a https://other.example/b 308", "/a", 308, "https://other.example/b"),
        ("/a /b?own=1", "/a?x=1", 301, "/b?own=1"),
        ("a /b", "/a", 301, "/b"),
        ("/caf%C3%A9 /b", "/café", 301, "/b"),
        ("/café /thé", "/caf%C3%A9", 301, "/th%C3%A9"),
        ("/a /b", "/a/", 301, "/b"),
        ("/a/ /b", "/a", 301, "/b"),
        ("/a /100%", "/a", 301, "/100%25"),
        ("/a /${b}", "/a", 301, "/$%7Bb%7D"),
        ("/wiki/* https://w.example/Talk:Main/:splat", "/wiki/x", 301, "https://w.example/Talk:Main/x"),
    ],
)
def test_a_line_is_from_to_and_status_and_the_status_is_301_where_it_is_left_out(
    line: str, target: str, status: int, location: str
) -> None:
    asked = site(f"# first\n\n  {line}\r\n")
    said = asked.ask(target)
    assert (said.status, said.location, asked.notes) == (status, location, [])


def test_200_shows_another_page_under_the_same_address() -> None:
    asked = site("/app/* /new 200\n/into /folder 200\n/gone-page /nowhere 200\n")
    assert (asked.ask("/app/x/y?q").status, asked.ask("/app/x/y?q").file) == (200, "new.html")
    assert (asked.ask("/into").status, asked.ask("/into").file) == (200, "folder/index.html")
    assert (asked.ask("/gone-page").status, asked.ask("/gone-page").file) == (404, "404.html")


def test_200_to_another_origin_is_proxied_for_every_method() -> None:
    asked = site("/api/* https://api.example/v1/:splat 200\n")
    assert asked.passed("/api/users?q=1", "POST").url == "https://api.example/v1/users?q=1"
    assert not asked.passed("/api/users").keeps_credentials


def test_404_and_other_errors_show_a_page_with_that_status() -> None:
    asked = site("/secret/* /new 404\n/old/* 410\n/law 451\n/shut /new.html 503\n/members 401!\n")
    assert (asked.ask("/secret/x").status, asked.ask("/secret/x").file) == (404, "new.html")
    assert asked.ask("/old/x").status == 410
    assert asked.ask("/law").status == 451
    assert (asked.ask("/shut").status, asked.ask("/shut").file) == (503, "new.html")
    assert asked.ask("/members").status == 401
    assert asked.ask("/shut").one("Cache-Control") == "no-store"


def test_404_without_a_target_shows_the_sites_own_page_also_over_a_file_where_it_is_forced() -> None:
    asked = site("/file 404!\n/hidden/* 404\n/* /index.html 200\n")
    for target in ("/file", "/hidden/x"):
        assert (asked.ask(target).status, asked.ask(target).file) == (404, "404.html")
    assert asked.ask("/other").file == "index.html"


def test_a_target_may_be_left_out_when_a_status_follows() -> None:
    asked = site("/files/* 200\n/* /index.html 200\n", paths=(*SITE, "files/a.txt"))
    assert asked.ask("/files/a.txt").file == "files/a.txt"
    assert asked.ask("/files/nothing").status == 404
    assert asked.ask("/other").file == "index.html"


def test_a_placeholder_is_one_segment() -> None:
    asked = site("/news/:year/:slug /blog/:slug?y=:year\n")
    assert asked.ask("/news/2026/hi").location == "/blog/hi?y=2026"
    assert asked.ask("/news/2026/hi/").location == "/blog/hi?y=2026"
    assert asked.ask("/news/2026").status == 404
    assert asked.ask("/news/2026/hi/there").status == 404


def test_a_star_at_the_end_is_the_splat_and_may_be_empty() -> None:
    asked = site("/old/* /new/:splat\n/pre* /x/:splat\n")
    assert asked.ask("/old/a/b").location == "/new/a/b"
    assert asked.ask("/old").location == "/new/"
    assert asked.ask("/older").status == 404
    assert asked.ask("/prefix").location == "/x/fix"


def test_query_parameters_of_a_rule_must_all_be_there_and_are_captured() -> None:
    asked = site("/store id=:id tag=:tag /s/:tag/:id 301\n/store kind=book /books\n")
    assert asked.ask("/store?id=7&tag=a").location == "/s/a/7?id=7&tag=a"
    assert asked.ask("/store?id=7").status == 404
    assert asked.ask("/store?kind=book").location == "/books?kind=book"
    assert asked.ask("/store?kind=film").status == 404


def test_the_query_is_passed_on_unless_the_target_has_its_own() -> None:
    asked = site("/a /b\n/c /d?e=1\n/f https://other.example/?g\n")
    assert asked.ask("/a?x=%20y&z").location == "/b?x=%20y&z"
    assert asked.ask("/c?x=1").location == "/d?e=1"
    assert asked.ask("/f?x=1").location == "https://other.example/?g"


def test_a_condition_language_asks_for_the_language_that_the_visitor_likes_best() -> None:
    asked = site("/ /de 302! Language=de,at\n")
    german = asked.ask("/", headers={"accept_language": "en;q=0.5, de-CH"})
    assert (german.status, german.location) == (302, "/de")
    english = asked.ask("/", headers={"accept_language": "en, de;q=0.9"})
    assert (english.status, english.by_target, german.by_target) == (200, False, False)
    assert asked.ask("/file").by_target


def test_a_condition_cookie_asks_for_one_of_its_cookies() -> None:
    asked = site("/* /new 200! Cookie=beta,preview\n")
    assert asked.ask("/file", headers={"cookie": "a=1; preview=x"}).file == "new.html"
    assert asked.ask("/file", headers={"cookie": "a=1"}).file == "file.html"


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("Country=us,ca", "Country is not available"),
        ("Role=admin", "Role is not available"),
        ("Moon=full", "not known"),
    ],
)
def test_conditions_on_country_and_role_are_named_as_not_available(condition: str, words: str) -> None:
    asked = site(f"/a /b\n/* /us/:splat 302 {condition}\n")
    assert len(asked.notes) == 1
    assert asked.notes[0].startswith("_redirects:2: left out: ")
    assert words in asked.notes[0]
    toml = f'[[redirects]]\nfrom = "/*"\nto = "/us"\nconditions = {{{condition.replace("=", " = [" + chr(34))}"]}}\n'
    assert words in site(toml=toml).notes[0]


def test_a_rule_for_another_host_holds_for_that_host_alone() -> None:
    asked = site("https://old.example.com/* https://new.example.com/:splat 301!\n")
    assert asked.ask("/file", host="old.example.com").location == "https://new.example.com/file"
    assert asked.ask("/file").file == "file.html"


def test_a_table_of_netlify_toml_has_all_that_a_line_has() -> None:
    toml = """
[[redirects]]
  from = "/search"
  to = "https://api.example/find"
  status = 200
  force = true
  query = {q = ":q"}
  conditions = {Language = ["en"], Cookie = ["beta"]}
  [redirects.headers]
    X-Key = "abc"
[[ redirects ]]
  origin = "/former"
  destination = "/names"
"""
    asked = site(toml=toml)
    headers = {"accept_language": "en", "cookie": "beta=1"}
    assert asked.passed("/search?q=x", headers=headers).headers == (("X-Key", "abc"),)
    assert asked.ask("/search?q=x", headers={"accept_language": "en"}).status == 404
    assert asked.ask("/former").location == "/names"
    assert [rule.place.line for rule in asked.compiled.rules.first] == [2, 11]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/a", "neither a target nor a status. Instead: from"),
        ("/a # /b", "neither a target nor a status"),
        ("/a b", "no target"),
        ("/a 301", "the rule has no target"),
        ("/a /b 3o1", "'3o1' is no status"),
        ("/a /b 201", "status 201 is not served"),
        ("/a /b 304", "status 304 is not served"),
        ("/a/*/b /c", "in the middle of a path. Instead: a placeholder"),
        ("/a/:b/:b /c", "stands there twice"),
        ("/a id=:b /:b/:b 301 Cookie", "not written as name=value"),
        ("/a id /b", "not written as name=value"),
        ("/a?id=1 /b", "holds a ? or a #"),
        ("/a /a/", "leads to itself"),
        ("/a/* /a/:splat", "leads to itself"),
        ("http://x.example/* https://x.example/:splat 301!", "leads to itself"),
        ("/a /.netlify/functions/hello 200", "functions, and what else"),
        ("/.netlify/images /a 200", "Netlify's own"),
        ("/a https://:splat.example/ 301", "visitors would choose it"),
        ("/* https://other.example:splat 301", "visitors would choose it"),
        ("/a https://user:pw@other.example/", "is no host"),
        ("/a https://other.example/ 404", "another origin cannot answer with status 404"),
        ("https:/// /b", "is no host"),
        ("/a //other.example/", "begins with two slashes"),
        ("/a%00 /b", "control character"),
        ("/a%ff /b", "not UTF-8"),
        ("/a\x00 /b", "control character"),
        ("/" + "a" * 9000 + " /b", "longer than 8,192 characters"),
        ("/a /b 301 Language=e_n", "names no language"),
    ],
)
def test_a_single_bad_line_is_named_and_left_out(line: str, words: str) -> None:
    asked = site(f"{line}\n/good /new\n")
    assert [note.split(": ")[:2] for note in asked.notes] == [["_redirects:1", "left out"]]
    assert words in asked.notes[0]
    assert asked.ask("/good").location == "/new"


def test_a_placeholder_that_nothing_captures_is_named_and_stays_as_it_is() -> None:
    asked = site("/a/:b /c/:d\n")
    assert "_redirects:1: limited: :d stands in the target as it is" in asked.notes[0]
    assert asked.ask("/a/x").location == "/c/:d"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("to = '/b'", "from is missing"),
        ("from = '/a'", "neither to nor status"),
        ("from = 7\nto = '/b'", "from is missing, or no text"),
        ("from = '/a'\nto = 7", "to is no text"),
        ("from = '/a'\nto = '/b'\nstatus = '301'", "status is no number"),
        ("from = '/a'\nto = '/b'\nstatus = true", "status is no number"),
        ("from = '/a'\nto = '/b'\nquery = ['a']", "query is no table of texts"),
        ("from = '/a'\nto = '/b'\nconditions = 'en'", "conditions is no table"),
        ("from = '/a'\nto = '/b'\nconditions = {Language = [1]}", "neither a text nor a list"),
        ("from = '/a'\nedge_functions = 'x'\nto = '/b'", "edge functions are not served"),
        ("from = '/a'\nto = 'https://b.example'\nstatus = 200\nheaders = {Host = 'x'}", "cannot be sent"),
        ("from = '/a'\nto = 'https://b.example'\nstatus = 200\nheaders = {X = \"a\\nb\"}", "printable ASCII"),
    ],
)
def test_a_bad_table_is_named_with_its_line_and_left_out(table: str, words: str) -> None:
    asked = site(toml=f"# first\n[[redirects]]\n{table}\n[[redirects]]\nfrom = '/good'\nto = '/new'\n")
    assert asked.notes[0].startswith("netlify.toml:2: left out: ")
    assert words in asked.notes[0]
    assert asked.ask("/good").location == "/new"


def test_what_is_not_served_of_netlify_toml_is_named() -> None:
    toml = "[functions]\nx = 1\n[[edge_functions]]\npath = '/'\n[[plugins]]\npackage = 'p'\n"
    assert [note.partition(": left out: ")[::2] for note in site(toml=toml).notes] == [
        ("netlify.toml:1", "functions are not served."),
        ("netlify.toml:3", "edge functions are not served."),
        ("netlify.toml:5", "build plug-ins of Netlify's are not run."),
    ]
    signed = (
        "[[redirects]]\nfrom = '/a'\nto = 'https://b.example'\nstatus = 200\nsigned = 'KEY'\nrate_limit = {a = 1}\n"
    )
    notes = site(toml=signed).notes
    assert [note.partition(": limited: ")[2][:24] for note in notes] == [
        "requests to the other or",
        "'rate_limit' is not know",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[redirects]\n", "netlify.toml:1: refused: the file is not valid TOML"),
        ("a = 1\na = 2\n", "netlify.toml:2: refused: the file is not valid TOML"),
        ("a = " + "[" * 20_000, "nested too deeply"),
        ("#" * 1_100_000, "longer than 1 MiB"),
    ],
)
def test_a_malformed_netlify_toml_refuses_the_deploy(text: str, words: str) -> None:
    with pytest.raises(RulesError, match=words):
        site(toml=text)


def test_a_list_that_is_none_is_named() -> None:
    assert "redirects is no list of tables. Instead: [[redirects]]" in site(toml="redirects = 7\n").notes[0]


def test_a_single_page_application_is_a_rule_and_a_missing_asset_is_never_its_page() -> None:
    asked = site("/* /index.html 200\n")
    assert asked.ask("/users/jane.doe").file == "index.html"
    assert asked.ask("/old.js", fetch_mode="no-cors").status == 404
    assert asked.ask("/old.js", fetch_mode="navigate").file == "index.html"
    assert site().ask("/users").status == 404


def test_methods_other_than_get_are_refused_also_by_redirects() -> None:
    assert site("/a /b\n").ask("/a", "POST").status == 405


def cut(count: int, line: str) -> Any:
    return "".join(line.format(number) for number in range(count))


def test_past_the_limit_rules_are_left_out_and_named() -> None:
    asked = site(cut(15_001, "/{} /x\n"))
    assert "_redirects:15001: left out: a site has at most 15,000 redirects" in asked.notes[0]
    asked = site(cut(3_001, "/{}/:a /x\n"))
    assert "_redirects:3001: left out" in asked.notes[0]
