"""Rules made ready for visits: patterns compiled at their first use, conditions asked, templates filled."""

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Final, overload
from urllib.parse import quote

from scalemesh.edge.rules.asked import Asked
from scalemesh.edge.rules.reach import Reach
from scalemesh.patterns import Budget, Pattern
from scalemesh.rules import Condition, Protection, Rule, Rules

Captures = Mapping[str, str]
#: Whether a rule matched: what it captured, or the reason why not.
Verdict = tuple[Captures, str] | tuple[None, str]

NO_PATH: Final = "the path does not match"

_REFERENCE: Final = re.compile(r"\$(?:\$|\{(\w+)\})")
_ORIGIN: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_NOT_IN_HOST: Final = re.compile(r"[^A-Za-z0-9.-]+")
_NONE: Final[Captures] = {}
_WITH_PATTERN: Final = 4000  #: bytes of a rule in memory, its pattern compiled, about
_EXACT: Final = 1400  #: and of one for a single path


class Ready:
    """One rule, ready to be tried."""

    __slots__ = ("_has", "_missing", "_pattern", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._pattern = Pattern(rule.pattern, ignores_case=rule.ignores_case) if rule.pattern else None
        self._has = [Question(condition) for condition in rule.has]
        self._missing = [Question(condition) for condition in rule.missing]

    def match(self, asked: Asked, path: str | None = None) -> Verdict:
        """What the rule captures of *asked*, or None and why it does not match. *path*: where rules led it so far."""
        found = self._match_path(asked, asked.path if path is None else path)
        if found is None:
            return None, NO_PATH
        if self.rule.methods and asked.method not in self.rule.methods:
            return None, f"the method is not {' or '.join(self.rule.methods)}"
        for question in self._has:
            more = question.ask(asked)
            if more is None:
                return None, f"{question.words} does not hold"
            if more:
                found = {**found, **more}
        for question in self._missing:
            if question.ask(asked) is not None:
                return None, f"{question.words} holds, and must not"
        return found, "matches"

    def _match_path(self, asked: Asked, path: str) -> Captures | None:
        if self._pattern is not None:
            return self._pattern.match(path, asked.budget)
        wanted = self.rule.path
        if self.rule.ignores_slash and path != "/":
            path, wanted = path.removesuffix("/"), wanted.removesuffix("/")
        same = path.lower() == wanted.lower() if self.rule.ignores_case else path == wanted
        return _NONE if same else None


class Question:
    """One condition, ready to be asked."""

    __slots__ = ("_condition", "_pattern", "words")

    def __init__(self, condition: Condition) -> None:
        self._condition = condition
        self._pattern = Pattern(condition.values[0]) if condition.check == "re" else None
        wanted = () if condition.check == "exists" else (condition.check,)
        self.words = " ".join(word for word in (condition.of, condition.key, *wanted, *condition.values) if word)

    def ask(self, asked: Asked) -> Captures | None:
        """What was captured, where the condition holds; else None."""
        condition = self._condition
        if condition.of == "language":
            return self._speaks(asked)
        value = _value_of(condition, asked)
        if value is None:
            return None
        found = self._pattern.match(value, asked.budget) if self._pattern else _NONE
        if found is None or not (self._pattern or _CHECKS[condition.check](value, condition.values)):
            return None
        named = {name: text for name, text in found.items() if not name.isdecimal()}  # numbers are the path's
        return {**named, condition.capture: value} if condition.capture else named

    def _speaks(self, asked: Asked) -> Captures | None:
        """A visitor is of a language if it is the one that they like best (of those that differ, the most exact)."""
        best = asked.language
        wanted = {value.lower() for value in self._condition.values}
        return _NONE if best in wanted or best.partition("-")[0] in wanted else None


def _value_of(condition: Condition, asked: Asked) -> str | None:
    if condition.of == "host":
        return asked.host
    if condition.of == "header":
        return asked.header(condition.key)
    if condition.of == "cookie":
        return asked.cookie(condition.key)
    return asked.field(condition.key)


def _compared(holds: Callable[[float, float], bool]) -> Callable[[str, Sequence[str]], bool]:
    def check(value: str, wanted: Sequence[str]) -> bool:
        try:
            return holds(float(value), float(wanted[0]))
        except ValueError:
            return False

    return check


_CHECKS: Final[Mapping[str, Callable[[str, Sequence[str]], bool]]] = {
    "exists": lambda _value, _wanted: True,
    "eq": lambda value, wanted: value == wanted[0],
    "neq": lambda value, wanted: value != wanted[0],
    "inc": lambda value, wanted: value in wanted,
    "ninc": lambda value, wanted: value not in wanted,
    "pre": lambda value, wanted: value.startswith(wanted[0]),
    "suf": lambda value, wanted: value.endswith(wanted[0]),
    "gt": _compared(lambda value, bound: value > bound),
    "gte": _compared(lambda value, bound: value >= bound),
    "lt": _compared(lambda value, bound: value < bound),
    "lte": _compared(lambda value, bound: value <= bound),
}


def filled(template: str, captures: Captures, budget: Budget, *, escape: Callable[[str], str] = str) -> str:
    """*template* with what was captured in place of its references; each value goes through *escape*.

    Raises:
        Spent: it is more than *budget* has room for: a template may say a long path a thousand times.
    """
    if "$" not in template:
        return template

    def value_of(found: "re.Match[str]") -> str:
        if not found[1]:
            return "$"
        value = escape(captures.get(found[1], ""))
        budget.fill(len(value))
        return value

    return _REFERENCE.sub(value_of, template)


def filled_address(template: str, captures: Captures, budget: Budget) -> str:
    """*template* filled as a path or a URL: what stands in its host can name a host there, and nothing else.

    Raises:
        Spent: as for ``filled``.
    """
    origin = _ORIGIN.match(template)
    if origin is None or "$" not in origin[0]:
        return filled(template, captures, budget, escape=in_path)
    rest = filled(template[origin.end() :], captures, budget, escape=in_path)
    return filled(origin[0], captures, budget, escape=in_host) + rest


def in_host(text: str) -> str:
    """*text* as it may stand in a host name: whatever would end the name there is left out."""
    return _NOT_IN_HOST.sub("", text)


def in_path(text: str) -> str:
    """*text* as it may stand in a path or a query: nothing in it separates anything but path segments."""
    return quote(text, safe="/~!$'()*,;:@")


def in_header(text: str) -> str:
    """*text* as it may stand in a header's value: a visitor's line break ends nothing."""
    return re.sub(r"[^\x20-\x7e]", lambda found: quote(found[0]), text)


class Guard:
    """A protection, ready to be asked."""

    __slots__ = ("_pattern", "protection")

    def __init__(self, protection: Protection) -> None:
        self.protection = protection
        self._pattern = Pattern(protection.pattern)

    def covers(self, path: str, budget: Budget) -> bool:
        """Whether *path* is protected; raises Spent where that takes too long to say."""
        return self._pattern.match(path, budget) is not None


class Phase(Sequence[Ready]):
    """The rules of one phase in their order, and those of them that a path can match."""

    __slots__ = ("_reach", "_readies")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._readies = [Ready(rule) for rule in rules]
        self._reach = Reach(rules)

    @overload
    def __getitem__(self, number: int) -> Ready: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Ready]: ...
    def __getitem__(self, number: int | slice) -> Ready | Sequence[Ready]:
        return self._readies[number]

    def __len__(self) -> int:
        return len(self._readies)

    @property
    def is_empty(self) -> bool:
        return not self._readies

    def reachable(self, path: str, first: int = 0) -> Sequence[int]:
        """The numbers, from *first* on, of the rules that *path* may match, in their order; no other one matches it."""
        numbers = self._reach.of(path)
        return numbers[bisect_left(numbers, first) :]


class Ruleset:
    """All rules of one manifest, ready to be tried. Made once for each manifest in memory."""

    __slots__ = ("failed", "first", "found", "guards", "missed", "rules")

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.first, self.missed = Phase(rules.first), Phase(rules.missed)
        self.found, self.failed = Phase(rules.found), Phase(rules.failed)
        self.guards = [Guard(protection) for protection in rules.protections]

    @property
    def weight_bytes(self) -> int:
        """What they weigh in memory, about."""
        rules = [ready.rule for phase in (self.first, self.missed, self.found, self.failed) for ready in phase]
        patterns = sum(bool(rule.pattern) for rule in rules)
        return (patterns + len(self.guards)) * _WITH_PATTERN + (len(rules) - patterns) * _EXACT
