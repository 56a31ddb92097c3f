"""The table of frameworks, read from frameworks.toml."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFrom:
    """A pattern in some files that tells where the output goes."""

    files: tuple[str, ...]
    pattern: str
    output: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """One row of the table; frameworks.toml explains each column."""

    slug: str
    name: str
    aliases: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    folder_config: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ("build",)
    script_has: str = ""
    installer: str = "node"
    python_package: str = ""
    build: str | None = None
    output: tuple[str, ...] = ()
    output_from: tuple[OutputFrom, ...] = ()
    immutable: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    node: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    static_files: tuple[str, ...] = ()
    static_has: str = ""
    static_hint: str = ""


@cache
def frameworks() -> tuple[Framework, ...]:
    """All rows, in their order."""
    loader = globals()["__loader__"]  # reads from a folder and from a zip archive alike
    data: bytes = loader.get_data(str(Path(__file__).with_name("frameworks.toml")))
    return tuple(_row(raw) for raw in tomllib.loads(data.decode())["framework"])


def framework(name: str) -> Framework | None:
    """The row of that slug or alias."""
    return next((row for row in frameworks() if name == row.slug or name in row.aliases), None)


def immutable_patterns(slug: str) -> tuple[str, ...]:
    """Globs of the files that *slug* names by a hash of their content; an unknown slug has none."""
    row = framework(slug)
    return row.immutable if row else ()


def _row(raw: Mapping[str, Any]) -> Framework:
    made: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
    made["output_from"] = tuple(
        OutputFrom(**{**each, "files": tuple(each["files"])}) for each in raw.get("output_from", ())
    )
    return Framework(**made)
