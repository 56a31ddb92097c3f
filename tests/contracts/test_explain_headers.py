"""Explain tells how a header came by its value, where more than one had a say."""

from dataclasses import replace

from scalemesh.rules import Dialect, HeaderChange, Rules
from tests.contracts.test_explain import explained, placed


async def test_a_header_that_rules_join_is_told_from_one_that_a_rule_sets() -> None:
    joined = tuple(HeaderChange(name="X-Many", value=value, how="append") for value in "ab")
    alone = (HeaderChange(name="X-One", value="a", how="append"), HeaderChange(name="Vary", value="Cookie"))
    rules = Rules(dialect=Dialect.CLOUDFLARE, found=(placed(7, pattern="/.*", headers=(*joined, *alone)),))
    own = HeaderChange(name="Referrer-Policy", value="no-referrer", how="append")  # the dialect has a default
    rules = replace(rules, found=(*rules.found, placed(8, pattern="/.*", headers=(own,))))
    told = await explained(rules, "/assets/index-BxYz12aB.js")
    why = {header.name: (header.by, header.why) for header in told.headers}
    assert why["X-Many"] == ("_redirects:7", "joined from several rules")
    assert why["X-One"] == ("_redirects:7", "set by a rule")
    assert why["Vary"] == ("_redirects:7", "joined with our own")
    assert why["Referrer-Policy"] == ("_redirects:8", "set by a rule")
