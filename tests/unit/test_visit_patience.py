"""Rules of strangers may not cost a visit more than its share of time."""

import time
from dataclasses import replace
from typing import Any

import pytest

from scalemesh.patterns import STRIKES
from scalemesh.rules import Dialect, HeaderChange, Place, Protection, Rule, Rules
from tests.unit.dialects import Asked, with_rules
from tests.unit.test_visit_decide import ask, site
from tests.unit.vercel_site import build_output, vercel

SLOW = "/(?=a)(?:a|b|ab)*[cd]"
HOSTILE = "/" + "ab" * 2000


def test_rules_whose_patterns_take_too_long_together_end_the_visit_instead_of_being_passed_over() -> None:
    """Passed over, the one behind them could have been what keeps strangers out."""
    slow = [
        Rule(place=Place(file="vercel.json", line=number), pattern=rf"/(?=a)(?:a|b|ab)*[cd{number}]", status=410)
        for number in range(500)
    ]
    manifest = replace(site("index.html"), rules=Rules(first=tuple(slow)))
    began = time.process_time()
    answer = ask(manifest, "/" + "ab" * 2000)
    assert time.process_time() - began < 2
    assert (answer.status, answer.because) == (503, "the rules take too much time or room")
    assert not answer.by_target
    assert ask(manifest, "/").status == 200


def test_a_visitor_who_makes_a_pattern_slow_again_and_again_switches_no_rule_off() -> None:
    place = Place(file="vercel.json", line=1)
    asked = with_rules(Rules(dialect=Dialect.VERCEL, first=(Rule(place=place, pattern=SLOW, status=403),)), "abc")
    for _ in range(STRIKES + 2):
        assert asked.ask(HOSTILE).status == 503
    assert asked.ask("/abc").status == 403


def test_a_protection_whose_pattern_takes_too_long_lets_nobody_in() -> None:
    guard = Protection(place=Place(file="_headers", line=1), pattern=SLOW, users=("ann:secret",))
    asked = with_rules(Rules(dialect=Dialect.NETLIFY, protections=(guard,)), HOSTILE[1:251])
    answers = [asked.ask(target).status for target in [HOSTILE] * (STRIKES + 2)]
    assert answers == [503] * (STRIKES + 2)
    assert asked.ask("/abc").status == 401


FIELDS = "&".join(f"a{number}=b{number}" for number in range(199))
NEVER = [{"type": kind, "key": f"z{number}"} for kind in ("query", "cookie", "header") for number in range(5)]


@pytest.mark.parametrize(
    "route",
    [
        {"src": "^/x$", "dest": "/y", "missing": [*NEVER, {"type": "query", "key": "a0"}]},
        {"src": "^/x$", "dest": "/y", "missing": [*NEVER, {"type": "cookie", "key": "a0"}]},
        {"src": "(.*)x?", "dest": "/a$1", "continue": True},
        {"src": "(.*)x?", "dest": "/a$1", "check": True},
    ],
    ids=["fields of a query", "cookies", "from path to path", "looking for files"],
)
def test_however_many_rules_ask_a_visit_is_answered_soon(route: dict[str, Any]) -> None:
    site = build_output("index.html", routes=[route] * 5000)
    began = time.process_time()
    status = site.answer(f"/x?{FIELDS}", headers={"cookie": FIELDS.replace("&", "; ")}).status
    assert time.process_time() - began < 1
    assert status in (404, 503)


@pytest.mark.parametrize("what", ["header", "redirect", "rewrite"])
def test_what_a_visitor_sends_is_filled_in_within_a_limit(what: str) -> None:
    """A rule may say a long path a thousand times, and a visitor chooses the path."""
    often = "/$1" * 1000
    settings: dict[str, Any] = {
        "header": {"headers": [{"source": "/(.*)", "headers": [{"key": "X-A", "value": "$1" * 16_000}]}]},
        "redirect": {"redirects": [{"source": "/(.*)", "destination": often}]},
        "rewrite": {"rewrites": [{"source": "/(.*)", "destination": f"https://other.example{often}"}]},
    }
    site = vercel("b.html", **settings[what])
    answer = site.answer("/" + "a" * 4000)
    assert (answer.status, answer.because) == (503, "the rules take too much time or room")
    assert answer.length < 4096
    assert not answer.by_target


def test_many_headers_that_are_filled_in_share_one_limit() -> None:
    changes = tuple(HeaderChange(name=f"X-{number}", value="${1}", how="set") for number in range(200))
    rule = Rule(place=Place(file="vercel.json", line=1), pattern="/(.*)", headers=changes, goes_on=True)
    asked: Asked = with_rules(Rules(dialect=Dialect.VERCEL, first=(rule,)), "index.html")
    assert asked.ask("/" + "a" * 4000).status == 503
    assert asked.ask("/a").one("X-199") == "a"


def test_the_first_visit_of_a_site_with_as_many_patterns_as_vercel_allows_is_answered() -> None:
    """Patterns are compiled at their first use, which may take longer than a visit has."""
    rules = [{"source": f"/:a/{number}/:b", "destination": "/index.html"} for number in range(2048)]
    headers = [{"source": f"/:a/{number}/:b", "headers": []} for number in range(2048)]
    site = vercel("index.html", redirects=rules[::-1], rewrites=rules, headers=headers)
    assert site.answer("/x/y").status == 404
    assert site.answer("/x/2047/y").status == 308
