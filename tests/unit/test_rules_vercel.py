"""vercel.json, sentence by sentence: what its rules do, and what is said of those that cannot be."""

import json
import time
from typing import Any

import pytest

from scalemesh.rules import Dialect
from scalemesh.services.rules.notes import RulesError
from tests.unit.vercel_site import VercelSite, header, site_of, vercel, written

SITE = ("index.html", "about.html", "blog/index.html", "old.html", "a.js", "404.html")


def redirecting(source: str, destination: str, **more: Any) -> VercelSite:
    return vercel(*SITE, redirects=[{"source": source, "destination": destination, **more}])


def rewriting(source: str, destination: str, **more: Any) -> VercelSite:
    return vercel(*SITE, rewrites=[{"source": source, "destination": destination, **more}])


# --- redirects ---


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ({}, 308),
        ({"permanent": True}, 308),
        ({"permanent": False}, 307),
        *(({"statusCode": status}, status) for status in (301, 302, 303, 307, 308)),
    ],
)
def test_a_redirect_is_permanent_unless_it_says_otherwise(rule: dict[str, Any], status: int) -> None:
    assert redirecting("/x", "/y", **rule).shown("/x") == f"{status} /y"


@pytest.mark.parametrize(
    ("destination", "target", "location"),
    [
        ("/new", "/old/1?a=b&c", "/new?a=b&c"),
        ("/new?x=1", "/old/1?a=b", "/new?x=1&a=b"),
        ("/new?a=1", "/old/1?a=b", "/new?a=1"),
        ("/new#part", "/old/1?a=b", "/new?a=b#part"),
        ("https://else.example/:id", "/old/1?a=b", "https://else.example/1?a=b"),
    ],
)
def test_a_redirect_passes_the_query_on(destination: str, target: str, location: str) -> None:
    assert redirecting("/old/:id", destination).shown(target) == f"308 {location}"


def test_a_redirect_outweighs_a_file() -> None:
    assert redirecting("/old.html", "/about.html").shown("/old.html") == "308 /about.html"


def test_the_first_redirect_that_matches_counts() -> None:
    rules = [{"source": "/a/:x", "destination": "/1"}, {"source": "/a/b", "destination": "/2"}]
    assert vercel(*SITE, redirects=rules).shown("/a/b") == "308 /1"


@pytest.mark.parametrize("target", ["/go//evil.example", "/go/%5Cevil.example", "/go/https://evil.example"])
def test_a_visitor_cannot_choose_the_host_of_a_redirect(target: str) -> None:
    for destination in ("/$1", "$1"):
        location = redirecting("/go/(.*)", destination).shown(target).split()[1]
        assert location.startswith("/")
        assert not location.startswith(("//", "/\\"))
    far = redirecting("/go/(.*)", "https://$1.safe.example/").shown(target)
    assert far.split("/")[2].endswith(".safe.example")


# --- headers ---


def test_all_header_rules_that_match_apply_and_a_later_one_replaces() -> None:
    rules = [
        {"source": "/(.*)", "headers": [{"key": "X-A", "value": "1"}, {"key": "Cache-Control", "value": "no-cache"}]},
        {"source": "/:name.html", "headers": [{"key": "x-a", "value": "of :name"}, {"key": "X-B", "value": "2"}]},
        {"source": "/nothing", "headers": [{"key": "X-A", "value": "3"}]},
    ]
    answer = vercel(*SITE, headers=rules).answer("/about.html")
    assert [header(answer, name) for name in ("X-A", "X-B", "Cache-Control")] == ["of about", "2", "no-cache"]


def test_headers_come_after_redirects_and_hold_for_files_rewrites_and_404() -> None:
    site = vercel(
        *SITE,
        redirects=[{"source": "/r", "destination": "/about.html"}],
        headers=[{"source": "/(.*)", "headers": [{"key": "X-A", "value": "1"}]}],
        rewrites=[
            {"source": "/w", "destination": "/about.html"},
            {"source": "/api", "destination": "https://a.example"},
        ],
    )
    assert header(site.answer("/r"), "X-A") is None
    assert [header(site.ask(target), "X-A") for target in ("/", "/w", "/nothing", "/api")] == ["1"] * 4


def test_a_visitor_cannot_end_a_header() -> None:
    rules = [{"source": "/:x*", "headers": [{"key": "X-A", "value": ":x"}]}]
    value = header(vercel(*SITE, headers=rules).answer("/é%22"), "X-A")
    assert value == '%C3%A9"'


# --- rewrites ---


