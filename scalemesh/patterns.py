"""Regular expressions that strangers write, matched in bounded time.

RE2 takes time linear in its text, times the size of the pattern. What it does not know (looking around, references
back), or what is too large for that to be short, goes to a backtracking engine under a time limit. Past it nobody
knows whether the pattern matches, so the visit ends; a pattern that passes it again and again gets less time, but is
never taken not to match. A ``Budget`` bounds what all rules of a visit may take together.
"""

import logging
import re
from collections.abc import Mapping
from functools import cache
from time import perf_counter, thread_time
from typing import Any, Final

from scalemesh.errors import InvalidError

log = logging.getLogger(__name__)
MAX_PATTERN: Final = 8192  #: characters; the longest source that Vercel allows, translated
RE2_MEMORY: Final = 512 * 1024  #: bytes for one pattern's machines; one that needs more is not RE2's
RE2_STEPS: Final = 1000  #: instructions for each group and the whole; about 25 ns each, for each letter of a text
LIMIT_S: Final = 0.005  #: for one match by backtracking
STRIKES: Final = 3  #: so often over the limit, and the pattern has the shorter one
SHORT_S: Final = 0.0005  #: for one match of such a pattern
BUDGET_S: Final = 0.05  #: for all patterns of one visit
RULES_S: Final = 0.25  #: of the processor, for all rules of one visit
MOST_FILLED: Final = 64 * 1024  #: characters that what was captured may fill in for one visit
_FLAGS: Final = re.compile(r"\(\?[a-zA-Z0-9-]*\)")  #: such as (?i), which may hold for what stands before it
_META: Final = frozenset("\\^$.|?*+()[]{}")
_PROBES: Final = ("a", "/", "a/", "-", "0", ".", " ", "é")


class Spent(Exception):  # noqa: N818  an answer (503), not a mistake of ours
    """The rules of a visit take too much. To go on as if a pattern did not match could let somebody in."""


class Budget:
    """What all rules of one visit may take together: time, and room for what was captured."""

    __slots__ = ("_until_s", "left_s", "letters")

    def __init__(self, left_s: float = BUDGET_S) -> None:
        self.left_s = left_s
        self.letters = MOST_FILLED
        self._until_s = 0.0

    def go_on(self) -> None:
        """Look at the time, now and then while rules are tried.

        Raises:
            Spent: RULES_S have passed since the first look.
        """
        now_s = thread_time()  # of this thread alone: that others use the processor is no rule's fault
        self._until_s = self._until_s or now_s + RULES_S
        if now_s > self._until_s:
            log.warning("the rules of one visit take too long")
            raise Spent

    def excuse(self, seconds: float) -> None:
        """Do not count what is done once, and not for each visit."""
        if self._until_s:
            self._until_s += seconds

    def fill(self, letters: int) -> None:
        """Take room for *letters* of what was captured.

        Raises:
            Spent: there is none left.
        """
        self.letters -= letters
        if self.letters < 0:
            log.warning("the rules of one visit fill in too much")
            raise Spent


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
            Spent: *budget* is, or the pattern takes too long to say.
        """
        if not subject.startswith(self._prefix):
            return None
        budget = budget or Budget()
        if self._compiled is None:
            began_s = thread_time()
            self._compiled = _compiled(self.text, ignores_case=self._ignores_case)
            budget.excuse(thread_time() - began_s)
        if not subject.isascii():
            subject = subject.encode("utf-8", "replace").decode()
        found = self._found(subject, budget)
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
            return self._compiled(subject, LIMIT_S if self._strikes < STRIKES else SHORT_S)
        except TimeoutError as cause:
            self._strikes += 1
            if self._strikes <= STRIKES:
                log.warning("a rule's pattern takes too long", extra={"pattern": self.text, "strikes": self._strikes})
            raise Spent from cause
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
                    matches(f"{literal_prefix(text)}{probe * 2000}{end}", LIMIT_S)
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
    """A function: subject, limit in seconds -> match object or None; TimeoutError past the limit."""
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

    def __call__(self, subject: str, _limit_s: float) -> Any:
        return self._compiled.fullmatch(subject)


def _backtracking(text: str, *, ignores_case: bool) -> Any:
    import regex  # noqa: PLC0415

    try:
        compiled = regex.compile(text, regex.IGNORECASE if ignores_case else 0)
    except (regex.error, ValueError, OverflowError, RecursionError) as cause:
        raise InvalidError("the pattern is badly written", why=str(cause)) from cause
    return lambda subject, limit_s: compiled.fullmatch(subject, timeout=limit_s)


@cache
def _re2_options(ignores_case: bool) -> Any:
    import re2  # noqa: PLC0415

    options = re2.Options()
    options.max_mem = RE2_MEMORY
    options.log_errors = False
    options.case_sensitive = not ignores_case
    return options
