"""What is wrong with a rule, said so that its author can mend it: file, line, what, and what to write instead."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from scalemesh.errors import InvalidError
from scalemesh.rules import Place

MOST_TOLD: Final = 50  #: lines of a log or an error; the rest is counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One thing to tell the author of a rule."""

    place: Place
    what: str  #: a sentence
    instead: str = ""  #: what to write; empty where nothing would help
    effect: Literal["refused", "left out", "limited"]  #: the deploy fails; this rule does not count; it counts in part

    def __str__(self) -> str:
        instead = f" Instead: {self.instead}" if self.instead else ""
        return f"{self.place}: {self.effect}: {self.what}{instead}"


class RulesError(InvalidError):
    """A rule file that no host would take: what it meant cannot be told, so nothing is published by it."""

    def __init__(self, notes: Iterable[Note]) -> None:
        self.notes = tuple(notes)
        super().__init__("\n".join(told(self.notes)), fix="mend the file, or set the project's dialect by hand")

    @property
    def in_short(self) -> str:
        """The first note, and how many more there are: for a place that has room for a sentence or two."""
        first, rest = self.notes[0], len(self.notes) - 1
        instead = f" Instead: {first.instead}" if first.instead else ""
        return f"{first.place}: {first.what}{instead}" + (f" And {rest} more: see the log." if rest else "")


def told(notes: Iterable[Note]) -> list[str]:
    """*notes* as lines, the first ones where there are many."""
    lines = [str(note) for note in notes]
    rest = len(lines) - MOST_TOLD
    return lines[:MOST_TOLD] + ([f"and {rest} more"] if rest > 0 else [])


def note_of(error: InvalidError, place: Place, effect: Literal["refused", "left out", "limited"]) -> Note:
    """What *error* says, as a note."""
    why = f": {error.why}" if error.why else ""
    return Note(place=place, what=f"{error.what}{why}.", instead=f"{error.fix}." if error.fix else "", effect=effect)
