"""Finds the rule files of a folder on this machine, as a deployment of it would have them.

``_redirects`` and ``_headers`` belong to a site's output. In the folder of a source they are looked for where they
come from: in the folder that a build copies as it is (``static``, ``public``), else in what a build has left.
"""

import json
import os
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import json5

from builder.protocol import IN_SOURCE, MOST_FUNCTIONS
from scalemesh.errors import InvalidError
from scalemesh.services.rules.sources import CONFIG, FUNCTIONS, IN_OUTPUT, Sources, check_size

OF_OUTPUT: Final = ("_redirects", "_headers")
COPIED: Final = ("static", "public")  #: in this order: where a framework has both, it builds into the other
BUILT: Final = ("dist", "build", "out")
NO_SITE: Final = frozenset({".git", "node_modules"})
MAX_PATHS: Final = 200_000  #: as many as a deployment may have files


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFiles:
    """What was found, and where."""

    sources: Sources
    paths: dict[str, str]  #: name of a rule file -> its path below the folder


def find_rule_files(folder: Path) -> RuleFiles:
    """The rule files of *folder*, which is a site, or a source that a build makes one of.

    Raises:
        RulesError: one is too long for any host.
        InvalidError: one cannot be read.
    """
    paths = {name: name for name in (*IN_SOURCE, CONFIG) if (folder / name).is_file()}
    files = {name: _read(folder, path) for name, path in paths.items()}
    files |= dict.fromkeys(_functions(folder), b"")
    told = _told_outputs(files)
    for name in OF_OUTPUT:
        for place in ("", *COPIED, *told, *BUILT):
            if (folder / place / name).is_file():
                paths[name] = (Path(place) / name).as_posix()
                files[name] = _read(folder, paths[name])
                break
    site = _site(folder, told)
    return RuleFiles(sources=Sources(files, frozenset(_served(site))), paths=paths)


def _read(folder: Path, path: str) -> bytes:
    try:
        check_size(path, (folder / path).stat().st_size)
        return (folder / path).read_bytes()
    except OSError as error:
        raise InvalidError(f"{path} cannot be read", why=error.strerror or str(error)) from error


def _functions(folder: Path) -> list[str]:
    """The functions that a build made: they are named as not served."""
    found = islice((folder / FUNCTIONS).rglob("*.func/.vc-config.json"), MOST_FUNCTIONS)
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _told_outputs(files: dict[str, bytes]) -> Sequence[str]:
    """The output folders that the files name themselves, where they lie inside."""
    named = [
        _at(_toml(files.get("netlify.toml")), "build", "publish"),
        _at(_toml(files.get("wrangler.toml")), "pages_build_output_dir"),
        _at(_json5(files.get("wrangler.jsonc", files.get("wrangler.json"))), "pages_build_output_dir"),
        _at(_json5(files.get("vercel.json")), "outputDirectory"),
    ]
    clean = [os.path.normpath(name) for name in named if isinstance(name, str) and "\0" not in name]
    return [name for name in clean if not name.startswith(("..", "/")) and name != "."]


def _at(document: Any, *keys: str) -> Any:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _toml(data: bytes | None) -> Any:
    with suppress(ValueError, RecursionError):
        return tomllib.loads((data or b"").decode())
    return None


def _json5(data: bytes | None) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(data or b"null")
    with suppress(ValueError, RecursionError):
        return json5.loads((data or b"null").decode("utf-8", "replace")[:64_000])
    return None


def _site(folder: Path, told: Sequence[str]) -> Path:
    """The folder whose files are served: what a build has left, else the folder itself."""
    if (folder / CONFIG).is_file():
        return folder / ".vercel/output/static"
    built = (*told, *BUILT, "public") if not (folder / "index.html").is_file() else ()
    return next((folder / name for name in built if (folder / name / "index.html").is_file()), folder)


def _served(site: Path) -> Iterator[str]:
    return (path for path in islice(_walked(site), MAX_PATHS) if path not in IN_OUTPUT)


def _walked(site: Path) -> Iterator[str]:
    for top, folders, names in os.walk(site):
        folders[:] = [name for name in folders if name not in NO_SITE]
        for name in names:
            yield (Path(top) / name).relative_to(site).as_posix()
