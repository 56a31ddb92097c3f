"""Reads back the tables that we keep as JSON, with nothing believed: each check returns what it checked."""

import json
import re
from typing import Any, Final

from scalemesh.errors import InvalidError
from scalemesh.values import DeploymentId, Digest

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_DEPLOYMENT: Final = re.compile(r"dpl_[a-z0-9]{1,60}")


def document(data: bytes, *, most_bytes: int, keys: frozenset[str], version: int) -> dict[str, Any]:
    """The object of format *version* that *data* holds, with exactly *keys*.

    Raises:
        InvalidError: it is longer than *most_bytes*, no JSON, or another document.
    """
    if len(data) > most_bytes:
        raise InvalidError(f"longer than {most_bytes} bytes")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as cause:
        raise InvalidError(f"no JSON: {cause}") from cause
    if type(found) is not dict or found.keys() != keys or found["v"] != version:
        raise InvalidError(f"no document of format {version}")
    return found


def digest(value: Any) -> Digest:
    """A SHA-256 in 64 lower-case hex digits."""
    return Digest(matching(_DIGEST, value))


def deployment(value: Any) -> DeploymentId:
    """A deployment's id."""
    return DeploymentId(matching(_DEPLOYMENT, value))


def number(value: Any, below: int = 1 << 53) -> int:
    """An integer from 0 up to, not including, *below*."""
    if type(value) is not int or not 0 <= value < below:
        raise InvalidError(f"{str(value)[:80]!r} is no number below {below}")
    return value


def matching(pattern: re.Pattern[str], value: Any) -> str:
    """A text that *pattern* matches whole."""
    if type(value) is not str or not pattern.fullmatch(value):
        raise InvalidError(f"{str(value)[:80]!r} is not what stands here", why=f"expected {pattern.pattern}")
    return value


def items(value: Any, most: int) -> list[Any]:
    """A list of at most *most*."""
    if type(value) is not list or len(value) > most:
        raise InvalidError(f"expected a list of at most {most}")
    return value


def row(value: Any, length: int) -> list[Any]:
    """A list of exactly *length*."""
    if type(value) is not list or len(value) != length:
        raise InvalidError(f"expected a row of {length}")
    return value