def test_files_come_before_rewrites_and_rewrites_before_404() -> None:
    site = rewriting("/(.*)", "/about.html")
    assert site.shown("/old.html") == "old.html"
    assert site.shown("/nothing") == "about.html"
    assert vercel(*SITE).shown("/nothing") == "404"
    assert vercel(*SITE).file(vercel(*SITE).answer("/blog/nothing")) == "404.html"


def test_a_rewrite_looks_for_files_again_by_the_habits_of_the_site() -> None:
    assert rewriting("/x/:page", "/:page").shown("/x/blog") == "blog/index.html"
    clean = vercel(*SITE, cleanUrls=True, rewrites=[{"source": "/x/:page", "destination": "/:page"}])
    assert clean.shown("/x/about") == "about.html"


def test_where_a_rewrite_finds_nothing_the_next_one_goes_on_from_there() -> None:
    rules = [
        {"source": "/en/:page", "destination": "/:page"},
        {"source": "/:page", "destination": "/:page.html"},
        {"source": "/(.*)", "destination": "/index.html"},
    ]
    site = vercel(*SITE, rewrites=rules)
    assert site.shown("/en/about") == "about.html"
    assert site.shown("/en/nothing") == "index.html"


def test_a_single_page_application_needs_its_rewrite() -> None:
    assert vercel("index.html").shown("/users/1") == "404"
    spa = rewriting("/(.*)", "/index.html")
    assert spa.shown("/users/jane.doe") == "index.html"
    assert spa.shown("/missing.js") == "404"
    assert spa.shown("/missing.js", fetch_mode="navigate") == "index.html"


def test_a_rewrite_to_another_origin_is_proxied_with_every_method() -> None:
    site = vercel(
        *SITE,
        rewrites=[
            {"source": "/api/:path*", "destination": "https://api.example/:path*"},
            {"source": "/u/:id", "destination": "https://api.example/user?v=2"},
        ],
    )
    assert site.forwarded("/api/a/b%20c?x=1", "POST") == "https://api.example/a/b%20c?x=1"
    assert site.forwarded("/u/7?v=3&w=1") == "https://api.example/user?v=2&id=7&w=1"
    assert site.answer("/about.html", "POST").status == 405


def test_an_address_that_another_origin_answers_is_made_proper_for_every_method() -> None:
    site = vercel(*SITE, trailingSlash=False, rewrites=[{"source": "/api/(.*)", "destination": "https://a.example/$1"}])
    answer = site.answer("/api/x/?y=1", "POST")
    assert (answer.status, header(answer, "Location")) == (308, "/api/x?y=1")
    assert site.answer("/blog/", "POST").status == 405


@pytest.mark.parametrize("keeps", [False, True])
def test_credentials_go_to_another_origin_only_where_the_rule_says_so(keeps: bool) -> None:
    passage = rewriting("/api", "https://api.example/", keepsCredentials=keeps).ask("/api")
    assert getattr(passage, "keeps_credentials", None) is keeps


# --- has and missing ---


@pytest.mark.parametrize(
    ("condition", "visit", "holds"),
    [
        ({"type": "host", "value": "a.example"}, {"host": "a.example"}, True),
        ({"type": "host", "value": "a.example"}, {"host": "b.a.example"}, False),
        ({"type": "header", "key": "X-A"}, {"headers": {"x-a": "1"}}, True),
        ({"type": "header", "key": "X-A"}, {}, False),
        ({"type": "header", "key": "x-a", "value": "(one|two)"}, {"headers": {"x-a": "two"}}, True),
        ({"type": "header", "key": "x-a", "value": "(one|two)"}, {"headers": {"x-a": "two!"}}, False),
        ({"type": "cookie", "key": "Login", "value": "1"}, {"headers": {"cookie": "a=b; Login=1"}}, True),
        ({"type": "cookie", "key": "login", "value": "1"}, {"headers": {"cookie": "a=b; Login=1"}}, False),
        ({"type": "query", "key": "q", "value": "y"}, {}, True),
        ({"type": "query", "key": "q", "value": {"eq": "y"}}, {}, True),
        ({"type": "query", "key": "q", "value": {"neq": "y"}}, {}, False),
        ({"type": "query", "key": "q", "value": {"inc": ["x", "y"]}}, {}, True),
        ({"type": "query", "key": "q", "value": {"ninc": ["x", "y"]}}, {}, False),
        ({"type": "query", "key": "q", "value": {"pre": "y", "suf": "y"}}, {}, True),
        ({"type": "query", "key": "q", "value": {"pre": "y", "suf": "z"}}, {}, False),
        ({"type": "query", "key": "q", "value": {"re": "[xy]"}}, {}, True),
        ({"type": "query", "key": "n", "value": {"eq": 7}}, {}, True),
        ({"type": "query", "key": "n", "value": {"gt": 6, "lt": 8}}, {}, True),
        ({"type": "query", "key": "n", "value": {"gte": 7, "lte": 7}}, {}, True),
        ({"type": "query", "key": "n", "value": {"gt": 7}}, {}, False),
        ({"type": "query", "key": "q", "value": {"gt": 7}}, {}, False),
    ],
)
def test_conditions_hold_as_they_say(condition: dict[str, Any], visit: dict[str, Any], holds: bool) -> None:
    target = "/x?q=y&n=7"
    assert redirecting("/x", "/y", has=[condition]).answer(target, **visit).status == (308 if holds else 404)
    if not (isinstance(condition.get("value"), dict) and len(condition["value"]) > 1):
        assert redirecting("/x", "/y", missing=[condition]).answer(target, **visit).status == (404 if holds else 308)


