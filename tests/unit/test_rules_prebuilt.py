"""Answers that are said to be the same for everybody are: whoever keeps one may give it to anybody."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from scalemesh.edge.answers import Answer, Passage, Visit
from scalemesh.edge.decide import decide
from scalemesh.edge.rules.ruleset import Ruleset
from scalemesh.edge.site import Site
from scalemesh.rules import Condition, Dialect, HeaderChange, Place, Protection, Rule, Rules
from scalemesh.services.encodings import Encodings
from scalemesh.services.windows import Former, Window, grown
from tests.unit.dialects import AT, ROUTE
from tests.unit.test_visit_decide import site

HASHED = "assets/index-BxYz12aB.js"
MANIFESTS = [site("index.html"), site("index.html", "404.html", "a.html", "b/index.html", "x.js", "b.js")]
WINDOW = grown(
    Window(),
    Former(deployment=ROUTE.deployment, created_at=AT, until=AT + timedelta(days=7)),  # type: ignore[arg-type]
    site(HASHED),
    Encodings(),
)
TARGETS = ["/a", "/b/", "/old.js", f"/{HASHED}", f"/{HASHED}/", "/none?k=1"]
PATTERNS = ["/.*", "/a.*", "/(?P<splat>.*)"]

conditions = st.one_of(
    st.builds(
        Condition,
        of=st.sampled_from(["header", "cookie", "query"]),
        key=st.sampled_from(["k", "x-a"]),
        capture=st.sampled_from(["", "splat"]),
    ),
    st.builds(Condition, of=st.just("language"), values=st.just(("en",))),
    st.just(Condition(of="host", check="eq", values=("shop.localhost",))),
    st.just(Condition(of="cookie", key="k", check="re", values=("(?P<splat>[0-9]+)",))),
)
changes = st.builds(
    HeaderChange,
    name=st.sampled_from(["Vary", "X-A", "Cache-Control", "Set-Cookie", "Content-Type"]),
    value=st.sampled_from(["a", "${splat}"]),
    how=st.sampled_from(["set", "append", "remove"]),
)


def rule(pattern: str, to: str, status: int, claims: set[str], **more: Any) -> Rule:
    more |= dict.fromkeys(claims, True)
    return Rule(place=Place(file="rules"), pattern=pattern, to=to, status=status, **more)


rules = st.builds(
    rule,
    pattern=st.sampled_from(PATTERNS),
    to=st.sampled_from(["", "", "/index.html", "/a", "/${splat}", "/x.js", "https://other.example/${splat}"]),
    status=st.sampled_from([0, 200, 302, 404]),
    claims=st.sampled_from([set(), set(), {"goes_on"}, {"tries"}, {"stops"}]),
    forced=st.booleans(),
    methods=st.sampled_from([(), (), ("GET",)]),
    has=st.lists(conditions, max_size=1).map(tuple),
    missing=st.lists(conditions, max_size=1).map(tuple),
    headers=st.lists(changes, max_size=2).map(tuple),
)
lists = st.lists(rules, max_size=2).map(tuple)
guards = st.just(Protection(place=Place(file="rules"), pattern="/a.*", users=("ann:secret",)))
sets = st.builds(
    Rules,
    dialect=st.sampled_from(list(Dialect)),
    clean_urls=st.booleans(),
    trailing_slash=st.sampled_from([None, True, False]),
    pretty_urls=st.booleans(),
    fallback=st.sampled_from(["", "index.html"]),
    first=lists,
    missed=lists,
    found=lists,
    failed=lists,
    protections=st.lists(guards, max_size=1).map(tuple),
)
EVERYTHING = {
    "cookie": "k=1",
    "accept-language": "en",
    "authorization": "Basic YW5uOnNlY3JldA==",
    "sec-fetch-mode": "navigate",
    "accept": "text/html",
    "x-a": "1",
}
headers = st.one_of(
    st.sampled_from([{}, EVERYTHING]), st.sampled_from(list(EVERYTHING.items())).map(lambda one: dict([one]))
)


def visit(target: str, sent: dict[str, str], method: Literal["GET", "HEAD"] = "GET") -> Visit:
    return Visit(
        method=method,
        target=target,
        host="shop.localhost",
        headers=sent,
        accept=sent.get("accept"),
        fetch_mode=sent.get("sec-fetch-mode"),
    )


@settings(max_examples=400)
@given(sets, st.sampled_from(MANIFESTS), st.sampled_from(TARGETS), headers, headers, st.booleans())
def test_what_is_the_same_for_everybody_is_the_same_for_any_other_visitor_at_any_time(
    chosen: Rules, manifest: Any, target: str, sent: dict[str, str], others: dict[str, str], has_window: bool
) -> None:
    manifest = replace(manifest, rules=chosen)
    at = Site(route=ROUTE, manifest=manifest, rules=Ruleset(chosen), window=WINDOW if has_window else Window())
    answer: Answer | Passage = decide(visit(target, sent), at, AT)
    if not (isinstance(answer, Answer) and answer.by_target):
        return
    assert decide(visit(target, others), at, AT) == answer
    assert decide(visit(target, others), at, AT + timedelta(days=8)) == answer


@given(sets, st.sampled_from(MANIFESTS), st.sampled_from(TARGETS), headers)
def test_head_is_answered_as_get_where_no_rule_asks_for_the_method(
    chosen: Rules, manifest: Any, target: str, sent: dict[str, str]
) -> None:
    def deaf(listed: tuple[Rule, ...]) -> tuple[Rule, ...]:
        return tuple(replace(one, methods=()) for one in listed)

    chosen = replace(
        chosen,
        first=deaf(chosen.first),
        missed=deaf(chosen.missed),
        found=deaf(chosen.found),
        failed=deaf(chosen.failed),
    )
    at = Site(route=ROUTE, manifest=replace(manifest, rules=chosen), rules=Ruleset(chosen))
    assert decide(visit(target, sent, "HEAD"), at, AT) == decide(visit(target, sent), at, AT)
