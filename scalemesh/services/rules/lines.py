"""Rule files that are written line by line: ``_redirects`` and ``_headers``."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from scalemesh.rules import Place
from scalemesh.services.rules.notebook import Unfit, place_of

_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Line:
    """One line with something on it."""

    place: Place
    text: str  #: without white space at its ends; cut where it is too long
    is_indented: bool = False
    unfit: Unfit | None = None  #: why it cannot be read


def lines_of(file: str, text: str, most_chars: int) -> Iterator[Line]:
    """The lines of *text* that are neither empty nor a comment."""
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw[: most_chars + 2].strip()
        if not line or line.startswith("#"):
            continue
        unfit = None
        if len(raw.rstrip()) > most_chars:
            unfit = Unfit(f"the line is longer than {most_chars:,} characters.")
        elif _CONTROL.search(line):
            unfit = Unfit("the line holds a control character.", "the rule as plain text")
        yield Line(place_of(file, number, line), line, raw[:1].isspace(), unfit)
