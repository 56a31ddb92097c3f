"""The one way through the rules, whatever the dialect: order, precedence, and what a visitor can never bring about."""

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalemesh.edge.answers import Visit
from scalemesh.edge.rules.asked import Asked
from scalemesh.edge.rules.ruleset import Phase, filled, in_header, in_path
from scalemesh.edge.rules.trace import Trace
from scalemesh.edge.targets import Target
from scalemesh.patterns import Budget
from scalemesh.rules import Check, Condition, Dialect, HeaderChange, Place, Protection, Rule, Rules
from tests.unit.dialects import Asked as Site
from tests.unit.dialects import with_rules

PATHS = ("index.html", "file.html", "new.html", "404.html", "folder/index.html", "assets/app.js", "data.json")


def rule(at: int = 1, **more: Any) -> Rule:
    return Rule(place=Place(file="rules", line=at, text=f"rule {at}"), **more)


def setting(name: str, value: str = "", at: int = 1, **more: Any) -> Rule:
    how = more.pop("how", "set")
    return rule(at, pattern="/.*", headers=(HeaderChange(name=name, value=value, how=how),), **more)


def site(dialect: Dialect = Dialect.NETLIFY, /, **phases: Any) -> Site:
    return with_rules(Rules(dialect=dialect, **phases), *PATHS)


def test_phases_have_their_order() -> None:
    lead = {"first": "/file", "missed": "/new", "failed": "/folder/"}
    every: dict[str, Any] = {phase: (rule(pattern="/nothing.*", to=to, status=200),) for phase, to in lead.items()}
    assert site(**every).ask("/nothing").file == "file.html"
    del every["first"]
    assert site(**every).ask("/nothing").file == "new.html"
    del every["missed"]
    assert site(**every).ask("/nothing").file == "folder/index.html"


def test_rules_for_what_is_missing_are_not_tried_where_there_is_a_file() -> None:
    asked = site(
        missed=(rule(pattern="/.*", to="/new", status=200),), failed=(rule(pattern="/.*", to="/", status=200),)
    )
    assert asked.ask("/file").file == "file.html"
    assert asked.ask("/nothing").file == "new.html"
    assert [place for place, _, _ in asked.steps("/file")] == [""]


def test_header_rules_are_tried_last_and_hold_where_there_is_an_answer() -> None:
    asked = site(first=(rule(1, path="/a", to="/file", status=200),), found=(setting("X-A", "1", at=2),))
    assert asked.ask("/a").one("X-A") == "1"
    assert [place for place, _, _ in asked.steps("/a")] == ["rules:1", "", "rules:2"]


def test_a_file_outweighs_a_rule_that_is_not_forced() -> None:
    asked = site(first=(rule(path="/file", to="/new", status=301, forced=False),))
    assert asked.ask("/file").file == "file.html"
    assert asked.steps("/file")[0] == ("rules:1", False, "matches, but a file is there")
    assert site(first=(rule(path="/file", to="/new", status=301),)).ask("/file").location == "/new"


def test_the_first_rule_with_an_outcome_ends_the_walk_unless_it_goes_on() -> None:
    on = rule(1, path="/a", to="/file", status=200, goes_on=True)
    assert site(first=(on, rule(2, path="/a", to="/new", status=200))).ask("/a").file == "new.html"
    over = rule(1, path="/a", to="/file", status=200)
    assert site(first=(over, rule(2, path="/a", to="/new", status=200))).ask("/a").file == "file.html"
    assert [place for place, _, _ in site(first=(over, rule(2, path="/a"))).steps("/a")] == ["rules:1", ""]


def test_a_status_alone_ends_the_visit_with_it() -> None:
    asked = site(first=(rule(1, path="/gone", status=410), rule(2, path="/gone", to="/file", status=200)))
    said = asked.ask("/gone")
    assert (said.status, said.one("Cache-Control"), said.because) == (410, "no-store", "rules:1")


def test_headers_are_set_appended_and_removed_in_the_order_of_the_rules() -> None:
    found = (
        setting("X-A", "1", how="append"),
        setting("X-A", "2", how="append"),
        setting("X-B", "1"),
        setting("X-B", "2"),
        setting("X-C", "1"),
        setting("X-C", how="remove"),
        setting("X-D", "1"),
        setting("X-D", how="remove"),
        setting("X-D", "2", how="append"),
    )
    said = site(found=found).ask("/file")
    assert [said.one(f"X-{letter}") for letter in "ABCD"] == ["1, 2", "2", None, "2"]


