"""Which of many rules a path may match, told without trying each: by the path, or by what it begins with."""

from collections.abc import Sequence
from typing import Final

from scalemesh.patterns import literal_prefix
from scalemesh.rules import Rule

MOST_COMPARED: Final = 24  #: characters of what a pattern's matches begin with


class Reach:
    """An index of the rules of one phase."""

    __slots__ = ("_anywhere", "_at", "_behind", "_folded")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._at: dict[str, list[int]] = {}  #: path -> numbers of the rules for this very path
        self._behind, self._folded = _Beginnings(), _Beginnings()  #: of patterns; those that ignore case are folded
        self._anywhere: list[int] = []  #: numbers of the other rules
        for number, rule in enumerate(rules):
            self._add(number, rule)

    def of(self, path: str) -> list[int]:
        """The numbers of the rules that *path* may match, in their order: no other rule matches it."""
        numbers = [*self._anywhere, *self._at.get(path, ()), *self._behind.of(path)]
        numbers += self._folded.of(path.lower()) if path.isascii() else self._folded.every()
        return sorted(numbers)

    def _add(self, number: int, rule: Rule) -> None:
        if not rule.pattern and not rule.ignores_case:
            for path in _paths_of(rule):
                self._at.setdefault(path, []).append(number)
            return
        beginning = literal_prefix(rule.pattern)
        if not beginning or (rule.ignores_case and not beginning.isascii()):  # lower() does not know all their forms
            self._anywhere.append(number)
        elif rule.ignores_case:
            self._folded.add(beginning.lower(), number)
        else:
            self._behind.add(beginning, number)


class _Beginnings:
    """Numbers of rules, by what every path that they match begins with."""

    __slots__ = ("_lengths", "_numbers")

    def __init__(self) -> None:
        self._numbers: dict[str, list[int]] = {}
        self._lengths: set[int] = set()

    def add(self, beginning: str, number: int) -> None:
        key = beginning[:MOST_COMPARED]
        self._numbers.setdefault(key, []).append(number)
        self._lengths.add(len(key))

    def of(self, path: str) -> list[int]:
        found: list[int] = []
        for length in self._lengths:
            if length <= len(path):
                found += self._numbers.get(path[:length], ())
        return found

    def every(self) -> list[int]:
        return [number for numbers in self._numbers.values() for number in numbers]


def _paths_of(rule: Rule) -> set[str]:
    bare = rule.path.removesuffix("/")
    return {bare, f"{bare}/"} if rule.ignores_slash and bare else {rule.path}
