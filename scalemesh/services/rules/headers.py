"""Headers that a rule sets, whatever its dialect: which of them can be set, and to what."""

import re
from typing import Final

from scalemesh.errors import InvalidError
from scalemesh.rules import NEVER_SET

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_UNFIT: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def is_name(text: str) -> bool:
    """Whether *text* can be the name of a header."""
    return _NAME.fullmatch(text) is not None


def check_header(name: str, value: str) -> None:
    """Refuse a header that no rule can set.

    Raises:
        InvalidError: the name is none, or is for us alone to set; or the value would end the line.
    """
    if not is_name(name):
        raise InvalidError(f"{name[:80]!r} is no name of a header", fix="write letters, digits and hyphens")
    if name.lower() in NEVER_SET:
        raise InvalidError(f"{name} is not for a rule to set", why="it says how an answer is sent", fix="remove it")
    if _UNFIT.search(value):
        raise InvalidError(f"the value of {name} holds a control character", fix="write it on one line")
