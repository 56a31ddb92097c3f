"""Rules as the manifest keeps them: JSON that leaves out whatever has its default, read back with nothing believed."""

import dataclasses
from typing import Any, Final

from scalemesh.decode import decode
from scalemesh.rules import Rules

MOST_RULES: Final = 20_000  #: of one deployment, all dialects' limits together


def write_rules(rules: Rules) -> dict[str, Any]:
    """*rules* as a JSON object; equal rules make equal objects."""
    found: dict[str, Any] = _written(rules)
    return found


def read_rules(document: object) -> Rules:
    """Read what ``write_rules`` made.

    Raises:
        InvalidError: it is none of ours, or damaged.
        ValueError: it holds more rules than can be.
    """
    rules = decode(Rules, document)
    if len(rules.first) + len(rules.missed) + len(rules.found) + len(rules.failed) > MOST_RULES:
        raise ValueError("too many rules")
    return rules


def _written(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {
            item.name: _written(found)
            for item in dataclasses.fields(value)
            if (found := getattr(value, item.name)) != _default_of(item)
        }
    if isinstance(value, tuple):
        return [_written(item) for item in value]
    return value


def _default_of(item: "dataclasses.Field[Any]") -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default
