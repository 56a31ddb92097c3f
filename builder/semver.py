"""Enough of npm's version ranges to choose among installed releases.

Known: ``1.2.3``, ``1.x``, ``1``, ``*``, ``^``, ``~``, ``=``, ``<``, ``<=``, ``>``, ``>=``, ``1.2 - 1.4``, spaces for
"and", ``||`` for "or", a leading ``v``. Not known: prereleases (``-rc.1`` is ignored: no released Node has one) and
build metadata. A range that cannot be read is None, and the caller says so.
"""

import re
from collections.abc import Callable
from typing import Final

Version = tuple[int, int, int]
Range = Callable[[Version], bool]
_Span = tuple[Version, Version]  # from (included) up to (not included)

_END: Final[Version] = (1 << 30, 0, 0)
_START: Final[Version] = (0, 0, 0)
_PART: Final = r"v?(\d{1,9}|[xX*])(?:\.(\d{1,9}|[xX*]))?(?:\.(\d{1,9}|[xX*]))?(?:-[\w.-]+)?(?:\+[\w.-]+)?"
_COMPARATOR: Final = re.compile(rf"(\^|~>?|[<>]=?|=)?\s*{_PART}")
_HYPHEN: Final = re.compile(rf"\s*({_PART})\s+-\s+({_PART})\s*")


def parse_version(text: str) -> Version | None:
    """``v20.1.0`` or ``20.1.0`` as numbers; None for anything else."""
    match = re.fullmatch(r"v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})", text.strip())
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def parse_range(text: str) -> Range | None:
    """A test for *text*; None if it is not understood."""
    if len(text) > 500:
        return None
    alternatives = [_spans(part) for part in text.split("||")]
    known = [spans for spans in alternatives if spans is not None]
    if len(known) != len(alternatives):
        return None
    return lambda version: any(all(low <= version < high for low, high in spans) for spans in known)


def _spans(text: str) -> list[_Span] | None:
    if hyphen := _HYPHEN.fullmatch(text):
        low, high = _span("", hyphen[1]), _span("", hyphen[5])
        return [(low[0], high[1])] if low and high else None
    spans, at, text = [], 0, text.strip()
    while at < len(text):
        match = _COMPARATOR.match(text, at)
        if not match or (span := _span(match[1] or "", match[0][len(match[1] or "") :])) is None:
            return None
        spans.append(span)
        at = match.end()
        rest = text[at:].lstrip(" ,\t")
        if rest and len(rest) == len(text) - at:
            return None
        at = len(text) - len(rest)
    return spans


def _span(operator: str, text: str) -> _Span | None:
    match = re.fullmatch(rf"\s*{_PART}\s*", text)
    if not match:
        return None
    numbers: list[int] = []
    for part in match.groups():
        if part is None or not part.isdigit():
            break
        numbers.append(int(part))
    low: Version = (*numbers, 0, 0, 0)[:3]  # type: ignore[assignment]  # three of at least three
    high = _after(numbers, len(numbers))
    return {
        "": (low, high),
        "=": (low, high),
        ">=": (low, _END),
        "<": (_START, low),
        "<=": (_START, high),
        ">": (high, _END),
        "~": (low, _after(numbers, min(len(numbers), 2))),
        "~>": (low, _after(numbers, min(len(numbers), 2))),
        "^": (low, _caret(numbers)),
    }[operator]


def _after(numbers: list[int], kept: int) -> Version:
    """The first version beyond all that begin with the first *kept* numbers."""
    if not kept:
        return _END
    bumped = [*numbers[: kept - 1], numbers[kept - 1] + 1]
    return (*bumped, 0, 0, 0)[:3]  # type: ignore[return-value]  # three of at least three


def _caret(numbers: list[int]) -> Version:
    nonzero = next((at for at, number in enumerate(numbers) if number), len(numbers) - 1)
    return _after(numbers, nonzero + 1)
