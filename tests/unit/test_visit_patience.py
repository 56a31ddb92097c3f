"""Rules of strangers may not cost a visit more than its share of time."""

import time
from dataclasses import replace

from scalemesh.rules import Place, Rule, Rules
from tests.unit.test_visit_decide import ask, site


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
