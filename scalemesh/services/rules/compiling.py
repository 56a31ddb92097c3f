"""Reads the rule files of a site in the dialect that they are written in, or that a person chose."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from scalemesh.rules import Dialect, Rules
from scalemesh.services.rules import cloudflare, netlify, vercel
from scalemesh.services.rules.choice import dialect_of
from scalemesh.services.rules.compiled import Compiled
from scalemesh.services.rules.notes import Note
from scalemesh.services.rules.sources import Sources

READERS: Final[Mapping[Dialect, Callable[[Sources], Compiled]]] = {
    Dialect.DEFAULT: lambda _sources: Compiled(rules=Rules()),
    Dialect.VERCEL: vercel.read,
    Dialect.NETLIFY: netlify.read,
    Dialect.CLOUDFLARE: cloudflare.read,
}


def compile_rules(sources: Sources, chosen: Dialect | None = None) -> Compiled:
    """The rules of *sources*, its notes by file and line; *chosen* is the dialect that a person set by hand.

    Raises:
        RulesError: a file is malformed, or over a limit of its host.
    """
    compiled = READERS[chosen or dialect_of(sources)](sources)
    return replace(compiled, notes=tuple(sorted(compiled.notes, key=_by_place)))


def _by_place(note: Note) -> tuple[str, bool, int]:
    """What is about a whole file stands behind what is about its lines."""
    return note.place.file, not note.place.line, note.place.line
