"""Reads posted forms: bounded, text only, one value a name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

from scalemesh.errors import InvalidError, ScaleMeshError
from scalemesh.services.projects import dialect_named
from scalemesh.values import MOST_KEPT, BuildSettings
from scalemesh.web.bodies import read_bytes

MAX_FIELDS: Final = 40
MAX_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Form:
    """What somebody filled in, and what is wrong with it, by field."""

    values: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, ScaleMeshError] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """The field without blanks around it; "" where it is missing."""
        return self.values.get(name, "").strip()

    def text_or_none(self, name: str) -> str | None:
        return self.text(name) or None

    def raw(self, name: str) -> str:
        """The field as it was typed: passwords and values keep their blanks."""
        return self.values.get(name, "")

    def failing(self, name: str, error: ScaleMeshError) -> "Form":
        """The same form, to be shown again with *error* at the field *name*."""
        return Form(self.values, {**self.wrong, name: error})

    def build_settings(self) -> BuildSettings:
        """The settings that the form holds.

        Raises:
            InvalidError: its dialect is none; the form that we show offers no such thing.
        """
        return BuildSettings(
            root_directory=self.text("root_directory"),
            framework=self.text_or_none("framework"),
            install_command=self.text_or_none("install_command"),
            build_command=self.text_or_none("build_command"),
            output_directory=self.text_or_none("output_directory"),
            node_version=self.text_or_none("node_version"),
            dialect=dialect_named(self.text("dialect")),
        )


async def read_form(request: web.Request) -> Form:
    """Return the posted form. Ours have no files, so they come in one way only.

    Raises:
        InvalidError: it is none.
        TooLargeError: over MAX_BYTES.
        UnreachableError: it did not come in time.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise InvalidError("that is no form")
    data = await read_bytes(request, MAX_BYTES)
    try:
        posted = parse_qsl(data.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError as error:  # no UTF-8, or more fields
        raise InvalidError("that is not the form we showed") from error
    # Browsers send every line's end as CR LF; a variable's value has the one that was typed.
    return Form({name: value.replace("\r\n", "\n") for name, value in posted})


def kept_number(text: str) -> int:
    """The number of deployments or days that somebody wants kept.

    Raises:
        InvalidError: it is none, or too large.
    """
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) > MOST_KEPT:
        raise InvalidError("That is no number", fix=f"type 0 to {MOST_KEPT}, or leave it empty")
    return int(text)