def test_a_rule_always_wins_over_our_own_headers() -> None:
    said = site(found=(setting("cache-control", "max-age=9", how="append"),)).ask("/file")
    assert said.one("Cache-Control") == "max-age=9"
    said = site(found=(setting("X-Content-Type-Options", how="remove"),)).ask("/file")
    assert said.one("X-Content-Type-Options") is None


@pytest.mark.parametrize("name", ["Content-Length", "etag", "Transfer-Encoding", "X-Scalemesh-Deployment", "Server"])
def test_what_frames_an_answer_is_no_rules_to_set(name: str) -> None:
    before = site().ask("/file")
    assert site(found=(setting(name, "forged"), setting(name, how="remove"))).ask("/file").headers == before.headers


def test_vary_is_joined_and_never_taken_away() -> None:
    asked = site(first=(rule(path="/gone", status=410, headers=(HeaderChange(name="Vary", how="remove"),)),))
    assert asked.ask("/gone").headers["vary"] == ["Accept"]
    asked = site(first=(rule(path="/gone", status=410, headers=(HeaderChange(name="Vary", value="Origin"),)),))
    assert asked.ask("/gone").headers["vary"] == ["Accept, Origin"]


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("mode", [None, "no-cors", "cors", "same-origin"])
def test_a_missing_asset_never_answers_as_a_page(dialect: Dialect, mode: str | None) -> None:
    asked = site(dialect, first=(rule(pattern="/[^f].*", to="/index.html", status=200),))
    assert asked.ask("/old-1234abcd.js", fetch_mode=mode).status in (404, 308)
    assert asked.ask("/v1.2/users/jane.doe", fetch_mode=mode).status in (200, 308)
    assert site(first=(rule(pattern="/.*", to="/data.json", status=200),)).ask("/old.json").file == "data.json"


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize(
    "target", ["//evil.example", "///evil.example", "/%2fevil.example", "/%5cevil.example", "//%5C/e"]
)
def test_no_redirect_leads_to_a_host_that_the_visitor_named(dialect: Dialect, target: str) -> None:
    asked = site(dialect, first=(rule(pattern="/(?P<splat>.*)", to="/${splat}", status=301),))
    location = asked.ask(target).location
    assert location is None or (location.startswith("/") and location[1:2] not in ("/", "\\"))
    asked = site(dialect, first=(rule(pattern="/(?P<splat>.*)", to="${splat}", status=301),))
    assert (asked.ask("/https://evil.example").location or "/").startswith("/")


def test_a_redirect_to_the_very_address_that_was_asked_for_is_no_answer() -> None:
    asked = site(
        first=(rule(1, pattern="/(?P<splat>.*)", to="/${splat}", status=301), rule(2, path="/a", to="/b", status=302))
    )
    assert asked.ask("/nothing?q=1").status == 404
    assert asked.ask("/file").file == "file.html"
    assert asked.ask("/a").location == "/b"
    assert ("rules:1", False, "it leads to where the visitor is") in asked.steps("/file")
    assert asked.ask("//a").location == "/a"


@pytest.mark.parametrize("sent", ["../admin", "..%2Fadmin", "a%2F..%2F..%2Fb", "."])
def test_what_a_visitor_sends_never_climbs_in_another_origin(sent: str) -> None:
    condition = Condition(of="query", key="id", capture="id")
    asked = site(first=(rule(path="/x", has=(condition,), to="https://api.example/v1/${id}", status=200),))
    assert asked.ask(f"/x?id={sent}").status == 404
    assert asked.passed("/x?id=a%2F.b%3Fc%23d").url == "https://api.example/v1/a/.b%3Fc%23d?id=a%2F.b%3Fc%23d"


def test_a_rewrite_never_climbs_out_of_the_site() -> None:
    condition = Condition(of="query", key="id", capture="id")
    asked = site(first=(rule(path="/x", has=(condition,), to="/folder/${id}", status=200),))
    assert asked.ask("/x?id=../file").status == 404
    assert asked.ask("/x?id=index.html").file == "folder/index.html"


@given(st.text(max_size=40))
def test_nothing_that_is_captured_ends_a_header_or_parts_a_url(text: str) -> None:
    written = text.encode("utf-8", "replace").decode()
    value = filled("a ${x} b", {"x": written}, Budget(), escape=in_header)
    assert value.isascii()
    assert value.isprintable()
    url = filled("/p/${x}", {"x": written}, Budget(), escape=in_path)
    assert not set(url) & set('?#\\ \r\n"<>')


