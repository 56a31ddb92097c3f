"""Reads the rule files of the dialect vercel: vercel.json, or what a build left by the Build Output API."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from scalemesh.errors import InvalidError
from scalemesh.rules import Dialect, HeaderChange, Place, Rule, Rules
from scalemesh.services.rules import build_output
from scalemesh.services.rules.compiled import Compiled
from scalemesh.services.rules.conditions import captured_names, read_conditions
from scalemesh.services.rules.destinations import References, header_template, redirect_template, rewrite_template
from scalemesh.services.rules.headers import check_header
from scalemesh.services.rules.json_lines import Document, read_document
from scalemesh.services.rules.notes import Note, RulesError, note_of
from scalemesh.services.rules.path_patterns import PathPattern, read_path_pattern
from scalemesh.services.rules.routes import on_this_site, read_routes
from scalemesh.services.rules.sources import CONFIG, Sources

FILE: Final = "vercel.json"
MOST_RULES: Final = 2048  #: redirects; and so many rewrites, and header rules
MOST_HEADERS: Final = 1024  #: of one header rule
MAX_PATTERN: Final = 4096  #: characters of a source or a destination
MAX_KEY: Final = 4096
MAX_VALUE: Final = 32_768
STATUSES: Final = (301, 302, 303, 307, 308)
RULE_KEYS: Final = {
    "redirects": frozenset({"source", "destination", "permanent", "statusCode", "has", "missing"}),
    "headers": frozenset({"source", "headers", "has", "missing"}),
    "rewrites": frozenset({"source", "destination", "statusCode", "has", "missing", "keepsCredentials"}),
}
#: Settings about how Vercel builds, or what its dashboard shows: nothing of the site is lost with them.
SILENT: Final = frozenset(
    {
        *(
            "$schema",
            "alias",
            "autoAlias",
            "autoJobCancelation",
            "buildCommand",
            "cleanUrls",
            "devCommand",
            "framework",
        ),
        *("git", "github", "headers", "ignoreCommand", "installCommand", "name", "outputDirectory", "public"),
        *("redirects", "relatedProjects", "rewrites", "routes", "scope", "trailingSlash", "version"),
    }
)
_VARIABLES: Final = "set variables with `scalemesh env set`"
_STATIC: Final = "only files are served; publish a static export, or rewrite to an origin that runs the code"
LEFT_OUT: Final[Mapping[str, tuple[str, str]]] = {
    "functions": ("functions are not run here", _STATIC),
    "middleware": ("middleware is not run here", _STATIC),
    "crons": ("nothing is called by the clock here", "call the address from cron or a systemd timer"),
    "regions": ("a site is served from this machine alone", "put a CDN in front"),
    "functionFailoverRegions": ("a site is served from this machine alone", "put a CDN in front"),
    "images": ("images are not resized at the visit", "resize them in the build"),
    "builds": ("builders of Vercel are not run here", "set `buildCommand` and `outputDirectory`"),
    "env": ("variables are not read from this file", _VARIABLES),
    "build": ("variables are not read from this file", _VARIABLES),
    "wildcard": ("values by domain are not filled in", "write a rule for each host with `has`"),
    "bulkRedirectsPath": ("redirects are read from this file alone", "list them under `redirects`"),
}


def read(sources: Sources) -> Compiled:
    """The rules of a site of this dialect. What a build left by the Build Output API outweighs vercel.json.

    Raises:
        RulesError: the file is malformed, or over a limit.
    """
    config, text = sources.text(CONFIG), sources.text(FILE)
    if config is not None:
        return build_output.read(config, sources, is_alone=text is None)
    if text is None:
        return Compiled(rules=Rules(dialect=Dialect.VERCEL))
    return _Reading(read_document(FILE, text)).compiled()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Matching:
    """What all kinds of rules have in common: when they match, and what their targets may refer to."""

    pattern: PathPattern
    references: References
    common: Mapping[str, Any] = field(default_factory=dict)  #: fields of Rule


class _Reading:
    """One vercel.json on its way to rules; everything that is wrong with it is gathered first."""

    def __init__(self, document: Document) -> None:
        self._document, self._values = document, document.values
        self._notes: list[Note] = []

    def compiled(self) -> Compiled:
        self._settings()
        clean_urls, trailing_slash = self._claim("cleanUrls"), self._claim("trailingSlash")
        redirects, headers = self._rules("redirects", self._redirect), self._rules("headers", self._headers)
        rewrites = self._rules("rewrites", self._rewrite)
        routes, notes = read_routes(self._document)
        self._notes += notes
        refused = [note for note in self._notes if note.effect == "refused"]
        if refused:
            raise RulesError(refused)
        places = tuple(self._document.place(key) for key in ("cleanUrls", "trailingSlash") if key in self._values)
        rules = Rules(
            dialect=Dialect.VERCEL,
            clean_urls=bool(clean_urls),
            trailing_slash=trailing_slash,
            first=(*routes.first, *redirects, *headers),
            missed=(*routes.missed, *rewrites),
            found=routes.found,
            failed=routes.failed,
            places=places,
        )
        return Compiled(rules=rules, notes=tuple(self._notes))

    def _settings(self) -> None:
        """Name every setting that does nothing here."""
        for key in self._values:
            if key in LEFT_OUT:
                what, instead = LEFT_OUT[key]
                self._note(self._document.place(key), f"`{key}`: {what}.", f"{instead}.", "left out")
            elif key not in SILENT:
                near = _nearest(key, SILENT | LEFT_OUT.keys())
                self._note(self._document.place(key), f"`{key}` is not known here.", near, "left out")
        others = sorted({"cleanUrls", "trailingSlash", "redirects", "headers", "rewrites"} & self._values.keys())
        if "routes" in self._values and others:
            self._note(
                self._document.place("routes"),
                f"`routes` cannot stand beside `{'`, `'.join(others)}`.",
                "write redirects, rewrites and headers instead of routes.",
                "refused",
            )

    def _claim(self, key: str) -> bool | None:
        value = self._values.get(key)
        if value is not None and not isinstance(value, bool):
            self._note(self._document.place(key), f"`{key}` is neither true nor false.", "write true.", "refused")
            return None
        return value

    def _rules(self, key: str, make: Callable[[Mapping[str, Any], Place], Rule]) -> list[Rule]:
        listed = self._values.get(key)
        if listed is None:
            return []
        if not isinstance(listed, list):
            self._note(self._document.place(key), f"`{key}` is no list.", f'write "{key}": [ … ].', "refused")
            return []
        if len(listed) > MOST_RULES:
            what = f"`{key}` has {len(listed):,} items; at most {MOST_RULES:,} are allowed."
            self._note(self._document.place(key), what, "use patterns that match many paths.", "refused")
            return []
        made = []
        for number, item in enumerate(listed):
            place = self._document.item_place(key, number)
            try:
                if not isinstance(item, dict):
                    raise InvalidError(f"an item of `{key}` is no object", fix='write { "source": "…" }')
                self._name_unknown(item, RULE_KEYS[key], place)
                made.append(make(item, place))
            except InvalidError as error:
                self._notes.append(note_of(error, place, "refused"))
        return made

    def _name_unknown(self, item: Mapping[str, Any], known: frozenset[str], place: Place) -> None:
        for name in sorted(item.keys() - known):
            what = f"`{name[:80]}` is not known here, and does nothing."
            self._note(place, what, _nearest(name, known), "limited")

    def _matching(self, item: Mapping[str, Any], place: Place) -> _Matching:
        source = _text(item, "source")
        try:
            pattern = read_path_pattern(source)
        except InvalidError as error:
            raise InvalidError(f"`source`: {error.what}", why=error.why, fix=error.fix) from error
        if source[0] not in "/:({":
            self._note(place, "`source` matches no path, since it begins with no slash.", f"/{source}", "limited")
        has, missing = read_conditions(item, "has"), read_conditions(item, "missing")
        common = {"place": place, "path": pattern.path, "pattern": pattern.pattern, "has": has, "missing": missing}
        references = References(pattern.references(), captured_names(has))
        return _Matching(pattern=pattern, references=references, common=common)

    def _redirect(self, item: Mapping[str, Any], place: Place) -> Rule:
        found = self._matching(item, place)
        to = redirect_template(_text(item, "destination"), found.references)
        return Rule(**found.common, to=to, status=_redirect_status(item))

    def _rewrite(self, item: Mapping[str, Any], place: Place) -> Rule:
        found = self._matching(item, place)
        to = on_this_site(rewrite_template(_text(item, "destination"), found.references))
        status, keeps = item.get("statusCode", 0), item.get("keepsCredentials", False)
        if type(status) is not int or not (status == 0 or 200 <= status <= 599) or 300 <= status <= 399:
            raise InvalidError("`statusCode` of a rewrite is no status of a page", fix="write 404, or leave it out")
        if not isinstance(keeps, bool):
            raise InvalidError("`keepsCredentials` is neither true nor false", fix="write true")
        return Rule(**found.common, to=to, status=status, tries=True, keeps_credentials=keeps)

    def _headers(self, item: Mapping[str, Any], place: Place) -> Rule:
        found = self._matching(item, place)
        listed = item.get("headers")
        if not isinstance(listed, list):
            raise InvalidError("`headers` is no list", fix='write "headers": [{ "key": "…", "value": "…" }]')
        if len(listed) > MOST_HEADERS:
            raise InvalidError(f"a rule sets {len(listed):,} headers", why=f"at most {MOST_HEADERS:,} are allowed")
        changes = []
        for header in listed:
            name, value = _header(header)
            try:
                check_header(name, value)
            except InvalidError as error:
                self._notes.append(note_of(error, place, "limited"))
                continue
            changes.append(HeaderChange(name=name, value=header_template(value, found.references)))
        return Rule(**found.common, headers=tuple(changes), goes_on=True)

    def _note(self, place: Place, what: str, instead: str, effect: Any) -> None:
        self._notes.append(Note(place=place, what=what, instead=instead, effect=effect))


def _header(header: Any) -> tuple[str, str]:
    if not isinstance(header, dict) or header.keys() != {"key", "value"}:
        raise InvalidError("a header is not written as key and value", fix='write { "key": "…", "value": "…" }')
    name, value = header["key"], header["value"]
    if not isinstance(name, str) or not isinstance(value, str):
        raise InvalidError("key and value of a header are no texts", fix="put them in quotes")
    if len(name) > MAX_KEY:
        raise InvalidError(f"the key of a header has {len(name):,} characters", why=f"at most {MAX_KEY:,} are allowed")
    if len(value) > MAX_VALUE:
        why = f"at most {MAX_VALUE:,} are allowed"
        raise InvalidError(f"the value of the header {name[:80]} has {len(value):,} characters", why=why)
    return name, value


def _redirect_status(item: Mapping[str, Any]) -> int:
    permanent, status = item.get("permanent"), item.get("statusCode")
    if permanent is not None and status is not None:
        raise InvalidError("a redirect has both `permanent` and `statusCode`", fix="leave one of them out")
    if status is not None:
        if type(status) is not int or status not in STATUSES:
            raise InvalidError(
                f"`statusCode` is {str(status)[:40]}", fix=f"write one of {', '.join(map(str, STATUSES))}"
            )
        return status
    if permanent is not None and not isinstance(permanent, bool):
        raise InvalidError("`permanent` is neither true nor false", fix="write true for 308, false for 307")
    return 307 if permanent is False else 308


def _text(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidError(f"a rule has no `{key}`", why="it must be a text", fix=f'write "{key}": "/…"')
    if len(value) > MAX_PATTERN:
        raise InvalidError(f"`{key}` has {len(value):,} characters", why=f"at most {MAX_PATTERN:,} are allowed")
    return value


def _nearest(name: str, known: Iterable[str]) -> str:
    """What *name* was probably meant to be, as something to write instead; empty where nothing is near."""
    near = difflib.get_close_matches(name[:80], known, n=1, cutoff=0.75)
    return f"write `{near[0]}`." if near else ""