def test_conditions_capture_for_the_destination() -> None:
    has = [
        {"type": "host", "value": "(?<sub>.*)\\.shop\\.example"},
        {"type": "query", "key": "page"},
        {"type": "header", "key": "x-a", "value": "(?<first>[a-z])(.*)"},
    ]
    site = redirecting("/:first/(.*)", "https://else.example/:sub/:page/:first/:host/$1/$2", has=has)
    visit = {"host": "blue.shop.example", "headers": {"x-a": "zoo"}}
    assert site.shown("/one/two?page=3", **visit).startswith(
        "308 https://else.example/blue/3/z/blue.shop.example/one/two?"
    )


# --- what is refused, limited, left out ---


def refused(settings: dict[str, Any] | bytes) -> str:
    data = settings if isinstance(settings, bytes) else written(settings)
    with pytest.raises(RulesError) as error:
        site_of(SITE, {"vercel.json": data})
    return str(error.value)


RULE = {"source": "/a", "destination": "/b"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"redirects": [RULE] * 2049}, "vercel.json:2: refused: `redirects` has 2,049 items; at most 2,048"),
        ({"rewrites": [RULE] * 2049}, "`rewrites` has 2,049 items; at most 2,048"),
        ({"headers": [{"source": "/a", "headers": []}] * 2049}, "`headers` has 2,049 items; at most 2,048"),
        (
            {"headers": [{"source": "/a", "headers": [{"key": "X", "value": ""}] * 1025}]},
            "vercel.json:3: refused: a rule sets 1,025 headers: at most 1,024",
        ),
        ({"headers": [{"source": "/a", "headers": [{"key": "X" * 4097, "value": ""}]}]}, "4,097 characters"),
        ({"headers": [{"source": "/a", "headers": [{"key": "X", "value": "v" * 32_769}]}]}, "32,769 characters"),
        ({"redirects": [{**RULE, "source": "/" + "a" * 4096}]}, "`source` has 4,097 characters: at most 4,096"),
        ({"redirects": [{**RULE, "destination": "/" + "a" * 4096}]}, "`destination` has 4,097 characters"),
        ({"redirects": [{**RULE, "has": [{"type": "host", "value": "a"}] * 17}]}, "`has` has 17 conditions"),
        ({"redirects": [{**RULE, "missing": [{"type": "host", "value": "a"}] * 17}]}, "`missing` has 17"),
        ({"redirects": [RULE, {"source": "/a"}]}, "vercel.json:7: refused: a rule has no `destination`"),
        ({"redirects": [{**RULE, "permanent": True, "statusCode": 301}]}, "both `permanent` and `statusCode`"),
        ({"redirects": [{**RULE, "statusCode": 200}]}, "`statusCode` is 200. Instead: write one of 301, 302"),
        ({"redirects": [{**RULE, "permanent": "yes"}]}, "`permanent` is neither"),
        ({"redirects": [{**RULE, "source": "/a*"}]}, "`source`: the pattern is badly written: at character 3"),
        ({"redirects": [{**RULE, "destination": "/:x"}]}, "but neither in `source` nor in `has`"),
        ({"redirects": [{**RULE, "has": [{"type": "planet", "value": "a"}]}]}, "the type 'planet'"),
        ({"redirects": [{**RULE, "has": [{"type": "host", "value": "("}]}]}, "the pattern is badly written"),
        ({"redirects": [{**RULE, "has": [{"type": "query", "key": "a", "value": {"eqq": 1}}]}]}, "is no operator"),
        ({"redirects": [{**RULE, "has": [{"type": "query", "value": "a"}]}]}, "has no key"),
        ({"redirects": [{**RULE, "has": {}}]}, "`has` is no list"),
        ({"redirects": ["/a"]}, "an item of `redirects` is no object"),
        ({"redirects": {}}, "`redirects` is no list"),
        ({"headers": [{"source": "/a", "headers": {"X": "1"}}]}, "`headers` is no list"),
        ({"headers": [{"source": "/a", "headers": [{"key": "X"}]}]}, "not written as key and value"),
        ({"cleanUrls": "true"}, "vercel.json:2: refused: `cleanUrls` is neither true nor false"),
        ({"trailingSlash": 1}, "`trailingSlash` is neither"),
        ({"rewrites": [{**RULE, "statusCode": 301}]}, "`statusCode` of a rewrite"),
        ({"routes": [], "rewrites": []}, "`routes` cannot stand beside `rewrites`"),
        (b'{\n "redirects": [\n  {"source": }]}', "vercel.json:3: refused: this is no JSON: Expecting value"),
        (b"[]", "its top is no object"),
        (b'{"a":' + b"[" * 200_000, "nested too deeply"),
        (b'{"a":' + b"1" * 6_000 + b"}", "giant number"),
    ],
)
def test_a_malformed_file_refuses_the_deployment_and_says_where(settings: dict[str, Any] | bytes, told: str) -> None:
    assert told in refused(settings)


