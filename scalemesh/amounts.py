"""Bytes as people read them."""

from typing import Final

UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")


def size(count: int) -> str:
    """``1.5 GB``: powers of 1000, two or three digits."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or value >= 99.5 else 1
    return f"{value:.{digits}f} {UNITS[unit]}"
