"""Why an answer has the headers that no rule set, and what its Cache-Control means: in words."""

import re
from collections.abc import Mapping
from typing import Final

_REASONS: Final[Mapping[str, str]] = {
    "accept-ranges": "parts of this file may be asked for",
    "allow": "what may be done here",
    "content-length": "bytes of the body",
    "content-encoding": "what the visitor takes, and what is smallest of it",
    "content-range": "which part of the file this is",
    "content-security-policy": "our own page loads nothing from anywhere",
    "content-type": "by the file's extension",
    "etag": "the digest of the bytes",
    "last-modified": "when the deployment was made",
    "location": "where a file has its proper address",
    "retry-after": "when to look again",
    "server": "who answers",
    "vary": "a cache keeps one answer for each value of these",
    "www-authenticate": "a name and a password are needed",
    "x-content-type-options": "no browser guesses another type",
    "x-robots-tag": "only a project's production is for search engines",
    "x-scalemesh-deployment": "which deployment answers",
}
_UNITS: Final = ((31536000, "year"), (86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def reason_of(name: str, value: str, *, is_made: bool) -> str:
    """Why Scale Mesh sends this header; *is_made*: the body is our own words, and no file."""
    name = name.lower()
    if name == "cache-control":
        return _reason_of_caching(value, is_made=is_made)
    if is_made and name == "content-type":
        return "our own page, in the form that was asked for"
    return _REASONS.get(name, "every answer has it")


def caching_in_words(control: str) -> str:
    """What browsers and caches do with an answer of this Cache-Control (RFC 9111, 5.2.2)."""
    parts = [part.strip().lower() for part in control.split(",") if part.strip()]
    found = dict(part.partition("=")[::2] for part in parts)
    if not found:
        return "Nothing is said: browsers and caches decide for themselves."
    if "no-store" in found:
        return "Nobody keeps it."
    who = "Only browsers keep it" if "private" in found else "Browsers and caches may keep it"
    shared = _seconds(found.get("s-maxage"))
    between = f"; caches between for {_span(shared)}" if shared and "private" not in found else ""
    age_s = _seconds(found.get("max-age"))
    if "no-cache" in found or age_s == 0:
        return f"{who}, and ask each time whether it still holds{between}."
    if age_s is None:
        return f"{who}, for as long as they see fit{between}."
    return f"{who} for {_span(age_s)}{', and never ask' if 'immutable' in found else ''}{between}."


def _reason_of_caching(value: str, *, is_made: bool) -> str:
    if "no-store" in value:
        return "our own page, for now only" if is_made else "this page stands for something that is missing"
    if "immutable" in value:
        return "a hash of the content is part of the file's name"
    return "the next deployment may say something else under this address"


def _seconds(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,12}", text) else None


def _span(seconds: int) -> str:
    """The largest unit that fits evenly, so that nothing is rounded."""
    size, unit = next((each for each in _UNITS if seconds >= each[0] and seconds % each[0] == 0), _UNITS[-1])
    count = seconds // size
    return f"{count} {unit}{'' if count == 1 else 's'}"
