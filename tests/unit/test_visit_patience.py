"""Rules of strangers may not cost a visit more than its share of time."""

import time
from dataclasses import replace

from scalemesh.edge.answers import Visit
from scalemesh.edge.rules.asked import Asked
from scalemesh.edge.targets import Target
from scalemesh.rules import Condition, Place, Rule, Rules
from tests.unit.test_visit_decide import ROUTE, answered, ask, site


def test_rules_whose_patterns_take_too_long_together_end_the_visit_instead_of_being_passed_over() -> None:
    """Passed over, the one behind them could have been what keeps strangers out."""
    slow = [
        Rule(place=Place(file="vercel.json", line=number), pattern=rf"/(?=a)(?:a|b|ab)*[cd{number}]", status=410)
        for number in range(500)
    ]
    manifest = replace(site("index.html"), rules=Rules(first=tuple(slow)))
    began = time.perf_counter()
    answer = ask(manifest, "/" + "ab" * 2000)
    assert time.perf_counter() - began < 2
    assert (answer.status, answer.because) == (503, "the patterns of the rules take too long")
    assert not answer.by_target
    assert ask(manifest, "/").status == 200


def test_a_header_is_read_once_however_many_rules_ask_for_a_part_of_it() -> None:
    asking = (Condition(of="cookie", key="a"), Condition(of="query", key="a"), Condition(of="language", key="fr"))
    rules = [
        Rule(place=Place(file="vercel.json", line=number), path="/", has=(asking[number % 3],), status=410)
        for number in range(2000)
    ]
    manifest = replace(site("index.html"), rules=Rules(first=tuple(rules)))
    headers = {"cookie": "x=;" * 2600, "accept-language": "de," * 2000}
    visit = Visit(method="GET", target="/?" + "b&" * 199, headers=headers)
    began = time.perf_counter()
    assert answered(visit, ROUTE, manifest).status == 200
    assert time.perf_counter() - began < 0.4


def test_the_first_cookie_and_the_first_field_of_a_name_count() -> None:
    asked = Asked(Visit(method="GET", target="/", headers={"cookie": 'a=1; a=2;b="x";c'}), Target("", "f=1&f=2&g"))
    assert [asked.cookie(name) for name in "abcd"] == ["1", "x", None, None]
    assert [asked.field(name) for name in "fgh"] == ["1", "", None]
