"""Netlify's _headers, the headers of netlify.toml, and Basic-Auth: every sentence, and what goes wrong with them."""

import base64

import pytest

from scalemesh.rules import Dialect
from scalemesh.services.rules.notes import RulesError
from tests.unit.dialects import brought
from tests.unit.test_rules_netlify import SITE, site


def test_headers_stand_below_a_path_and_all_rules_that_match_apply() -> None:
    headers = "/*\n  X-All: 1\n\n# a comment\n/blog/:post\n  X-Post: 2\n/fol*/\n\tX-Folder: 3\n"
    asked = site(headers=headers, paths=(*SITE, "blog/hi.html"))
    assert (asked.ask("/blog/hi").one("X-All"), asked.ask("/blog/hi").one("X-Post")) == ("1", "2")
    assert asked.ask("/folder/").one("X-Folder") == "3"
    assert (asked.ask("/file").one("X-All"), asked.ask("/file").one("X-Post")) == ("1", None)
    assert asked.ask("/nothing").one("X-All") == "1"


def test_a_star_after_a_folder_matches_the_folder_too() -> None:
    asked = site(headers="/folder/*\n  X-A: 1\n")
    assert [asked.ask(path).one("X-A") for path in ("/folder/", "/folder/index.html", "/file")] == ["1", "1", None]


def test_repeated_names_are_joined_with_a_comma_and_take_the_place_of_our_own() -> None:
    headers = "/*\n  Cache-Control: public\n  cache-control: max-age=60\n/file\n  Cache-Control: no-transform\n"
    asked = site(headers=headers)
    assert asked.ask("/file").one("Cache-Control") == "public, max-age=60, no-transform"
    assert asked.ask("/folder/").one("Cache-Control") == "public, max-age=60"


def test_cookies_are_never_joined() -> None:
    asked = site(headers="/*\n  Set-Cookie: a=1\n  Set-Cookie: b=2\n")
    assert asked.ask("/file").headers["set-cookie"] == ["a=1", "b=2"]


def test_headers_are_not_applied_to_proxied_answers() -> None:
    passage = site("/api/* https://api.example/:splat 200\n", "/*\n  X-All: 1\n").passed("/api/x")
    assert "X-All" not in dict(passage.answer_headers)


def test_headers_of_netlify_toml_hold_likewise_and_may_have_several_values() -> None:
    toml = """
[[headers]]
for = "/file"
[headers.values]
X-One = "1"
X-Many = ["2", "3"]
cache-control = '''
  max-age=0,
  no-cache'''
"""
    said = site(headers="/file\n  X-Many: 1\n", toml=toml).ask("/file")
    assert (said.one("X-One"), said.one("X-Many"), said.one("Cache-Control")) == ("1", "1, 2, 3", "max-age=0, no-cache")


@pytest.mark.parametrize(
    ("headers", "place", "words"),
    [
        ("  X-A: 1\n", 1, "no path stands above"),
        ("/a\n", 1, "no header stands below"),
        ("/a\n X-A 1\n", 2, "neither a path nor a header"),
        ("/a\n X-A:\n", 2, "neither a path nor a header with a value"),
        ("/a\n X A: 1\n", 2, "is no name of a header"),
        ("/a\n X-A: ü\n", 2, "not plain ASCII"),
        ("/a\n Content-Length: 3\n", 2, "set by the server"),
        ("/a\n X-A: " + "b" * 9000, 2, "longer than 8,192"),
        ("https://a.example/\n X-A: 1\n", 1, "names a path"),
    ],
)
def test_a_bad_header_is_named_and_left_out(headers: str, place: int, words: str) -> None:
    asked = site(headers=headers + "\n/file\n  X-Good: 1\n")
    assert any(note.startswith(f"_headers:{place}: left out: ") and words in note for note in asked.notes)
    assert asked.ask("/file").one("X-Good") == "1"


def test_headers_below_a_path_that_cannot_be_read_belong_to_no_other() -> None:
    asked = site(headers="/file\n  X-A: 1\nfolder/*\n  X-B: 2\n")
    assert (asked.ask("/file").one("X-A"), asked.ask("/file").one("X-B")) == ("1", None)


def basic(user: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(user.encode()).decode()}


