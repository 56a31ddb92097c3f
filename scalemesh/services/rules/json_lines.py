"""JSON that remembers where its author wrote what: the line of each setting, and of each item of a list.

The standard library's scanner does the reading, item by item, so a file of the largest size costs no more than to
read it twice.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from scalemesh.rules import Place
from scalemesh.services.rules.notes import Note, RulesError

MOST_ITEMS: Final = 12_000  #: of a list whose lines are counted: no list of rules may be longer
MAX_TEXT: Final = 160  #: characters of a rule, as it is shown
_HALF: Final = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")  #: two make a character; one alone is none
_SPACE: Final = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class Document:
    """One file whose top is an object."""

    file: str
    values: dict[str, Any]
    lines: dict[str, int]  #: of each setting
    items: dict[str, list[int]]  #: of each item, for settings that are lists

    def place(self, key: str) -> Place:
        """Where the setting *key* stands."""
        return Place(file=self.file, line=self.lines.get(key, 0), text=key)

    def item_place(self, key: str, number: int) -> Place:
        """Where the item *number* of the list *key* stands, from 0."""
        lines = self.items.get(key, [])
        text = json.dumps(self.values[key][number], ensure_ascii=False)
        return Place(file=self.file, line=lines[number] if number < len(lines) else 0, text=text[:MAX_TEXT])


def read_document(file: str, text: str) -> Document:
    """Read *text*.

    Raises:
        RulesError: it is no JSON, or its top is no object.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise _refused(
            Place(file=file, line=error.lineno), f"this is no JSON: {error.msg}, column {error.colno}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise _refused(
            Place(file=file), "this is no JSON that can be read: nested too deeply, or a giant number."
        ) from error
    if (half := _HALF.search(text)) is not None and not _is_text(values):
        line = text.count("\n", 0, half.start()) + 1
        raise _refused(Place(file=file, line=line), f"{half[0]} is half of a character. Write the character itself.")
    if not isinstance(values, dict):
        raise _refused(Place(file=file, line=1), 'its top is no object. Write { "redirects": [ … ] }.')
    lines, items = _Scan(text, values).whole()
    return Document(file, values, lines, items)


class _Scan:
    """Goes through a text that is known to be JSON with an object at its top."""

    def __init__(self, text: str, values: dict[str, Any]) -> None:
        self._values = values
        self._text, self._decoder = text, json.JSONDecoder()
        self._at, self._line, self._counted = 0, 1, 0

    def whole(self) -> tuple[dict[str, int], dict[str, list[int]]]:
        lines: dict[str, int] = {}
        items: dict[str, list[int]] = {}
        self._pass("{")
        while not self._pass("}"):
            line = self._line_here()
            key = self._value()
            self._pass(":")
            lines[key] = line
            items.pop(key, None)
            listed = self._values[key]
            if isinstance(listed, list) and len(listed) <= MOST_ITEMS and self._pass("["):
                items[key] = self._items()
            else:
                self._value()
            self._pass(",")
        return lines, items

    def _items(self) -> list[int]:
        lines = []
        while not self._pass("]"):
            lines.append(self._line_here())
            self._value()
            self._pass(",")
        return lines

    def _value(self) -> Any:
        value, self._at = self._decoder.raw_decode(self._text, self._at)
        return value

    def _pass(self, mark: str) -> bool:
        """Step over spaces, and over *mark* where it comes next."""
        self._skip()
        if not self._text.startswith(mark, self._at):
            return False
        self._at += 1
        self._skip()
        return True

    def _skip(self) -> None:
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line


def _is_text(values: Any) -> bool:
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _refused(place: Place, what: str) -> RulesError:
    return RulesError([Note(place=place, what=what, effect="refused")])
