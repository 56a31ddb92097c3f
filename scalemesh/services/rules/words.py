"""A rule in words, for people: of which kind it is, what it matches as its author wrote it, and what it does."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from scalemesh.rules import Condition, HeaderChange, Place, Protection, Rule, Rules

ABSOLUTE: Final = ("http://", "https://")
MASK: Final = "***"
_CHECKS: Final = {
    "eq": "=",
    "neq": "≠",
    "inc": "among",
    "ninc": "not among",
    "re": "matching",
    "pre": "beginning with",
    "suf": "ending in",
    "gt": ">",
    "gte": "≥",
    "lt": "<",
    "lte": "≤",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One rule, or one setting that works like one."""

    kind: str  #: redirect, rewrite, proxy, status, headers, protect or setting
    matches: str  #: as it was written; the pattern, where its text was not kept
    does: str
    when: str  #: which turn it has in a visit
    place: Place


def listed(rules: Rules) -> Iterator[Told]:
    """Every rule of *rules* in the order in which a visit meets them."""
    for place in rules.places:
        yield Told(kind="setting", matches="every path", does=place.text, when="always", place=place)
    for protection in rules.protections:
        yield _protection(protection)
    for when, found in (
        ("before files", rules.first),
        ("where there is no file", rules.missed),
        ("on files and pages of a 404", rules.found),
        ("where nothing answers", rules.failed),
    ):
        for rule in found:
            yield Told(kind=kind_of(rule), matches=_matches(rule), does=does(rule), when=when, place=rule.place)


def kind_of(rule: Rule) -> str:
    """Redirect, rewrite, proxy, status or headers."""
    if not rule.to:
        return "status" if rule.status else "headers"
    if 300 <= rule.status < 400:
        return "redirect"
    return "proxy" if rule.to.lower().startswith(ABSOLUTE) else "rewrite"


def does(rule: Rule) -> str:
    """What follows where *rule* matches, and on which conditions."""
    changes = "; ".join(_change(change) for change in rule.headers)
    acts = {
        "redirect": f"{rule.status} to {rule.to}",
        "proxy": f"asks {rule.to}",
        "rewrite": f"shows {rule.to}" + (f" with status {rule.status}" if rule.status not in (0, 200) else ""),
        "status": f"answers {rule.status}",
        "headers": "",
    }[kind_of(rule)]
    parts = [part for part in (acts, changes) if part]
    return "; ".join(parts) + _provided(rule)


def masked(rules: Rules) -> Rules:
    """*rules* without the passwords of protected paths."""
    hidden = tuple(
        replace(each, users=tuple(f"{user.partition(':')[0]}:{MASK}" for user in each.users), place=_masked(each.place))
        for each in rules.protections
    )
    return replace(rules, protections=hidden)


def _masked(place: Place) -> Place:
    return replace(place, text=f"Basic-Auth: {MASK}")


def _protection(protection: Protection) -> Told:
    names = ", ".join(user.partition(":")[0] for user in protection.users)
    place = _masked(protection.place)
    does = f"asks for a name and a password ({names})"
    return Told(kind="protect", matches=protection.pattern, does=does, when="first of all", place=place)


def _matches(rule: Rule) -> str:
    """The source alone, where the rule was written as an object with more in it."""
    text = rule.place.text
    if text.startswith("{"):
        with suppress(ValueError, RecursionError):  # it may have been cut
            written = json.loads(text)
            text = written.get("source") or written.get("src") or text
    return str(text) or rule.path or rule.pattern


def _change(change: HeaderChange) -> str:
    if change.how == "remove":
        return f"removes {change.name}"
    return f"{'adds ' if change.how == 'append' else ''}{change.name}: {change.value}"


def _provided(rule: Rule) -> str:
    """The conditions, and what outweighs the rule."""
    words = [f"if {condition_words(condition)}" for condition in rule.has]
    words += [f"unless {condition_words(condition)}" for condition in rule.missing]
    words += [f"for {' and '.join(rule.methods)}"] if rule.methods else []
    words += ["unless a file is there"] if not rule.forced else []
    return f" ({', '.join(words)})" if words else ""


def condition_words(condition: Condition) -> str:
    """``cookie beta = yes``."""
    about = f"{condition.of} {condition.key}".strip()
    if condition.of == "language":
        return f"{about} is {' or '.join(condition.values)}"
    if condition.check == "exists":
        return f"there is a {about}"
    return f"{about} {_CHECKS[condition.check]} {' '.join(condition.values)}"