def test_basic_auth_lets_in_who_knows_a_name_and_its_password() -> None:
    asked = site(headers="/blog/*\n  Basic-Auth: ann:secret bob:other\n  X-A: 1\n")
    for path in ("/blog", "/blog/", "/BLOG/x", "/blog//x", "//blog/", "/blog/index.html"):
        assert (asked.ask(path).status, asked.ask(path).one("X-A")) == (401, None), path
    entered = asked.ask("/blog/", headers=basic("bob:other"))
    assert (entered.status, entered.one("X-A"), entered.by_target) == (200, "1", False)
    assert entered.one("Basic-Auth") is None
    assert asked.ask("/blog/", headers=basic("bob:secret")).status == 401
    assert asked.ask("/file").status == 200


@pytest.mark.parametrize("form", ["/file", "/file/", "/file.html", "/File", "//file"])
@pytest.mark.parametrize("written", ["/file", "/file.html", "/file/"])
def test_basic_auth_of_a_page_holds_for_each_of_its_addresses(written: str, form: str) -> None:
    assert site(headers=f"{written}\n  Basic-Auth: a:b\n").ask(form).status == 401


def test_basic_auth_comes_before_any_redirect() -> None:
    assert site("/blog/x /new 301!\n", "/blog/*\n  Basic-Auth: a:b\n").ask("/blog/x").status == 401


def test_passwords_are_told_to_no_log() -> None:
    asked = site(headers="/file\n  Basic-Auth: ann:hunter2 nobody:\n")
    assert "hunter2" not in str(asked.notes)
    assert "hunter2" not in str([guard.place for guard in asked.compiled.rules.protections])
    assert asked.ask("/file", headers=basic("nobody:")).status == 401
    assert "nobody enters by it" in asked.notes[0]


@pytest.mark.parametrize(
    ("headers", "toml"),
    [
        ("  Basic-Auth: a:b\n", ""),
        ("secret/*\n  Basic-Auth: a:b\n", ""),
        ("/a%ff\n  Basic-Auth: a:b\n", ""),
        ("/a\n  Basic-Auth:\n", ""),
        ("/a\n  Basic-Auth: " + "a:b " * 4000, ""),
        ("/a\n  Basic-Auth: " + "a:b " * 200, ""),
        ("/a" * 5000 + "\n  Basic-Auth: a:b\n", ""),
        ("", "[[headers]]\n[headers.values]\nBasic-Auth = 'a:b'\n"),
        ("".join(f"/{number}\n  Basic-Auth: a:b\n" for number in range(300)), ""),
    ],
)
def test_a_protection_that_cannot_be_told_refuses_the_deploy_instead_of_leaving_a_path_open(
    headers: str, toml: str
) -> None:
    with pytest.raises(RulesError, match="Basic-Auth"):
        site(headers=headers, toml=toml)


def test_a_protection_of_netlify_toml_without_users_lets_nobody_in() -> None:
    asked = site(toml="[[headers]]\nfor = '/file'\n[headers.values]\nBasic-Auth = 7\n")
    assert asked.ask("/file", headers=basic("a:b")).status == 401


def test_past_the_limit_header_rules_are_left_out_and_named() -> None:
    asked = site(headers="".join(f"/{number}\n X-A: 1\n" for number in range(1001)))
    assert asked.notes == ["_headers:2001: left out: a site has at most 1,000 header rules."]


def test_what_basic_auth_protects_is_kept_by_no_cache_for_everybody() -> None:
    headers = "/assets/*\n  Basic-Auth: a:b\n/assets/mine.txt\n  Cache-Control: public, max-age=9\n"
    asked = brought(
        Dialect.NETLIFY, {"_headers": headers}, ("assets/a-BxYz12aB.js", "assets/b.txt", "assets/mine.txt", "c.txt")
    )
    controls = {
        "/assets/a-BxYz12aB.js": "private, max-age=31536000, immutable",
        "/assets/b.txt": "private, max-age=0, must-revalidate",
        "/assets/mine.txt": "public, max-age=9",
        "/c.txt": "public, max-age=0, must-revalidate",
    }
    assert {path: asked.ask(path, headers=basic("a:b")).one("Cache-Control") for path in controls} == controls
    assert asked.ask("/assets/b.txt").one("Cache-Control") == "no-store"
