"""Paths with placeholders and splats, made into patterns; targets with them, made into templates."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from scalemesh.errors import InvalidError
from scalemesh.patterns import check
from scalemesh.services.rules.notebook import Unfit

NAME: Final = re.compile(r":([A-Za-z_]\w*)", re.ASCII)
SPLAT: Final = "splat"
MAX_NAMES: Final = 50  #: of one path
_META: Final = re.compile(r"[\\^$.|?*+()\[\]{}]")
_PIECES: Final = re.compile(r"(\*|:[A-Za-z_]\w*)", re.ASCII)
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f]")
_LONE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_URL_SAFE: Final = "/%:?#[]@!$&'()*+,;=~"
_AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a rule matches: one path, or a pattern with what it captures."""

    path: str = ""
    pattern: str = ""
    names: frozenset[str] = frozenset()


def netlify_source(written: str) -> Source:
    """Of a redirect: ``:name`` is one segment, ``*`` at the end is ``splat``; a slash at the end makes no difference.

    Raises:
        Unfit: it cannot be used.
    """
    body, star, behind = written.partition("*")
    if behind:
        raise Unfit("* stands in the middle of a path.", "a placeholder such as :name there, and * only at the end")
    names = [found[1] for part in body.split("/") if (found := NAME.fullmatch(part))]
    if not star and not names:
        return Source(path=_decoded(body))
    parts = "/".join(_netlify_part(part) for part in body.split("/"))
    if not star:
        return _checked(f"{parts.rstrip('/')}/?", names)
    is_whole = body.endswith("/") and body != "/"
    ending = f"(?:/(?P<{SPLAT}>.*))?" if is_whole else f"(?P<{SPLAT}>.*)"
    return _checked((parts.removesuffix("/") if is_whole else parts) + ending, [*names, SPLAT])


def netlify_header_source(written: str) -> Source:
    """Of a header rule: ``*`` may stand anywhere, at the end of a folder also for the folder itself."""
    parts = [part for part in written.split("/") if part]
    ends_open = bool(parts) and parts[-1] == "*"
    middle = "".join(f"/{_header_part(part)}" for part in (parts[:-1] if ends_open else parts))
    return _checked(f"{middle}(?:/.*)?" if ends_open else f"{middle}/?", [])


def cloudflare_source(written: str) -> Source:
    """``:name`` is one segment or a part of one, wherever it stands; one ``*`` anywhere is ``splat``."""
    pieces = _PIECES.split(written)
    names = [SPLAT if piece == "*" else piece[1:] for piece in pieces[1::2]]
    if not names:
        return Source(path=_decoded(written))
    if names.count(SPLAT) > 1:
        raise Unfit("it has more than one splat.", "one *, and placeholders such as :name for the rest")
    literals = [_literal(piece) for piece in pieces[::2]]
    groups = ["(?P<splat>.*)" if name == SPLAT else f"(?P<{name}>[^/]+)" for name in names]
    return _checked("".join(_interleaved(literals, groups)), names)


def template_of(target: str, names: Iterable[str]) -> str:
    """*target* of a redirect or rewrite as a template, percent-encoded where it has to be.

    Raises:
        Unfit: it is neither a path nor a URL of http or https, or a visitor would choose its host.
    """
    if target.startswith(("//", "/\\")):
        raise Unfit("the target begins with two slashes.", "https:// before a host, or one slash before a path")
    if not target.startswith("/"):
        target = _checked_url(target)
    written = quote(_LONE_PERCENT.sub("%25", target), safe=_URL_SAFE, errors="replace")
    return _filled_in(written, frozenset(names))


def value_template(value: str, names: Iterable[str]) -> str:
    """The value of a header as a template."""
    return _filled_in(value, frozenset(names))


def unknown_names(target: str, names: Iterable[str]) -> list[str]:
    """Placeholders of *target* that are a whole segment of its path and that nothing captures."""
    path = re.sub(r"^https?://[^/]*", "", target.partition("?")[0].partition("#")[0])
    return [found[1] for part in path.split("/") if (found := NAME.fullmatch(part)) and found[1] not in names]


def _filled_in(text: str, names: frozenset[str]) -> str:
    def reference(found: "re.Match[str]") -> str:
        return f"${{{found[1]}}}" if found[1] in names else found[0]

    return NAME.sub(reference, text.replace("$", "$$"))


def _checked_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in ("http", "https"):
        raise Unfit(f"{url[:80]!r} is no target.", "a path that begins with /, or a URL of http or https")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" not in authority and (NAME.search(authority) or "*" in authority):
        raise Unfit("a placeholder stands in the host of the target: visitors would choose it.", "the host in full")
    try:
        host = authority if authority.isascii() else authority.encode("idna").decode()
        port = urlsplit(f"//{host}").port
    except ValueError:
        host, port = "", None
    if not _AUTHORITY.fullmatch(host) or port == 0:
        raise Unfit(f"{authority[:80]!r} is no host.", "a host name, perhaps with a port, and no password")
    return f"{scheme.lower()}://{host}{rest[len(authority) :]}"


def _decoded(text: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeError:
        decoded = "\0"
    if _UNFIT.search(decoded):
        raise Unfit("the path is not UTF-8, or holds a control character.", "the path as it is shown in a browser")
    return decoded


def _literal(text: str) -> str:
    return _META.sub(lambda found: f"\\{found[0]}", _decoded(text))


def _netlify_part(part: str) -> str:
    found = NAME.fullmatch(part)
    return f"(?P<{found[1]}>[^/]+)" if found else _literal(part)


def _header_part(part: str) -> str:
    return "[^/]+" if part.startswith(":") else ".*".join(_literal(piece) for piece in part.split("*"))


def _interleaved(first: list[str], second: list[str]) -> list[str]:
    longer = [*second, ""]
    return [piece for pair in zip(first, longer, strict=True) for piece in pair]


def _checked(pattern: str, names: list[str]) -> Source:
    if len(set(names)) < len(names):
        raise Unfit("a placeholder stands there twice.", "a name of its own for each placeholder")
    if len(names) > MAX_NAMES:
        raise Unfit(f"it has more than {MAX_NAMES} placeholders.")
    try:
        check(pattern)
    except InvalidError as error:
        raise Unfit(f"the path cannot be used: {error}.") from error
    return Source(pattern=pattern, names=frozenset(names))
