"""Reads a Range header (RFC 9110, 14): one range of bytes, or nothing that we follow."""

import re
from dataclasses import dataclass
from typing import Final

_ONE: Final = re.compile(r"bytes=[ \t,]*([0-9]{0,18})-([0-9]{0,18})[ \t,]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """From *start* up to, not including, *stop*; never empty."""

    start: int
    stop: int


class Unsatisfiable(Exception):  # noqa: N818  an answer (416), not a mistake of ours
    """The range is well written and holds no byte of the file."""


def asked_span(header: str, size_bytes: int) -> Span | None:
    """The bytes that *header* asks for, or None: then the whole file is the right answer.

    That is so for another unit, several ranges, what is badly written, and an empty file (some clients send a
    Range with everything to bound an answer, and an empty file cannot pass any bound).

    Raises:
        Unsatisfiable: it begins past the end, or asks for the last 0 bytes.
    """
    found = _ONE.fullmatch(header.strip())
    if found is None or size_bytes == 0 or found[1] == found[2] == "":
        return None
    if not found[1]:
        return _last(int(found[2]), size_bytes)
    start = int(found[1])
    stop = int(found[2]) + 1 if found[2] else size_bytes
    if stop <= start and found[2]:
        return None
    if start >= size_bytes:
        raise Unsatisfiable
    return Span(start, min(stop, size_bytes))


def _last(count: int, size_bytes: int) -> Span:
    if count == 0:
        raise Unsatisfiable
    return Span(max(0, size_bytes - count), size_bytes)
