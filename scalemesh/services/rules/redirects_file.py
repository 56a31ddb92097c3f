"""The lines of ``_redirects``, as Netlify and as Cloudflare Pages read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from scalemesh.rules import Place
from scalemesh.services.rules.notebook import Unfit

SYNTAX: Final = "from [key=value ...] to [status[!]] [Condition=value,...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirection:
    """One redirect or rewrite as its author wrote it, from a line or a table of netlify.toml."""

    place: Place
    source: str
    target: str | None = None
    status: int | None = None
    forced: bool = False
    query: Mapping[str, str] = field(default_factory=dict)
    conditions: Mapping[str, Sequence[str]] = field(default_factory=dict)  #: names in lower case
    request_headers: Mapping[str, str] = field(default_factory=dict)


def netlify_line(place: Place, text: str) -> Redirection:
    """A line of Netlify's.

    Raises:
        Unfit: it has no target or a status that is none.
    """
    source, *words = _without_comment(text.split())
    if not words:
        raise Unfit("the line has neither a target nor a status.", SYNTAX)
    at = 0 if _status(words[0]) else next((number for number, word in enumerate(words) if _is_target(word)), -1)
    if at < 0:
        raise Unfit("the line has no target: a path that begins with /, or a URL of http or https.", SYNTAX)
    has_target = not _status(words[at])
    query, rest = words[:at], words[at + has_target :]
    status = _status(rest[0]) if rest else None
    if rest and status is None:
        raise Unfit(f"{rest[0][:40]!r} is no status.", SYNTAX)
    return Redirection(
        place=place,
        source=source,
        target=words[at] if has_target else None,
        status=status,
        forced=bool(rest) and rest[0].endswith("!"),
        query=_pairs(query),
        conditions={name.lower(): value.split(",") for name, value in _pairs(rest[1:]).items()},
    )


def cloudflare_line(place: Place, text: str) -> Redirection:
    """A line of Cloudflare's: from, to, and perhaps a status.

    Raises:
        Unfit: it is anything else.
    """
    words = text.split()
    if not 2 <= len(words) <= 3:
        raise Unfit(f"a line has two or three words, and this one {len(words)}.", "from to [status]")
    status = 302
    if len(words) == 3:
        if words[2] not in CLOUDFLARE_STATUSES:
            raise Unfit(f"{words[2][:40]!r} is no status here.", "200, 301, 302, 303, 307 or 308")
        status = int(words[2])
    return Redirection(place=place, source=words[0], target=words[1], status=status)


CLOUDFLARE_STATUSES: Final = frozenset({"200", "301", "302", "303", "307", "308"})


def _without_comment(words: list[str]) -> list[str]:
    """``#`` begins a comment where a word begins with it: that of a fragment does not."""
    at = next((number for number, word in enumerate(words) if word.startswith("#")), len(words))
    return words[:at]


def _status(word: str) -> int | None:
    digits = word.removesuffix("!")
    return int(digits) if len(digits) == 3 and digits.isascii() and digits.isdigit() and digits[0] != "0" else None


def _is_target(word: str) -> bool:
    return word.startswith(("/", "http://", "https://"))


def _pairs(words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise Unfit(f"{word[:40]!r} is not written as name=value.", SYNTAX)
        if name in found:
            raise Unfit(f"{name[:40]!r} stands there twice.", "each name once")
        found[name] = value
    return found
