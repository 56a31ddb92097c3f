"""Reads a request target (RFC 9112, 3.2) into a path and a query, once and strictly."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

MAX_TARGET: Final = 4096  #: characters of path and query; the longest path of a manifest fits, fully encoded

_PLAIN: Final = re.compile(r"/[A-Za-z0-9/._~-]*")
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PATH_SAFE: Final = "/~!$&'()*+,;=:@"
_QUERY_SAFE: Final = _PATH_SAFE + "?%[]"


class Malformed(Exception):  # noqa: N818  an answer (400), not a mistake of ours
    """The target is none that an honest client sends."""


class TooLong(Malformed):
    """It is longer than MAX_TARGET (414)."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a visit goes."""

    path: str  #: decoded, without the first slash; may end in one
    query: str  #: as it was sent, without the question mark

    @property
    def parts(self) -> list[str]:
        """What stands between the slashes."""
        return self.path.split("/")


def read_target(raw: str) -> Target:
    """Decode the target of a request in origin form (``/path?query``).

    Percent-decoded exactly once, as strict UTF-8: ``%2e`` is a dot and ``%2f`` a slash, ``%252e`` is not. A part
    ``.`` or ``..`` is refused: clients resolve those before they ask. A backslash is a character like others.

    Raises:
        Malformed: no origin form, a bad escape, bad or overlong UTF-8, a control character, or a dot part.
        TooLong: over MAX_TARGET.
    """
    if len(raw) > MAX_TARGET:
        raise TooLong("the address is too long")
    if _PLAIN.fullmatch(raw) and "/." not in raw:  # most are, and need no second look
        return Target(raw[1:], "")
    path, _, query = raw.partition("?")
    if not path.startswith("/") or "#" in raw or _CONTROL.search(raw) or _BAD_PERCENT.search(path):
        raise Malformed("the address is badly written")
    try:
        decoded = unquote_to_bytes(path.encode("utf-8", "surrogateescape")).decode()
        query.encode()
    except UnicodeError as cause:
        raise Malformed("the address is not UTF-8") from cause
    target = Target(decoded[1:], query)
    if _CONTROL.search(decoded) or not {".", ".."}.isdisjoint(target.parts):
        raise Malformed("the address climbs, or holds a control character")
    return target


def write_target(path: str, query: str) -> str:
    """A Location for *path* (decoded, without the first slash) on the same host, *query* passed on.

    Slashes in front are one slash: two would name another host.
    """
    location = "/" + quote(path.lstrip("/"), safe=_PATH_SAFE)
    return f"{location}?{quote(query, safe=_QUERY_SAFE)}" if query else location


def origin_form(raw: str) -> tuple[str, str | None]:
    """*raw* in origin form, and the authority that came with it where it was sent in absolute form."""
    if raw.startswith("/") or not raw.lower().startswith(("http://", "https://")):
        return raw, None
    try:
        parts = urlsplit(raw)
    except ValueError:
        return raw, None
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), parts.netloc
