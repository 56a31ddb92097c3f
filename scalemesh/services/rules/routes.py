"""Routes: the list that Vercel's own router runs, from a Build Output API config.json, or from an old vercel.json."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from scalemesh.errors import InvalidError
from scalemesh.patterns import check
from scalemesh.rules import HeaderChange, Place, Rule
from scalemesh.services.rules.conditions import captured_names, read_conditions
from scalemesh.services.rules.destinations import route_template
from scalemesh.services.rules.headers import check_header
from scalemesh.services.rules.json_lines import Document
from scalemesh.services.rules.notes import Note, note_of

MOST_ROUTES: Final = 10_000
MOST_HEADERS: Final = 1024
MAX_TEXT: Final = 4096  #: characters of src and dest
MAX_VALUE: Final = 32_768  #: of a header
PHASES: Final = ("filesystem", "miss", "rewrite", "resource", "hit", "error")
_ALIASES: Final = {"source": "src", "destination": "dest", "statusCode": "status"}
_KNOWN: Final = frozenset(
    {
        *("src", "dest", "headers", "status", "methods", "continue", "caseSensitive", "check", "has", "missing"),
        *("important", "override", "respectOriginCacheControl"),
    }
)
#: What another part of Vercel would have to run; a route that is nothing without it is left out.
_NOT_SERVED: Final = {
    "middlewarePath": "middleware is not run here",
    "middlewareRawSrc": "middleware is not run here",
    "middleware": "middleware is not run here",
    "locale": "languages are not told apart here",
    "transforms": "headers and queries are not transformed",
    "mitigate": "visitors are not challenged",
    "env": "values of the environment are not filled in",
}
_LITERAL: Final = re.compile(r"(?:[^\\^$.|?*+()\[\]{}]|\\[/.\-])+")
_GROUP_NAMES: Final = re.compile(r"\(\?P?<([A-Za-z_]\w*)>", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """Rules by the time at which they are tried."""

    first: tuple[Rule, ...] = ()
    missed: tuple[Rule, ...] = ()
    found: tuple[Rule, ...] = ()
    failed: tuple[Rule, ...] = ()


def read_routes(document: Document) -> tuple[Routes, list[Note]]:
    """The routes of *document*, and what is wrong with them; those that are refused are among the notes."""
    listed = document.values.get("routes")
    if listed is None:
        return Routes(), []
    if not isinstance(listed, list) or len(listed) > MOST_ROUTES:
        what = f"`routes` is no list of at most {MOST_ROUTES:,} items."
        return Routes(), [Note(place=document.place("routes"), what=what, effect="refused")]
    reading = _Reading()
    for number, item in enumerate(listed):
        reading.take(item, document.item_place("routes", number))
    return reading.routes(), reading.notes


def on_this_site(to: str) -> str:
    """*to* as it is used: of a path of this site the query is for functions, and nothing reads it here."""
    return to if re.match(r"https?://", to, re.IGNORECASE) else to.partition("#")[0].partition("?")[0] or "/"


class _Captures:
    """What a route may refer to: any number, and the names that it captures."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name.isdecimal() or name in self._names)