def test_templates_keep_dollars_and_leave_out_what_was_not_captured() -> None:
    assert filled("$${a} ${a} ${b} $ $a", {"a": "1"}, Budget()) == "${a} 1  $ $a"


def test_a_query_is_passed_on_where_the_target_has_none() -> None:
    asked = site(first=(rule(path="/a", to="/b", status=302), rule(path="/c", to="/d?e=1#f", status=302)))
    assert asked.ask("/a?x=%2F&x").location == "/b?x=%2F&x"
    assert asked.ask("/c?x=1").location == "/d?e=1#f"


def test_protection_comes_before_everything_and_tells_nobody_what_is_there() -> None:
    guard = Protection(place=Place(file="rules", line=9), pattern="/(?:file|a)", users=("ann:pw:x",))
    asked = site(protections=(guard,), first=(rule(path="/a", to="/b", status=301),))
    for target in ("/a", "/file"):
        said = asked.ask(target)
        assert (said.status, said.location, said.file, said.by_target) == (401, None, None, False)
        assert (said.one("WWW-Authenticate") or "").startswith("Basic ")
    entered = {"authorization": "Basic YW5uOnB3Ong="}
    assert asked.ask("/a", headers=entered).location == "/b"
    for wrong in ("", "Basic", "Basic !", "Bearer YW5uOnB3Ong=", "Basic YW5uOg==", "Basic " + "A" * 100_000):
        assert asked.ask("/a", headers={"authorization": wrong}).status == 401


CHECKS: list[tuple[Check, tuple[str, ...], str, bool]] = [
    ("exists", (), "x", True),
    ("eq", ("a",), "a", True),
    ("eq", ("a",), "b", False),
    ("neq", ("a",), "b", True),
    ("inc", ("a", "b"), "b", True),
    ("ninc", ("a", "b"), "b", False),
    ("pre", ("ab",), "abc", True),
    ("suf", ("bc",), "abc", True),
    ("gt", ("5",), "6", True),
    ("gte", ("5",), "5", True),
    ("lt", ("5",), "5", False),
    ("lte", ("5",), "x", False),
    ("re", ("v(?P<n>[0-9]+)",), "v12", True),
    ("re", ("v[0-9]+",), "v12x", False),
]


@pytest.mark.parametrize(("check", "values", "value", "holds"), CHECKS)
@pytest.mark.parametrize("of", ["header", "cookie", "query"])
def test_conditions_ask_headers_cookies_and_the_query(
    of: Any, check: Check, values: tuple[str, ...], value: str, holds: bool
) -> None:
    condition = Condition(of=of, key="k", check=check, values=values)
    sent = {"header": {"k": value}, "cookie": {"cookie": f"a=1; k={value}"}, "query": {}}[of]
    target = f"/a?k={value}" if of == "query" else "/a"
    asked = site(first=(rule(path="/a", has=(condition,), to="/b", status=301),))
    assert (asked.ask(target, headers=sent).location is not None) is holds
    asked = site(first=(rule(path="/a", missing=(condition,), to="/b", status=301),))
    assert (asked.ask(target, headers=sent).location is None) is holds
    assert asked.ask("/a").location == "/b"


def test_odd_cookies_hide_no_others() -> None:
    asked = site(
        first=(rule(path="/a", has=(Condition(of="cookie", key="beta", capture="v"),), to="/${v}", status=301),)
    )
    for sent in ("beta=b", 'x={"a": [1]}; beta=b', "a b; c[0]=; ; =; beta=b; beta=c", 'beta="b"'):
        assert asked.ask("/a", headers={"cookie": sent}).location == "/b", sent
    for sent in ("", "beta", "alphabeta=1", "x=beta=1"):
        assert asked.ask("/a", headers={"cookie": sent}).status == 404, sent


def test_methods_narrow_a_rule() -> None:
    asked = site(first=(rule(path="/a", methods=("POST",), to="https://api.example/", status=200),))
    assert asked.passed("/a", "POST").url == "https://api.example/"
    assert asked.ask("/a").status == 404


def test_an_answer_that_asked_for_more_than_its_target_says_so() -> None:
    condition = Condition(of="header", key="x-beta")
    asked = site(first=(rule(path="/a", has=(condition,), to="/b", status=301),))
    assert not asked.ask("/a").by_target
    assert asked.ask("/file").by_target
    asked = site(first=(rule(path="/a", has=(Condition(of="host", check="eq", values=("x",)),), to="/b", status=301),))
    assert asked.ask("/a").by_target


