"""What a visit met on its way through the rules, for ``explain``: written down by the visit itself."""

from dataclasses import dataclass, field

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
    steps: list[Step] = field(default_factory=list)
    set_by: dict[str, Place] = field(default_factory=dict)  #: header name in lower case -> the rule that set it

    def note(self, what: str, place: Place | None, why: str, *, matched: bool) -> None:
        self.steps.append(Step(what, place, matched, why))
