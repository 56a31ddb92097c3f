"""Collects what is wrong with the rules of a site while they are read, whatever their number."""

import re
from typing import Final

from scalemesh.rules import Place
from scalemesh.services.rules.notes import Note, RulesError

MOST_KEPT: Final = 1000  #: notes; what is wrong besides is counted
_CUT: Final = 120  #: characters of a rule that are shown
_INVISIBLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Unfit(Exception):  # noqa: N818  it becomes a note
    """A rule that is not taken: *what* is wrong with it, and what to write *instead*."""

    def __init__(self, what: str, instead: str = "") -> None:
        super().__init__(what)
        self.what, self.instead = what, instead


class Notebook:
    """Notes in the order in which they came up."""

    def __init__(self) -> None:
        self._notes: list[Note] = []
        self._rest: list[Place] = []

    @property
    def notes(self) -> tuple[Note, ...]:
        if not self._rest:
            return tuple(self._notes)
        what = "more rules of this file are left out or limited than are told here."
        return (*self._notes, Note(place=Place(file=self._rest[0].file), what=what, effect="limited"))

    def left_out(self, place: Place, why: Unfit) -> None:
        """The rule does not count."""
        self._add(Note(place=place, what=why.what, instead=why.instead, effect="left out"))

    def limited(self, place: Place, what: str, instead: str = "") -> None:
        """The rule counts in part."""
        self._add(Note(place=place, what=what, instead=instead, effect="limited"))

    def _add(self, note: Note) -> None:
        if len(self._notes) < MOST_KEPT:
            self._notes.append(note)
        elif not self._rest:
            self._rest.append(note.place)


def refusal(place: Place, what: str, instead: str = "") -> RulesError:
    """What to raise where leaving out would do harm: nothing is published by these rules."""
    return RulesError([Note(place=place, what=what, instead=instead, effect="refused")])


def place_of(file: str, line: int, text: str) -> Place:
    """Where a rule stands; *text* is the rule, of any length."""
    shown = " ".join(_INVISIBLE.sub(" ", text[: _CUT * 4]).split())
    return Place(file=file, line=line, text=shown if len(shown) <= _CUT else f"{shown[:_CUT]}…")