class _Reading:
    def __init__(self) -> None:
        self.notes: list[Note] = []
        self._phase = ""
        self._rules: dict[str, list[Rule]] = {phase: [] for phase in ("", *PHASES)}
        self._begun: set[str] = set()

    def routes(self) -> Routes:
        rules = self._rules
        missed = (*rules["miss"], *rules["filesystem"], *rules["rewrite"], *rules["resource"])
        return Routes(first=tuple(rules[""]), missed=missed, found=tuple(rules["hit"]), failed=tuple(rules["error"]))

    def take(self, item: Any, place: Place) -> None:
        """One item: a route, or the phase to which those behind it belong."""
        try:
            if not isinstance(item, dict):
                raise InvalidError("a route is no object", fix='write { "src": "…" }')
            if "handle" in item:
                self._enter(item["handle"])
                return
            route: dict[str, Any] = {_ALIASES.get(str(key), str(key)): value for key, value in item.items()}
            if self._is_served(route, place):
                rule = self._rule(route, place)
                self._rules[self._phase].append(rule)
        except InvalidError as error:
            self.notes.append(note_of(error, place, "refused"))

    def _enter(self, phase: Any) -> None:
        if phase not in PHASES:
            raise InvalidError(f"`handle` is {str(phase)[:80]!r}", fix=f"write one of {', '.join(PHASES)}")
        if phase in self._begun:
            raise InvalidError(f'`"handle": "{phase}"` stands there twice', fix="put its routes together")
        self._begun.add(phase)
        self._phase = phase

    def _is_served(self, route: Mapping[str, Any], place: Place) -> bool:
        """Whether something is left of *route* without what is not served here, which is named."""
        lacking = [key for key in route if key in _NOT_SERVED]
        is_left = not any(key.startswith("middleware") for key in lacking) and (
            not lacking or any(key in route for key in ("dest", "status", "headers"))
        )
        effect: Any = "limited" if is_left else "left out"
        for key in lacking:
            self.notes.append(Note(place=place, what=f"`{key}`: {_NOT_SERVED[key]}.", effect=effect))
        for key in sorted(route.keys() - _KNOWN - _NOT_SERVED.keys()):
            what = f"`{key[:80]}` is not known here, and does nothing."
            self.notes.append(Note(place=place, what=what, effect="limited"))
        if self._phase == "error" and route.get("status", 404) != 404:
            what = "a page for this status is never shown: a site of files has none but 404."
            self.notes.append(Note(place=place, what=what, effect="left out"))
            return False
        return is_left

    def _rule(self, route: Mapping[str, Any], place: Place) -> Rule:
        path, pattern = _pattern(_text(route, "src"))
        has, missing = read_conditions(route, "has"), read_conditions(route, "missing")
        captures = _Captures(captured_names(has) | frozenset(_GROUP_NAMES.findall(pattern)))
        status, goes_on, dest = _status(route), _claim(route, "continue"), route.get("dest", "")
        if dest and not isinstance(dest, str):
            raise InvalidError("`dest` is no text", fix='write "dest": "/…"')
        location, headers = self._headers(route, place, captures)
        is_redirect = 300 <= status < 400
        to = route_template(_fitting(location if is_redirect and location else dest), captures, is_address=True)
        if is_redirect and not to:
            raise InvalidError("a redirect leads nowhere", fix='add "headers": { "Location": "/…" }')
        answers = bool(to or status) or goes_on
        return Rule(
            place=place,
            path=path,
            pattern=pattern,
            ignores_case=not _claim(route, "caseSensitive"),
            methods=_methods(route),
            has=has,
            missing=missing,
            to=to if is_redirect or not to else on_this_site(to),
            status=404 if self._phase == "error" and to else status,
            headers=headers,
            goes_on=goes_on or self._phase == "hit",
            tries=_claim(route, "check") and not goes_on,
            stops=not answers and self._phase != "hit",
        )

    def _headers(
        self, route: Mapping[str, Any], place: Place, captures: _Captures
    ) -> tuple[str, tuple[HeaderChange, ...]]:
        """The Location, and the other headers."""
        listed = route.get("headers", {})
        if not isinstance(listed, dict) or len(listed) > MOST_HEADERS:
            raise InvalidError(f"`headers` is no object of at most {MOST_HEADERS:,} headers")
        location, changes = "", []
        for name, value in listed.items():
            if not isinstance(value, str) or len(value) > MAX_VALUE:
                raise InvalidError(f"the header {name[:80]} has no text of at most {MAX_VALUE:,} characters")
            if name.lower() == "location":
                location = value
                continue
            try:
                check_header(name, value)
            except InvalidError as error:
                self.notes.append(note_of(error, place, "limited"))
                continue
            changes.append(HeaderChange(name=name, value=route_template(value, captures, is_address=False)))
        return location, tuple(changes)


def _pattern(source: str) -> tuple[str, str]:
    """The path that *source* names, or the pattern for what it matches somewhere (between ``^`` and ``$``)."""
    bare = source.removeprefix("^")
    if bare.endswith("$") and not bare.endswith("\\$"):
        bare = bare[:-1]
    if _LITERAL.fullmatch(bare):
        return re.sub(r"\\(.)", r"\1", bare), ""
    bare = bare.replace("\\/", "/")
    pattern = f"(?:.*?)(?:^{bare}$)(?:.*)" if _has_choice_outside(bare) else bare
    try:
        check(pattern)
    except InvalidError as error:
        raise InvalidError(f"`src`: {error.what}", why=error.why, fix=error.fix) from error
    return "", pattern


def _has_choice_outside(pattern: str) -> bool:
    """Whether a ``|`` stands outside of all parentheses: then ``^`` and ``$`` bind to its outermost choices alone."""
    plain = re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]", "", pattern)
    depth = 0
    for letter in plain:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "|" and depth == 0:
            return True
    return False


def _status(route: Mapping[str, Any]) -> int:
    status = route.get("status", 0)
    if type(status) is not int or not (status == 0 or 200 <= status <= 599):
        raise InvalidError(f"`status` is {str(status)[:40]}", fix="write a number from 200 to 599")
    return status


def _methods(route: Mapping[str, Any]) -> tuple[str, ...]:
    methods = route.get("methods", [])
    if not isinstance(methods, list) or len(methods) > 50 or not all(isinstance(one, str) for one in methods):
        raise InvalidError("`methods` is no list of texts", fix='write "methods": ["GET"]')
    return tuple(method.upper() for method in methods)


def _claim(route: Mapping[str, Any], key: str) -> bool:
    value = route.get(key, False)
    if not isinstance(value, bool):
        raise InvalidError(f"`{key}` is neither true nor false", fix="write true")
    return value


def _text(route: Mapping[str, Any], key: str) -> str:
    value = route.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidError(f"a route has no `{key}`", why="it must be a text", fix=f'write "{key}": "/…"')
    return _fitting(value)


def _fitting(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise InvalidError(
            f"an address or pattern has {len(text):,} characters", why=f"at most {MAX_TEXT:,} are allowed"
        )
    return text
