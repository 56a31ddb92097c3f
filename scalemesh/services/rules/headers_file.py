"""``_headers``: a path on a line, and below it the headers of what lies there. The same for Netlify and Cloudflare."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from scalemesh.rules import NEVER_SET, HeaderChange, Place
from scalemesh.services.rules.headers import is_name
from scalemesh.services.rules.lines import Line
from scalemesh.services.rules.notebook import Notebook, Unfit, refusal
from scalemesh.services.rules.placeholders import value_template

MOST_FIELDS: Final = 200  #: of one rule
MAX_VALUE: Final = 8192
BASIC_AUTH: Final = "basic-auth"
_PATH: Final = re.compile(r"/|[^\s:]+://")


@dataclass(frozen=True, slots=True)
class Field:
    """One header below a path; no value: it is removed."""

    place: Place
    name: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Block:
    """A path, and what follows it."""

    place: Place
    path: str
    fields: list[Field] = field(default_factory=list)


def blocks_of(lines: Iterable[Line], notes: Notebook, *, removes: bool) -> list[Block]:
    """The blocks of a file; *removes*: ``! Name`` takes a header away. What cannot be read is noted.

    Raises:
        RulesError: paths were to be protected, and it cannot be told which, or by what.
    """
    found: list[Block] = []
    for line in lines:
        is_path = _PATH.match(line.text) is not None
        if is_path and line.unfit is None:
            found.append(Block(line.place, line.text))
            continue
        try:
            if is_path or (":" not in line.text and not line.is_indented):
                found.append(Block(line.place, ""))  # what follows belongs to it, and to no path above
                raise line.unfit or Unfit("the line is neither a path nor a header.", "a path that begins with /")
            _add_field(found, line, removes=removes)
        except Unfit as why:
            notes.left_out(line.place, why)
    return found


def _add_field(found: list[Block], line: Line, *, removes: bool) -> None:
    """Add the header on *line* to the last block."""
    if line.text.lower().startswith(BASIC_AUTH):
        line = replace(line, place=replace(line.place, text="Basic-Auth"))  # passwords are not for logs
    try:
        if line.unfit:
            raise line.unfit
        read = _field(line, removes=removes)
        if not found:
            raise Unfit("no path stands above this header.", "a line such as /* before it")
        if len(found[-1].fields) >= MOST_FIELDS:
            raise Unfit(f"a path has more than {MOST_FIELDS} headers.")
    except Unfit as why:
        if line.text.lower().startswith(BASIC_AUTH):
            raise refusal(line.place, f"what Basic-Auth is to protect cannot be told: {why.what}", why.instead) from why
        raise
    found[-1].fields.append(read)


def change_of(read: Field, names: Iterable[str]) -> HeaderChange:
    """What *read* does to an answer; *names* are placeholders that its value may hold.

    Raises:
        Unfit: such a header cannot be sent, or is not a rule's to set.
    """
    if not is_name(read.name):
        raise Unfit(f"{read.name[:60]!r} is no name of a header.", "Name: value")
    if read.name.lower() in NEVER_SET:
        raise Unfit(f"{read.name} is set by the server, and by no rule.")
    if read.value is None:
        return HeaderChange(name=read.name, how="remove")
    if not (read.value.isascii() and read.value.replace("\t", " ").isprintable()):
        raise Unfit(f"the value of {read.name} is not plain ASCII on one line.", "other characters percent-encoded")
    if len(read.value) > MAX_VALUE:
        raise Unfit(f"the value of {read.name} is longer than {MAX_VALUE:,} characters.")
    return HeaderChange(name=read.name, value=value_template(read.value, names), how="append")


def _field(line: Line, *, removes: bool) -> Field:
    if removes and line.text.startswith("!"):
        return Field(line.place, line.text[1:].strip(), None)
    name, colon, value = (part.strip() for part in line.text.partition(":"))
    if not (colon and name and value):
        raise Unfit("the line is neither a path nor a header with a value.", "Name: value")
    return Field(line.place, name, value)
