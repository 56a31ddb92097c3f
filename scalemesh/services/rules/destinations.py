"""Destinations of vercel.json (``/new/:name``, ``https://host/$1?a=:name#x``) as templates of the normal form."""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from scalemesh.errors import InvalidError

_SAFE: Final = "/~!'()*,;:@&=+?%[]#"
_PIECES: Final = re.compile(r"((?:https?:)?//[^/?#]*)?([^?#]*)(\?[^#]*)?(#.*)?", re.IGNORECASE | re.DOTALL)
_REFERENCE: Final = re.compile(
    r"\\(?P<escaped>[:(){}*+?\\])"
    r"|\{(?P<before>[^{}:]*):(?P<inner>[A-Za-z0-9_]+)(?P<after>[^{}:]*)\}[*+?]?"
    r"|:(?P<name>[A-Za-z0-9_]+)(?:\([^()]*\))?[*+?]?"
    r"|\$(?P<dollar>[A-Za-z0-9_]+)",
    re.ASCII,
)
_DOLLAR: Final = re.compile(r"\$(?:\{(\w+)\}|(\d+|[A-Za-z_]\w*))", re.ASCII)
_IN_HEADER: Final = re.compile(r":(?P<name>[A-Za-z0-9_]+)[*+?]?|\$(?P<dollar>[A-Za-z0-9_]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class References:
    """What a destination may refer to: how it is called there -> how it was captured."""

    groups: Mapping[str, str]  #: of the path: names, and numbers for what has none -> the number of the group
    conditions: frozenset[str] = frozenset()  #: names that ``has`` captures; they outweigh those of the path

    def find(self, name: str) -> str | None:
        return name if name in self.conditions else self.groups.get(name)

    @property
    def names(self) -> list[str]:
        """All that have a name, in their order."""
        named = [name for name in self.groups if not name.isdecimal()]
        return list(dict.fromkeys([*named, *sorted(self.conditions)]))


def redirect_template(destination: str, references: References) -> str:
    """Where a redirect leads.

    Raises:
        InvalidError: it refers to what nothing captures, or is neither a path nor an http URL.
    """
    origin, path, query, fragment = _pieces(destination, references)
    return origin + path + query + fragment


def rewrite_template(destination: str, references: References) -> str:
    """What a rewrite shows. Where no capture stands in path or host, those with a name go into the query.

    Raises:
        InvalidError: as for ``redirect_template``.
    """
    origin, path, query, fragment = _pieces(destination, references)
    used = {references.find(name) for name in references.names}
    if not any(f"${{{capture}}}" in origin + path + fragment for capture in used):
        own = {unquote(field.partition("=")[0]) for field in query[1:].split("&")}
        more = [f"{name}=${{{references.find(name)}}}" for name in references.names if name not in own]
        query = "?" + "&".join([*([query[1:]] if query[1:] else []), *more]) if more else query
    return origin + (path or "/") + (query if query != "?" else "")


def header_template(value: str, references: References) -> str:
    """The value of a header: what looks like a reference and is none stays as it is."""
    made, last = [], 0
    for found in _IN_HEADER.finditer(value):
        made.append(_kept(value[last : found.start()]))
        last = found.end()
        name = found["name"]
        capture = references.find(name) if name in references.names else _dollar(found["dollar"], references)
        made.append(f"${{{capture}}}" if capture else _kept(found[0]))
    return "".join([*made, _kept(value[last:])])


def route_template(text: str, captures: Container[str], *, is_address: bool) -> str:
    """``$1`` and ``$name`` of a route, where *captures* has them; everything else is meant as it stands."""
    text = f"https:{text}" if is_address and text.startswith("//") else text
    made, last = [], 0
    literal = _literal if is_address else _kept
    for found in _DOLLAR.finditer(text):
        made.append(literal(text[last : found.start()]))
        last = found.end()
        name = found[1] or found[2]
        made.append(f"${{{name}}}" if name in captures else literal(found[0]))
    filled = "".join([*made, literal(text[last:])])
    is_bare = is_address and text and not re.match(r"https?://|/", text, re.IGNORECASE)
    return f"/{filled}" if is_bare else filled  # what a visitor sends can begin a path, and no URL


def _kept(text: str) -> str:
    return text.replace("$", "$$")


def _pieces(destination: str, references: References) -> tuple[str, str, str, str]:
    found = _PIECES.fullmatch(destination)
    origin, path, query, fragment = (part or "" for part in found.groups()) if found else ("", "", "", "")
    if origin.startswith("//"):
        origin = f"https:{origin}"
    if not origin and not path.startswith(("/", ":", "$", "{", "?", "#")) and (path or not query + fragment):
        raise InvalidError("`destination` is no path and no URL", fix='begin it with "/", "https://" or "http://"')
    if not origin and not path.startswith("/"):
        path = f"/{path}"  # what a visitor sends can begin a path, and no URL
    scheme, slashes, authority = origin.partition("//")
    host, colon, port = authority.rpartition(":") if re.search(r":\d+$", authority) else (authority, "", "")
    return (
        f"{scheme}{slashes}{_filled(host, references)}{colon}{port}",
        _filled(path, references),
        _filled(query, references),
        _filled(fragment, references, strict=False),
    )


def _filled(text: str, references: References, *, strict: bool = True) -> str:
    """*text* with each reference as ``${…}``; with *strict* one to nothing is refused, else it is text."""
    made, last = [], 0
    for found in _REFERENCE.finditer(text):
        made.append(_literal(text[last : found.start()]))
        last = found.end()
        made.append(_reference(found, references, strict=strict))
    return "".join([*made, _literal(text[last:])])


def _reference(found: re.Match[str], references: References, *, strict: bool) -> str:
    if found["escaped"]:
        return _literal(found["escaped"])
    if found["dollar"]:
        capture = _dollar(found["dollar"], references)
        return f"${{{capture}}}" if capture else _literal(found[0])
    name = found["inner"] or found["name"]
    capture = references.find(name)
    if capture is not None:
        return f"{_literal(found['before'] or '')}${{{capture}}}{_literal(found['after'] or '')}"
    if strict:
        why = f'":{name}" stands in `destination`, but neither in `source` nor in `has`'
        raise InvalidError("`destination` refers to nothing", why=why, fix=f"write \\\\:{name} for the text itself")
    return _literal(found[0])


def _dollar(name: str | None, references: References) -> str | None:
    """What ``$name`` means: a group by its number, or what ``has`` captured."""
    if name is None or not (name in references.groups.values() or name in references.conditions):
        return None
    return name


def _literal(text: str) -> str:
    """*text* as it may stand in an address."""
    return quote(text, safe=_SAFE + "$").replace("$", "$$")
