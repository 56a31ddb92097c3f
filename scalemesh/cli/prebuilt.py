"""A folder that is built already: which of its files are the site, and which say how it is served."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.protocol import IN_OUTPUT, IN_SOURCE, MAX_RULE_FILE_BYTES, MOST_FUNCTIONS, RULES_FOLDER
from scalemesh.cli.folder import built_files
from scalemesh.cli.output import say
from scalemesh.errors import InvalidError

BUILD_OUTPUT_API: Final = ".vercel/output"
FUNCTION_CONFIG: Final = ".vc-config.json"
VERSION: Final = 3
MOST_SAID: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Prebuilt:
    files: Mapping[str, str]  #: path in the listing -> path in the folder
    functions: tuple[str, ...] = ()  #: addresses of functions, which are not served


def prebuilt_files(folder: Path) -> Prebuilt:
    """What of *folder* is published: all of it, or what the Build Output API (v3) calls the site where it has that.

    Raises:
        InvalidError: nothing of it would be served.
    """
    output = _build_output(folder)
    found = _plain(folder) if output is None else _by_build_output(folder, output)
    if not any(path not in IN_OUTPUT and not path.startswith(f"{RULES_FOLDER}/") for path in found.files):
        where = folder if output is None else f"{folder / output}/static"
        raise InvalidError(f"{where} has no files to deploy", fix="build the site first, or name the folder it is in")
    return found


def tell_functions(found: Prebuilt) -> None:
    """Say which functions will not be there."""
    for address in found.functions[:MOST_SAID]:
        say(f"Not served: the function {address} (only files are)")
    if (more := len(found.functions) - MOST_SAID) > 0:
        say(f"Not served: {more} more functions")


def _build_output(folder: Path) -> str | None:
    """Where in *folder* the output of the Build Output API lies; None where it has none."""
    if (folder / BUILD_OUTPUT_API / "config.json").is_file():
        return BUILD_OUTPUT_API
    config = folder / "config.json"
    if not (folder / "static").is_dir() or not config.is_file() or config.stat().st_size > MAX_RULE_FILE_BYTES:
        return None
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(config.read_bytes())
        if isinstance(found, dict) and found.get("version") == VERSION:
            return "."
    return None


def _plain(folder: Path) -> Prebuilt:
    """Rule files of the output are read where they lie; those of a source would be taken for files of the site."""
    moved = {name: f"{RULES_FOLDER}/{name}" for name in IN_SOURCE if name not in IN_OUTPUT}
    return Prebuilt(files={moved.get(path, path): path for path in built_files(folder)})


def _by_build_output(folder: Path, output: str) -> Prebuilt:
    above = "" if output == "." else f"{output}/"
    static = folder / output / "static"
    files = {path: f"{above}static/{path}" for path in (built_files(static) if static.is_dir() else ())}
    files |= {f"{RULES_FOLDER}/{name}": name for name in IN_SOURCE if (folder / name).is_file()}
    files[f"{RULES_FOLDER}/{BUILD_OUTPUT_API}/config.json"] = f"{above}config.json"
    functions = []
    for name in _functions(folder / output / "functions"):
        functions.append("/" + name.removesuffix(".func"))
        held = f"functions/{name}/{FUNCTION_CONFIG}"
        files[f"{RULES_FOLDER}/{BUILD_OUTPUT_API}/{held}"] = above + held
    return Prebuilt(files=files, functions=tuple(functions))


def _functions(folder: Path) -> Iterator[str]:
    """The folders of functions, sorted, relative to *folder*; links are none."""
    ending = f".func/{FUNCTION_CONFIG}"
    paths = [path for path in built_files(folder) if path.endswith(ending) and path.count(".func/") == 1]
    for path in paths[:MOST_FUNCTIONS]:
        if not (folder / path).is_symlink():
            yield path.removesuffix(f"/{FUNCTION_CONFIG}")
