"""What a visit met on its way through the rules, for ``explain``: written down by the visit itself."""

from dataclasses import dataclass, field
from typing import Literal

from scalemesh.edge.rules.outcome import Change, Outcome
from scalemesh.edge.site import Site
from scalemesh.rules import Place


@dataclass(frozen=True, slots=True)
class Step:
    """One rule, or one look for a file."""

    what: str  #: as its author wrote it, or our words for what is no rule
    place: Place | None
    matched: bool
    why: str


@dataclass(slots=True)
class Trace:
    """Filled by ``walk`` and ``decide``; nothing reads it on the way."""

    steps: list[Step] = field(default_factory=list)
    site: Site | None = None  #: that the visit was led to
    outcome: Outcome | None = None  #: of the rules, where it was what answered
    set_by: dict[str, list[Change]] = field(default_factory=dict)  #: header name in lower case -> what set it
    removed: dict[str, Change] = field(default_factory=dict)  #: headers that a rule took away, by name in lower case
    ignored: list[Change] = field(default_factory=list)  #: of headers that no rule may set

    def note(self, what: str, place: Place | None, why: str, *, matched: bool) -> None:
        self.steps.append(Step(what, place, matched, why))

    def changed(self, made: Change, how: Literal["set", "append", "remove", "ignored"]) -> None:
        """A rule changed a header of the answer, or would have."""
        name = made.change.name.lower()
        if how == "ignored":
            self.ignored.append(made)
            return
        self.removed.pop(name, None)
        if how == "remove":
            self.set_by.pop(name, None)
            self.removed[name] = made
        elif how == "append":
            self.set_by.setdefault(name, []).append(made)
        else:
            self.set_by[name] = [made]
