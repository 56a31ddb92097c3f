"""Turns the colour sequences (SGR) of a log line into spans of CSS classes. static/sgr.js does the same live."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

ESCAPE: Final = re.compile(r"\x1b\[([0-9;:]*)m")
FLAGS: Final = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike"}
ENDS: Final = {22: ("bold", "dim"), 23: ("italic",), 24: ("underline",), 27: ("inverse",), 29: ("strike",)}
MAX_CODES: Final = 32  #: in one sequence; more is no colour, but noise


@dataclass(frozen=True, slots=True)
class Look:
    """How text looks: colours 0 to 15 of a terminal, or None for the page's own, and flags."""

    f: int | None = None
    b: int | None = None
    flags: frozenset[str] = frozenset()

    @property
    def classes(self) -> str:
        colours = [f"{name}{value}" for name, value in (("f", self.f), ("b", self.b)) if value is not None]
        return " ".join([*colours, *sorted(self.flags)])


def plain(text: str) -> str:
    """*text* without its colour sequences."""
    return ESCAPE.sub("", text)


def spans(text: str) -> Iterator[tuple[str, str]]:
    """(CSS classes, text) of each stretch of *text* that looks the same; the classes may be empty."""
    look = Look()
    parts = ESCAPE.split(text)
    for index, part in enumerate(parts):
        if index % 2:
            look = _after(look, [int(code or 0) for code in re.split("[;:]", part)[:MAX_CODES] if len(code) < 4])
        elif part:
            yield look.classes, part


def _after(look: Look, codes: list[int]) -> Look:
    rest = iter(codes)
    for code in rest:
        if code in (38, 48):
            colour = _extended(rest)
            look = replace(look, f=colour) if code == 38 else replace(look, b=colour)
        else:
            look = _simple(look, code)
    return look


def _simple(look: Look, code: int) -> Look:
    if code == 0:
        return Look()
    if code in FLAGS:
        return replace(look, flags=look.flags | {FLAGS[code]})
    if code in ENDS:
        return replace(look, flags=look.flags - set(ENDS[code]))
    for first, shift in ((30, 0), (90, 8)):
        if first <= code < first + 8:
            return replace(look, f=code - first + shift)
        if first + 10 <= code < first + 18:
            return replace(look, b=code - first - 10 + shift)
    return replace(look, f=None) if code == 39 else replace(look, b=None) if code == 49 else look


def _extended(rest: Iterable[int]) -> int | None:
    """The nearest of our 16 to ``5;n`` or ``2;r;g;b``: the page's own keep their contrast in both themes."""
    codes = iter(rest)
    kind = next(codes, None)
    if kind == 5:
        return _of_256(next(codes, 0))
    if kind == 2:
        return _nearest(next(codes, 0), next(codes, 0), next(codes, 0))
    return None


def _of_256(number: int) -> int:
    if number < 16:
        return number
    if number >= 232:
        grey = (number - 232) * 10 + 8
        return _nearest(grey, grey, grey)
    cube = number - 16
    return _nearest(*(level * 40 + 55 * (level > 0) for level in (cube // 36, cube // 6 % 6, cube % 6)))


def _nearest(red: int, green: int, blue: int) -> int:
    high, low = max(red, green, blue), min(red, green, blue)
    if high - low < 48:
        return (0, 8, 7, 15)[min(high // 64, 3)]
    half = (high + low) // 2
    return (red > half) + 2 * (green > half) + 4 * (blue > half) + 8 * (high > 215)
