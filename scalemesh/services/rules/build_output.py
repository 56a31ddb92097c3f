"""Reads what a build left by the Build Output API v3: its config.json, and which functions lie beside it."""

from collections.abc import Mapping
from typing import Any, Final

from scalemesh.rules import Dialect, Place, Rules
from scalemesh.services.rules.compiled import Compiled, Override
from scalemesh.services.rules.json_lines import Document, read_document
from scalemesh.services.rules.notes import Note, RulesError
from scalemesh.services.rules.routes import read_routes
from scalemesh.services.rules.sources import CONFIG, FUNCTION, FUNCTIONS, Sources, is_function

VERSION: Final = 3
MOST_OVERRIDES: Final = 200_000
_KNOWN: Final = frozenset({"version", "routes", "overrides", "framework", "deploymentId"})
_LEFT_OUT: Final[Mapping[str, tuple[str, str]]] = {
    "images": ("images are not resized at the visit", "resize them in the build"),
    "wildcard": ("values by domain are not filled in", "write routes with `has` for each host"),
    "cache": ("files that builds share are kept by the package managers' caches alone", ""),
    "crons": ("nothing is called by the clock here", "call the address from cron or a systemd timer"),
}


def read(text: str, sources: Sources, *, is_alone: bool) -> Compiled:
    """The rules in *text*, a config.json. Not *is_alone*: there is a vercel.json beside it, which is not read.

    Raises:
        RulesError: it is malformed, or of another version.
    """
    document = read_document(CONFIG, text)
    if document.values.get("version") != VERSION or isinstance(document.values.get("version"), bool):
        place, what = document.place("version"), f"`version` is not {VERSION}."
        raise RulesError(
            [Note(place=place, what=what, instead="build with the Build Output API v3.", effect="refused")]
        )
    routes, notes = read_routes(document)
    overrides = _overrides(document, notes)
    notes += [*_settings(document), *_functions(sources)]
    if not is_alone:
        what = f"it is not read: {CONFIG} has the rules of this build."
        notes.append(Note(place=Place(file="vercel.json"), what=what, effect="left out"))
    if refused := [note for note in notes if note.effect == "refused"]:
        raise RulesError(refused)
    rules = Rules(
        dialect=Dialect.VERCEL, first=routes.first, missed=routes.missed, found=routes.found, failed=routes.failed
    )
    return Compiled(rules=rules, notes=tuple(notes), overrides=overrides)


def _overrides(document: Document, notes: list[Note]) -> dict[str, Override]:
    listed: Any = document.values.get("overrides") or {}
    place = document.place("overrides")
    if not isinstance(listed, dict) or len(listed) > MOST_OVERRIDES:
        what = f"`overrides` is no object of at most {MOST_OVERRIDES:,} files."
        notes.append(Note(place=place, what=what, effect="refused"))
        return {}
    found = {}
    for path, override in listed.items():
        if not _is_override(override):
            what = f"the override of {path[:120]!r} has no `path` or `contentType` that is a text."
            notes.append(Note(place=place, what=what, effect="refused"))
            continue
        to, content_type = override.get("path"), override.get("contentType")
        found[path] = Override(path=to.strip("/") or None if to else None, content_type=content_type)
    return found


def _is_override(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str | None) for key in ("path", "contentType"))


def _settings(document: Document) -> list[Note]:
    """What does nothing here; an empty setting would do nothing anywhere."""
    notes = []
    for key, value in document.values.items():
        if key in _KNOWN or not value:
            continue
        what, instead = _LEFT_OUT.get(key, ("it is not known here", ""))
        instead = f"{instead}." if instead else ""
        notes.append(Note(place=document.place(key), what=f"`{key}`: {what}.", instead=instead, effect="left out"))
    return notes


def _functions(sources: Sources) -> list[Note]:
    names = sorted(name.removeprefix(FUNCTIONS).removesuffix(FUNCTION) for name in sources.files if is_function(name))
    what = "the function /{} is not served: only files are."
    return [
        Note(place=Place(file=f"{FUNCTIONS}{name}.func"), what=what.format(name), effect="left out") for name in names
    ]
