"""A dict from outside -> a frozen dataclass, with every mistake named; config and request bodies alike."""

import dataclasses
import difflib
import enum
import os
import re
import types
import typing
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

from scalemesh.errors import InvalidError
from scalemesh.values import Secret

T = TypeVar("T")
_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAMES: Final = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    dict: "a table",
}
_SHOWN = 60
_MOST_MISTAKES = 50  #: told, and looked for: a stranger may send a hundred thousand unknown names


def decode(cls: type[T], data: object, *, environ: Mapping[str, str] | None = None) -> T:
    """Return *data* as *cls*, a dataclass.

    Unknown names are mistakes, with the nearest right one as a hint; a bool is no int. Where *environ* is given,
    ``${NAME}`` inside strings is filled from it. A ValueError of ``__post_init__`` counts as a mistake there.

    Raises:
        InvalidError: everything that is wrong, a line each.
    """
    mistakes: list[str] = []
    value = _Decoder(mistakes, environ).table(cls, data, "")
    if mistakes:
        rest = len(mistakes) - _MOST_MISTAKES
        told = [*mistakes[:_MOST_MISTAKES], *([f"and {rest} more"] if rest > 0 else [])]
        raise InvalidError("\n".join(told))
    return typing.cast("T", value)


class _Decoder:
    def __init__(self, mistakes: list[str], environ: Mapping[str, str] | None) -> None:
        self._mistakes = mistakes
        self._environ = environ
        self._shapes: dict[type, tuple[dict[str, Any], dict[str, dataclasses.Field[Any]]]] = {}

    def table(self, cls: type, data: object, where: str) -> object:
        if not isinstance(data, dict):
            return self._wrong(where or "the whole", data, "a table")
        before = len(self._mistakes)
        hints, fields = self._shape(cls)
        for name in islice((str(name) for name in data if name not in fields), _MOST_MISTAKES):
            self._unknown(_join(where, name[:_SHOWN]), name[:_SHOWN], fields)
        found: dict[str, object] = {}
        for name, field in fields.items():
            if name in data:
                found[name] = self.value(hints[name], data[name], _join(where, name))
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                self._mistakes.append(f"{_join(where, name)}: missing")
        if len(self._mistakes) > before:
            return None
        try:
            return cls(**found)
        except ValueError as error:
            self._mistakes.append(f"{where + ': ' if where else ''}{error}")
            return None

    def _shape(self, cls: type) -> tuple[dict[str, Any], "dict[str, dataclasses.Field[Any]]"]:
        """Types and fields by name, looked up once: a site's rules are many tables of few classes."""
        if cls not in self._shapes:
            fields = {field.name: field for field in dataclasses.fields(cls)}
            self._shapes[cls] = (typing.get_type_hints(cls), fields)
        return self._shapes[cls]

    def value(self, kind: Any, data: object, where: str) -> object:
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return self._optional(args, data, where)
        if origin is tuple:
            return self._sequence(args[0], data, where)
        if origin is dict:
            return self._mapping(args[1], data, where)
        if origin is typing.Literal:
            return data if data in args else self._wrong(where, data, "one of " + ", ".join(map(str, args)))
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return self.table(kind, data, where)
        return self._scalar(getattr(kind, "__supertype__", kind), data, where)

    def _optional(self, args: tuple[Any, ...], data: object, where: str) -> object:
        if data is None and type(None) in args:
            return None
        rest = [arg for arg in args if arg is not type(None)]
        fitting = [arg for arg in rest if data in typing.get_args(arg) or type(data) is arg]
        if not fitting and len(rest) > 1:
            return self._wrong(where, data, " or ".join(_named(arg) for arg in rest))
        return self.value((fitting or rest)[0], data, where)

    def _sequence(self, kind: Any, data: object, where: str) -> object:
        if not isinstance(data, list):
            return self._wrong(where, data, "a list")
        return tuple(self.value(kind, item, f"{where}[{index}]") for index, item in enumerate(data))

    def _mapping(self, kind: Any, data: object, where: str) -> object:
        if not isinstance(data, dict):
            return self._wrong(where, data, "a table")
        return {str(name): self.value(kind, item, _join(where, str(name))) for name, item in data.items()}

    def _scalar(self, kind: type, data: object, where: str) -> object:
        if issubclass(kind, enum.Enum):
            words = [member.value for member in kind]
            return kind(data) if data in words else self._wrong(where, data, "one of " + ", ".join(words))
        if issubclass(kind, str | Path):
            if not isinstance(data, str):
                return self._wrong(where, data, "a string")
            text = self._filled(data, where)
            return Path(text).expanduser() if issubclass(kind, Path) else kind(text)
        if kind is float and isinstance(data, int) and not isinstance(data, bool):
            return float(data)
        if kind is not object and type(data) is not kind:
            return self._wrong(where, data, _NAMES.get(kind, kind.__name__))
        return data

    def _filled(self, text: str, where: str) -> str:
        if self._environ is None:
            return text
        for name in _REFERENCE.findall(text):
            if name not in self._environ:
                self._mistakes.append(f"{where}: the environment has no variable {name}")
        environ = self._environ
        return _REFERENCE.sub(lambda match: environ.get(match[1], ""), text)

    def _wrong(self, where: str, data: object, wanted: str) -> object:
        shown = repr(data) if not isinstance(data, Secret) else "***"
        shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
        self._mistakes.append(f"{where} = {shown}: must be {wanted}")
        return None

    def _unknown(self, where: str, name: str, known: Mapping[str, object]) -> None:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else "; known: " + ", ".join(known)
        self._mistakes.append(f"{where}: unknown name{hint}")


def _named(kind: Any) -> str:
    words = typing.get_args(kind)
    return ", ".join(f'"{word}"' for word in words) if words else _NAMES.get(kind, kind.__name__)


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def environment() -> Mapping[str, str]:
    """The process's own environment, for config files."""
    return os.environ
