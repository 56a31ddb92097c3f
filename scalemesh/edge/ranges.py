"""Reads a Range header (RFC 9110, 14): spans of bytes, or nothing that we follow."""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

MAX_SPANS: Final = 32  #: more of them, and the whole file is the cheaper answer for both sides
NEAR_BYTES: Final = 128  #: spans closer than this are joined: the head of a part is as long

_UNIT: Final = "bytes="
_LONGEST: Final = len(_UNIT) + MAX_SPANS * 40
_ONE: Final = re.compile(r"([0-9]{0,18})-([0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Span:
    """From *start* up to, not including, *stop*; never empty."""

    start: int
    stop: int


class Unsatisfiable(Exception):  # noqa: N818  an answer (416), not a mistake of ours
    """The ranges are well written and hold no byte of the file."""


def asked_spans(header: str, size_bytes: int) -> tuple[Span, ...]:
    """The bytes that *header* asks for, or nothing: then the whole file is the right answer.

    That is so for another unit, too many ranges, what is badly written, and an empty file (some clients send a
    Range with everything to bound an answer, and an empty file cannot pass any bound). Ranges that overlap or nearly
    touch are joined, in the order of the file; others keep the order in which they were asked for.

    Raises:
        Unsatisfiable: all of them begin past the end, or ask for the last 0 bytes.
    """
    header = header.strip()
    if size_bytes == 0 or len(header) > _LONGEST or header[: len(_UNIT)].lower() != _UNIT:
        return ()
    written = [item for part in header[len(_UNIT) :].split(",") if (item := part.strip(" \t"))]
    if not 0 < len(written) <= MAX_SPANS:
        return ()
    found = [_ONE.fullmatch(item) for item in written]
    bounds = [(match[1], match[2]) for match in found if match]
    if len(bounds) < len(found) or not all(_is_right(first, last) for first, last in bounds):
        return ()
    spans = [span for first, last in bounds if (span := _span(first, last, size_bytes))]
    if not spans:
        raise Unsatisfiable
    return _joined(spans)


def _is_right(first: str, last: str) -> bool:
    return bool(first or last) and not (first and last and int(last) < int(first))


def _span(first: str, last: str, size_bytes: int) -> Span | None:
    if not first:
        start, stop = max(0, size_bytes - int(last)), size_bytes
    else:
        start, stop = int(first), min(size_bytes, int(last) + 1 if last else size_bytes)
    return Span(start, stop) if start < stop else None


def _joined(spans: list[Span]) -> tuple[Span, ...]:
    in_order = sorted(spans, key=lambda span: span.start)
    if all(later.start - earlier.stop > NEAR_BYTES for earlier, later in pairwise(in_order)):
        return tuple(spans)
    joined = in_order[:1]
    for span in in_order[1:]:
        if span.start - joined[-1].stop > NEAR_BYTES:
            joined.append(span)
        else:
            joined[-1] = Span(joined[-1].start, max(joined[-1].stop, span.stop))
    return tuple(joined)
