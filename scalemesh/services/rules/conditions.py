"""``has`` and ``missing`` of Vercel's rules: what else than the path a rule asks about."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, cast, get_args

from scalemesh.errors import InvalidError
from scalemesh.patterns import check
from scalemesh.rules import Check, Condition

MOST_CONDITIONS: Final = 16
MAX_KEY: Final = 4096
MAX_VALUE: Final = 4096
Kind = Literal["host", "header", "cookie", "query"]
TYPES: Final = ("host", "header", "cookie", "query")
_OPERATORS: Final = tuple(name for name in get_args(Check) if name != "exists")
_LISTS: Final = ("inc", "ninc")
_SPECIAL: Final = re.compile(r"[\\^$.|?*+()\[\]{}]")
_GROUP: Final = re.compile(r"\(\?<([A-Za-z_]\w*)>", re.ASCII)


def read_conditions(rule: Mapping[str, Any], name: Literal["has", "missing"]) -> tuple[Condition, ...]:
    """The conditions of *rule* under *name*.

    Raises:
        InvalidError: one is malformed, or there are too many.
    """
    listed = rule.get(name, [])
    if not isinstance(listed, list):
        raise InvalidError(f"`{name}` is no list", fix=f'write "{name}": [{{ "type": "host", "value": "…" }}]')
    if len(listed) > MOST_CONDITIONS:
        raise InvalidError(f"`{name}` has {len(listed)} conditions", why=f"at most {MOST_CONDITIONS} are allowed")
    return tuple(condition for item in listed for condition in _read(item, name))


def captured_names(conditions: tuple[Condition, ...]) -> frozenset[str]:
    """What the conditions capture, by the names that a destination may use."""
    found = {name for one in conditions if one.check == "re" for name in _GROUP.findall(one.values[0])}
    return frozenset(found | {one.capture for one in conditions if one.capture})


def _read(item: Any, name: str) -> Iterator[Condition]:
    kind, key, value = _parts(item, name)
    if isinstance(value, dict):
        yield from _by_operators(value, kind, key, name)
    elif value is None or value == "":
        if kind == "host":
            raise InvalidError(f"a condition of `{name}` asks for a host, and names none", fix='add a "value"')
        yield Condition(of=kind, key=key, capture=key if re.fullmatch(r"\w+", key, re.ASCII) else "")
    elif not isinstance(value, str) or len(value) > MAX_VALUE:
        raise InvalidError(f"the value of a condition of `{name}` is no text of at most {MAX_VALUE} characters")
    else:
        is_pattern = _SPECIAL.search(value) is not None
        yield Condition(
            of=kind,
            key=key,
            check="re" if is_pattern else "eq",
            values=(_checked(value) if is_pattern else value,),
            capture="host" if kind == "host" else "",
        )


def _parts(item: Any, name: str) -> tuple[Kind, str, Any]:
    """Type, key and value."""
    if not isinstance(item, dict):
        raise InvalidError(f"a condition of `{name}` is no object", fix='write { "type": "header", "key": "…" }')
    kind = item.get("type")
    if kind not in TYPES:
        raise InvalidError(f"a condition of `{name}` has the type {kind!r}", fix=f"write one of {', '.join(TYPES)}")
    if unknown := item.keys() - {"type", "key", "value"}:
        raise InvalidError(f"a condition of `{name}` has the unknown key {min(unknown)!r}")
    if kind == "host":
        return kind, "", item.get("value")
    key = item.get("key")
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY:
        raise InvalidError(f"a condition of `{name}` has no key of 1 to {MAX_KEY} characters")
    return kind, key.lower() if kind == "header" else key, item.get("value")


def _by_operators(operators: Mapping[str, Any], kind: Kind, key: str, name: str) -> Iterator[Condition]:
    if unknown := operators.keys() - set(_OPERATORS):
        raise InvalidError(f"{min(unknown)!r} is no operator", fix=f"write one of {', '.join(_OPERATORS)}")
    if not operators:
        raise InvalidError(f"a condition of `{name}` has an empty value", fix='write a text, or { "eq": "…" }')
    if name == "missing" and len(operators) > 1:
        raise InvalidError(
            "a condition of `missing` has several operators",
            why="it would have to be missing that all of them hold",
            fix='write one regular expression, { "re": "…" }',
        )
    for operator, wanted in operators.items():
        values = _values(operator, wanted)
        yield Condition(of=kind, key=key, check=cast(Check, operator), values=values)


def _values(operator: str, wanted: Any) -> tuple[str, ...]:
    if operator in _LISTS:
        if not isinstance(wanted, list) or not all(isinstance(one, str) and len(one) <= MAX_VALUE for one in wanted):
            raise InvalidError(f"{operator!r} has no list of texts")
        return tuple(wanted)
    if operator in ("gt", "gte", "lt", "lte"):
        if isinstance(wanted, bool) or not isinstance(wanted, int | float):
            raise InvalidError(f"{operator!r} has no number")
        return (str(wanted),)
    if isinstance(wanted, bool) or not isinstance(wanted, str | int | float) or len(str(wanted)) > MAX_VALUE:
        raise InvalidError(f"{operator!r} has no text of at most {MAX_VALUE} characters")
    return (_checked(str(wanted)) if operator == "re" else str(wanted),)


def _checked(pattern: str) -> str:
    check(pattern)
    return pattern
