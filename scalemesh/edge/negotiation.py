"""Reads Accept-Encoding (RFC 9110, 12.5.3): which of the variants at hand the visitor likes best."""

import re
from collections.abc import Mapping
from typing import Final

from scalemesh.values import Blob

MAX_ITEMS: Final = 32  #: what stands behind them is not read

_ITEM: Final = re.compile(
    r"[ \t]*([\w!#$%&'*+.^`|~-]+)[ \t]*(?:;[ \t]*q[ \t]*=[ \t]*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?",
    re.IGNORECASE | re.ASCII,
)
_SAME: Final = {"x-gzip": "gzip"}  # RFC 9110, 8.4.1.3


def preferred(header: str | None, offered: Mapping[str, Blob]) -> str | None:
    """The coding to send, or None for the bytes as they are.

    The highest quality value wins, and of equal ones the fewest bytes. Where a visitor refuses everything, the bytes as
    they are go out all the same: an answer that can be read beats a 406.
    """
    if not header or not offered:
        return None
    asked = _qualities(header)
    any_other = asked.get("*", 0)
    _, _, best = max((asked.get(coding, any_other), -blob.size_bytes, coding) for coding, blob in offered.items())
    quality = asked.get(best, any_other)
    return best if quality and quality >= asked.get("identity", any_other) else None


def _qualities(header: str) -> dict[str, float]:
    """Coding -> quality, from 0 to 1; items that are badly written count as absent."""
    found: dict[str, float] = {}
    for item in header.split(",", MAX_ITEMS)[:MAX_ITEMS]:
        if match := _ITEM.fullmatch(item):
            coding = match[1].lower()
            found[_SAME.get(coding, coding)] = float(match[2] or 1)
    return found