def test_all_mistakes_are_told_at_once() -> None:
    rules = [{"source": "/a*", "destination": "/b"}, RULE, {"source": "/a", "destination": "/:b"}]
    assert refused({"cleanUrls": 1, "redirects": rules}).count("refused") == 3


def test_what_means_something_that_is_not_done_here_is_named_with_its_line() -> None:
    settings = {
        "$schema": "https://openapi.vercel.sh/vercel.json",
        "functions": {"api/*.js": {"memory": 1024}},
        "crons": [],
        "regions": ["fra1"],
        "images": {},
        "misspelt": 1,
        "redirects": [{**RULE, "comment": "why"}],
        "headers": [
            {"source": "/a", "headers": [{"key": "Content-Length", "value": "1"}, {"key": "a b", "value": ""}]}
        ],
    }
    notes = vercel(*SITE, **settings).notes
    assert [note.partition(": ")[0] for note in notes[:5]] == [f"vercel.json:{line}" for line in (3, 8, 9, 12, 13)]
    assert "left out: `functions`: functions are not run here. Instead: only files are served" in notes[0]
    assert "`misspelt` is not known here" in notes[4]
    assert "limited: `comment` is not known here" in notes[5]
    assert "Content-Length is not for a rule to set" in notes[6]
    assert "'a b' is no name of a header" in notes[7]


def test_a_misspelt_name_is_told_with_the_nearest_right_one() -> None:
    notes = vercel(*SITE, headrs=[], redirects=[{**RULE, "permenant": True}], nothingLikeIt=1).notes
    assert [note.partition("Instead: ")[2] for note in notes] == ["write `headers`.", "write `permanent`.", ""]


def test_settings_about_vercels_own_builds_and_dashboard_are_not_talked_about() -> None:
    names = ("framework", "buildCommand", "installCommand", "outputDirectory", "ignoreCommand", "devCommand")
    quiet = dict.fromkeys((*names, "git", "github", "public", "version", "name", "alias", "scope", "$schema"), "x")
    assert vercel(*SITE, **quiet).notes == []


def test_a_site_without_any_rule_file_can_follow_this_dialect_too() -> None:
    assert site_of(SITE, {"vercel.json": b"{}"}).compiled.rules.dialect is Dialect.VERCEL


def test_old_routes_are_run_as_vercel_runs_them() -> None:
    routes = [
        {"src": "/old/(.*)", "status": 301, "headers": {"Location": "/$1"}},
        {"src": "/(.*)", "headers": {"X-A": "1"}, "continue": True},
        {"handle": "filesystem"},
        {"src": "/(.*)", "dest": "/index.html"},
    ]
    site = vercel(*SITE, routes=routes)
    assert [site.shown(target) for target in ("/old/x", "/a.js", "/nothing")] == ["301 /x", "a.js", "index.html"]
    assert header(site.answer("/a.js"), "X-A") == "1"


def test_the_longest_file_is_read_in_little_time() -> None:
    rule = {"source": "/a/:b/c/:d*", "destination": "/e/:b/:d*", "has": [{"type": "host", "value": "(?<h>.*)"}]}
    rules = [{**rule, "source": f"/{number}/:b/:d*"} for number in range(2048)]
    began = time.process_time()
    site = site_of(SITE, {"vercel.json": json.dumps({"redirects": rules, "rewrites": rules}).encode()})
    assert time.process_time() - began < 6
    assert site.shown("/2047/x/y") == "308 /e/x/y"