def test_a_trace_tells_every_rule_its_place_and_why() -> None:
    asked = site(
        first=(
            rule(1, path="/x", to="/b", status=301),
            rule(2, path="/a", methods=("POST",), to="/b", status=301),
            rule(3, path="/a", has=(Condition(of="header", key="x", check="eq", values=("y",)),), to="/b", status=301),
            rule(4, path="/a", missing=(Condition(of="host", check="eq", values=("shop.localhost",)),), status=410),
            rule(5, path="/a", to="/file", status=200),
        ),
        found=(setting("X-A", "1", at=6), rule(7, path="/other", headers=(HeaderChange(name="X-B"),))),
    )
    assert asked.steps("/a") == [
        ("rules:1", False, "the path does not match"),
        ("rules:2", False, "the method is not POST"),
        ("rules:3", False, "header x eq y does not hold"),
        ("rules:4", False, "host eq shop.localhost holds, and must not"),
        ("rules:5", True, "matches"),
        ("", True, "netlify: the file file.html"),
        ("rules:6", True, "matches"),
        ("rules:7", False, "the path does not match"),
    ]
    trace = Trace()
    asked.decide("/a", trace=trace)
    set_by = {name: [made.place for made in changes] for name, changes in trace.set_by.items()}
    assert set_by == {"x-a": [Place(file="rules", line=6, text="rule 6")]}


PATHS_ASKED = st.sampled_from(
    ["/", "/a", "/a/", "/A/", "/b", "/ab", "/AB/c", "/é", "/É/a", "/\u017fa", "/sa", "/a.b", "/x" * 30]
)
PATTERNS = [
    "/a.*",
    "/[ab]",
    "/a?b.*",
    "/a|/b",
    "/(?:a|b)/?",
    "/A(?:/.*)?",
    "/é.*",
    "/sa.*",
    "(?i)/ab.*",
    r"/a\.b",
    "/x" * 30,
]
RULES = st.builds(
    lambda path, pattern, case, slash: (
        rule(pattern=pattern, ignores_case=case) if pattern else rule(path=path, ignores_case=case, ignores_slash=slash)
    ),
    PATHS_ASKED,
    st.sampled_from(["", "", *PATTERNS]),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(RULES, max_size=12), PATHS_ASKED)
def test_rules_that_are_passed_over_for_speed_could_not_have_matched(rules: list[Rule], path: str) -> None:
    phase = Phase(rules)
    asked = Asked(Visit(method="GET", target="/"), Target(path[1:], ""))
    matching = [ready for ready in phase if ready.match(asked)[0] is not None]
    reachable = [phase[number] for number in phase.reachable(path)]
    assert [ready for ready in reachable if ready.match(asked)[0] is not None] == matching
    assert [number for number in phase.reachable(path) if number >= 3] == list(phase.reachable(path, 3))


def test_a_rule_that_leads_elsewhere_puts_others_within_reach_where_the_dialect_follows_it() -> None:
    rules = (
        rule(1, path="/b", to="/nowhere", status=200),
        rule(2, path="/a", to="/b", goes_on=True),
        rule(3, path="/b", to="/c", tries=True),
        rule(4, pattern="/c.*", to="/file.html", status=200),
        rule(5, path="/a", to="/nowhere", status=200),
    )
    asked = site(Dialect.VERCEL, first=rules)
    assert asked.ask("/a").file == "file.html"
    assert [place for place, matched, _ in asked.steps("/a") if matched and place] == ["rules:2", "rules:3", "rules:4"]


STEPS = st.builds(
    lambda path, pattern, to, status, ways: rule(
        path="" if pattern else path, pattern=pattern, to=to, status=status, forced=False, **dict.fromkeys(ways, True)
    ),
    PATHS_ASKED,
    st.sampled_from(["", *PATTERNS]),
    st.sampled_from(["", "/a", "/b", "/a/", "/file", "/é", "/new"]),
    st.sampled_from([0, 200, 404, 302]),
    st.sets(st.sampled_from(["goes_on", "tries", "stops"])),
)


@given(st.sampled_from(list(Dialect)), st.lists(STEPS, max_size=10), st.lists(STEPS, max_size=5), PATHS_ASKED)
def test_a_visit_that_is_looked_on_is_answered_like_any_other(
    dialect: Dialect, first: list[Rule], missed: list[Rule], path: str
) -> None:
    asked = site(dialect, first=tuple(first), missed=tuple(missed))
    target = quote(path)
    assert asked.decide(target, trace=Trace()) == asked.decide(target)
