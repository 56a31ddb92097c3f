"""Regular expressions that strangers write, matched in bounded time.

RE2 takes time linear in its text, times the size of the pattern. What it does not know (looking around, references
back), or what is too large for that to be short, goes to a backtracking engine under a time limit; a pattern that
passes it again and again is not tried any more. A ``Budget`` bounds what all patterns together may take.
"""

import logging
import re
from collections.abc import Mapping
from functools import cache
from time import perf_counter
from typing import Any, Final

from scalemesh.errors import InvalidError

log = logging.getLogger(__name__)
MAX_PATTERN: Final = 8192  #: characters; the longest source that Vercel allows, translated
RE2_MEMORY: Final = 512 * 1024  #: bytes for one pattern's machines; one that needs more is not RE2's
RE2_STEPS: Final = 1000  #: instructions for each group and the whole; about 25 ns each, for each letter of a text
LIMIT_S: Final = 0.005  #: for one match by backtracking
STRIKES: Final = 3  #: so often over the limit, and the pattern matches nothing any more
BUDGET_S: Final = 0.05  #: for all patterns of one visit
_FLAGS: Final = re.compile(r"\(\?[a-zA-Z0-9-]*\)")  #: such as (?i), which may hold for what stands before it
_META: Final = frozenset("\\^$.|?*+()[]{}")
_PROBES: Final = ("a", "/", "a/", "-", "0", ".", " ", "é")


class Spent(Exception):  # noqa: N818  an answer (503), not a mistake of ours
    """The patterns of a visit take too long together. To go on as if they did not match could let somebody in."""


class Budget:
    """The time that all patterns of one visit may take together."""

    __slots__ = ("left_s",)

    def __init__(self, left_s: float = BUDGET_S) -> None:
        self.left_s = left_s


class Pattern:
    """A regular expression over whole texts, compiled at its first use. Built from one that ``check`` let pass."""

    __slots__ = ("_compiled", "_ignores_case", "_prefix", "_strikes", "text")

    def __init__(self, text: str, *, ignores_case: bool = False) -> None:
        self.text = text
        self._ignores_case = ignores_case
        self._prefix = "" if ignores_case else literal_prefix(text)
        self._compiled: Any = None
        self._strikes = 0

    def match(self, subject: str, budget: Budget | None = None) -> Mapping[str, str] | None:
        """What the groups captured, by number and by name (those that took part); None where it does not match.

        Bytes of *subject* that were no UTF-8 are question marks.

        Raises:
            Spent: *budget* is.
        """
        if not subject.startswith(self._prefix) or self._strikes >= STRIKES:
            return None
        if self._compiled is None:
            self._compiled = _compiled(self.text, ignores_case=self._ignores_case)
        if not subject.isascii():
            subject = subject.encode("utf-8", "replace").decode()
        found = self._found(subject, budget or Budget())
        if found is None:
            return None
        numbered = {str(number): text for number, text in enumerate(found.groups(), 1) if text is not None}
        return numbered | {name: text for name, text in found.groupdict().items() if text is not None}

    def _found(self, subject: str, budget: Budget) -> Any:
        if budget.left_s <= 0:
            log.warning("the patterns of one visit take too long", extra={"pattern": self.text})
            raise Spent
        began = perf_counter()
        try:
            return self._compiled(subject)
        except TimeoutError:
            self._strikes += 1
            log.warning("a rule's pattern takes too long", extra={"pattern": self.text, "strikes": self._strikes})
            return None
        finally:
            budget.left_s -= perf_counter() - began


def check(text: str) -> None:
    """Refuse a pattern that cannot be used here.

    Raises:
        InvalidError: it is badly written, too long or too large, or can be made to run for very long.
    """
    if len(text) > MAX_PATTERN:
        raise InvalidError("the pattern is too long", why=f"at most {MAX_PATTERN} characters, as we translate it")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InvalidError("the pattern is badly written", why="it is not UTF-8")
    try:
        matches = _compiled(text, ignores_case=False)
        if not getattr(matches, "is_linear", False):
            for probe in _PROBES:
                for end in ("", "!", "\n"):
                    matches(f"{literal_prefix(text)}{probe * 2000}{end}")
    except TimeoutError as cause:
        raise InvalidError(
            "the pattern could run for very long",
            why="it looks around or back, and repeats what can be matched in many ways",
            fix="write it without (?=…), (?!…) or \\1, or without a repetition inside a repetition",
        ) from cause


def literal_prefix(text: str) -> str:
    """What every match begins with: a cheap look before the pattern itself."""
    if "|" in text or _FLAGS.search(text):
        return ""
    text = text.removeprefix("^")
    end = next((place for place, letter in enumerate(text) if letter in _META), len(text))
    if end < len(text) and text[end] in "?*{":
        end -= 1
    return text[: max(end, 0)]


def _compiled(text: str, *, ignores_case: bool) -> Any:
    """A function: subject -> match object or None."""
    import re2  # noqa: PLC0415 -- sites without patterns need neither engine

    try:
        linear = re2.compile(text, _re2_options(ignores_case))
    except re2.error:
        return _backtracking(text, ignores_case=ignores_case)
    if linear.programsize * (linear.groups + 1) > RE2_STEPS:
        return _backtracking(text, ignores_case=ignores_case)
    return _Linear(linear)


class _Linear:
    is_linear = True
    __slots__ = ("_compiled",)

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def __call__(self, subject: str) -> Any:
        return self._compiled.fullmatch(subject)


def _backtracking(text: str, *, ignores_case: bool) -> Any:
    import regex  # noqa: PLC0415

    try:
        compiled = regex.compile(text, regex.IGNORECASE if ignores_case else 0)
    except (regex.error, ValueError, OverflowError, RecursionError) as cause:
        raise InvalidError("the pattern is badly written", why=str(cause)) from cause
    return lambda subject: compiled.fullmatch(subject, timeout=LIMIT_S)


@cache
def _re2_options(ignores_case: bool) -> Any:
    import re2  # noqa: PLC0415

    options = re2.Options()
    options.max_mem = RE2_MEMORY
    options.log_errors = False
    options.case_sensitive = not ignores_case
    return options
