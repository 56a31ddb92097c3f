"""Hide secrets in text: as they are, in base64 (at any offset), URL- or JSON-encoded, line by line. Pure.

Values shorter than MIN_SECRET_CHARS are not hidden: masking "1" or "true" would garble every log and tell which
letters they are. This is a net for accidents; a program that wants to leak a secret can always spell it backwards.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

from builder.cleaning import clean
from builder.protocol import MIN_SECRET_CHARS

MASK: Final = "***"


class Masker:
    """Knows the secrets of one build."""

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {needle for secret in secrets for needle in _needles(secret)}
        self._needles = sorted(found, key=len, reverse=True)
        self.longest = max(map(len, self._needles), default=0)  #: characters of the longest thing to hide

    def mask(self, text: str) -> str:
        """Return *text* with every secret in it replaced by ``***``; overlapping ones by one mask."""
        spans = self.spans(text)
        if not spans:
            return text
        parts: list[str] = []
        done = 0
        for start, stop in spans:
            parts += (text[done:start], MASK)
            done = stop
        return "".join((*parts, text[done:]))

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where the secrets of *text* stand, in order, overlapping and touching ones joined."""
        joined: list[tuple[int, int]] = []
        for start, stop in sorted(self._found(text)):
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
            else:
                joined.append((start, stop))
        return joined

    def safe_cut(self, text: str) -> int:
        """How much of the front of *text* may be shown before more text comes: no secret stands across the cut."""
        cut = max(0, len(text) - max(0, self.longest - 1))
        for start, stop in self.spans(text):
            if start < cut < stop:
                return stop  # the start could stay at 0 for ever, where secrets follow each other without a gap
        return cut

    def safe_start(self, text: str) -> int:
        """From where *text* may be shown when what stood before it is lost: no part of a torn secret is left."""
        start = min(len(text), self.longest)
        return next((stop for begin, stop in self.spans(text) if begin < start < stop), start)

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        for needle in self._needles:
            at = text.find(needle)
            while at >= 0:
                yield at, at + len(needle)
                at = text.find(needle, at + 1)


def _needles(secret: str) -> Iterator[str]:
    for value in {secret, secret.strip(), *re.split(r"[\r\n]+", secret)}:
        if len(value) >= MIN_SECRET_CHARS:
            yield from (form for form in _forms(value) if len(form) >= MIN_SECRET_CHARS and "\n" not in form)


def _forms(value: str) -> Iterator[str]:
    yield from (value, clean(value), json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])
    data = value.encode("utf-8", "surrogateescape")
    for encoded in (quote(data, safe=""), quote(data, safe="/"), quote_plus(data), quote(data, safe="!'()*")):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), encoded)
    for offset in range(3):
        yield from _base64_core(data, offset)


def _base64_core(data: bytes, offset: int) -> Iterator[str]:
    """The characters that *data* alone decides when *offset* bytes stand before it, in both alphabets."""
    first = -(-offset * 8 // 6)
    last = (offset + len(data)) * 8 // 6
    core = base64.b64encode(b"\0" * offset + data).decode()[first:last]
    yield core
    yield core.replace("+", "-").replace("/", "_")
