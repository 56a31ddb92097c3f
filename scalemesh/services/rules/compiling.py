"""Reads the rule files of a site in the dialect that they are written in, or that a person chose."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from scalemesh.rules import Dialect, Place, Rules
from scalemesh.services.rules import cloudflare, netlify, vercel
from scalemesh.services.rules.choice import dialect_of
from scalemesh.services.rules.compiled import Compiled
from scalemesh.services.rules.notes import Note
from scalemesh.services.rules.sources import CONFIG, Sources

READERS: Final[Mapping[Dialect, Callable[[Sources], Compiled]]] = {
    Dialect.DEFAULT: lambda _sources: Compiled(rules=Rules()),
    Dialect.VERCEL: vercel.read,
    Dialect.NETLIFY: netlify.read,
    Dialect.CLOUDFLARE: cloudflare.read,
}
#: The files that rules are read from, and a word without which there is none in them.
READ: Final[Mapping[Dialect, Mapping[str, str]]] = {
    Dialect.VERCEL: {"vercel.json": "", CONFIG: ""},
    Dialect.CLOUDFLARE: {"_redirects": "", "_headers": ""},
    Dialect.NETLIFY: {"_redirects": "", "_headers": "", "netlify.toml": "[["},
    Dialect.DEFAULT: {},
}


def compile_rules(sources: Sources, chosen: Dialect | None = None) -> Compiled:
    """The rules of *sources*, its notes by file and line; *chosen* is the dialect that a person set by hand.

    Raises:
        RulesError: a file is malformed, or over a limit of its host.
    """
    dialect = chosen or dialect_of(sources)
    compiled = READERS[dialect](sources)
    notes = (*compiled.notes, *_wide_cookies(compiled.rules), *_unread(sources, dialect))
    return replace(compiled, notes=tuple(sorted(notes, key=_by_place)))


def _wide_cookies(rules: Rules) -> Iterator[Note]:
    """Cookies for more than their host; see ``edge/cookies.py``."""
    what = "a cookie is for the one host that is visited: its Domain is left out."
    for rule in (*rules.first, *rules.missed, *rules.found, *rules.failed):
        values = [change.value.lower() for change in rule.headers if change.name.lower() == "set-cookie"]
        if any(part.partition("=")[0].strip() == "domain" for value in values for part in value.split(";")[1:]):
            yield Note(place=rule.place, what=what, instead="Set-Cookie without Domain", effect="limited")


def _unread(sources: Sources, dialect: Dialect) -> Iterator[Note]:
    """Files with the rules of another dialect: what they would have done, or kept out, is not done."""
    everything = {name: (other, mark) for other, names in READ.items() for name, mark in names.items()}
    for name, (other, mark) in everything.items():
        text = (sources.text(name) or "").strip()
        if text and mark in text and name not in READ[dialect]:
            what = f"its rules are not read: this site follows the dialect {dialect}."
            same = "" if dialect is Dialect.DEFAULT else f"the same rules as {dialect} has them, or "
            instead = f"{same}the project's dialect {other}"
            yield Note(place=Place(file=name), what=what, instead=instead, effect="left out")


def _by_place(note: Note) -> tuple[str, bool, int]:
    """What is about a whole file stands behind what is about its lines."""
    return note.place.file, not note.place.line, note.place.line
