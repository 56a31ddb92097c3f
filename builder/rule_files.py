"""The rule files of a source: what says how a site is served, and is read by the daemon, never served itself.

They lie beside the output, in the root directory; those of the Build Output API lie above its ``static`` folder. They
are read when the build is over, since builds make them too.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from builder.collect import Collected, Found, hashed, unusable
from builder.errors import BuildFailed
from builder.hosts import NETLIFY, netlify_folder
from builder.protocol import IN_OUTPUT, IN_SOURCE, MAX_RULE_FILE_BYTES, MOST_FUNCTIONS, RULES_FOLDER
from builder.tree import Tree, open_folder

BUILD_OUTPUT_API: Final = ".vercel/output"
STATIC: Final = f"{BUILD_OUTPUT_API}/static"
CONFIG: Final = f"{BUILD_OUTPUT_API}/config.json"
FUNCTIONS: Final = f"{BUILD_OUTPUT_API}/functions"
FUNCTION_CONFIG: Final = ".vc-config.json"
MIDDLEWARE: Final = ("middleware.js", "middleware.ts", "src/middleware.js", "src/middleware.ts")
CODE: Final = (".js", ".mjs", ".cjs", ".ts", ".mts", ".tsx", ".py", ".go", ".rb")
MOST_LOOKED_AT: Final = 100_000  #: entries below one folder
MAX_DEPTH: Final = 50


def collect_rule_files(source: Tree, directory: str, output: str, go_on: Callable[[], None]) -> list[Collected]:
    """The rule files of a source, under their own names, held below *source*.

    They lie in the root directory *directory*, whose output is the folder *output* in it; netlify.toml may lie at
    the top of the source, and name that directory as its base.

    Raises:
        BuildFailed: rejected, where one is longer than any host would read.
    """
    wanted = [*IN_SOURCE, *([CONFIG] if output == STATIC else [])]
    folders = {NETLIFY: netlify_folder(source, directory)}
    found = [one for name in wanted if (one := _file(source, folders.get(name, directory), name)) is not None]
    for one in found:
        if one.size > MAX_RULE_FILE_BYTES:
            limit = MAX_RULE_FILE_BYTES >> 20
            raise BuildFailed("rejected", f"{one.held_at} is longer than {limit} MiB, which no rule file may be.")
    if output == STATIC:
        found += _functions(source, directory)
    return hashed(source, found, go_on)


def functions_of_source(root: Tree) -> list[str]:
    """Files of a source for Vercel that are code to run there (``api/`` and middleware); sorted, a bounded number.

    They are told, since nothing runs them here, and never published as if they were files of the site.
    """
    if not root.has_file("vercel.json"):
        return []
    found = [name for name in MIDDLEWARE if root.has_file(name)]
    with suppress(OSError), root.directory("api") as top:
        for looked_at, path in enumerate(_below(top, "api/", 0)):
            if path.endswith(CODE) and not path.endswith(".d.ts") and "/_" not in path and "/." not in path:
                found.append(path)
            if looked_at >= MOST_LOOKED_AT:
                break
    return sorted(found)


def is_served(path: str) -> bool:
    """Whether a file of an output is more than a rule file."""
    return path not in IN_OUTPUT and not path.startswith(f"{RULES_FOLDER}/")


def _file(source: Tree, folder: str, name: str) -> Found | None:
    path = f"{folder}/{name}".lstrip("/")
    with suppress(OSError), source.file(path) as opened:
        return Found(f"{RULES_FOLDER}/{name}", path, os.fstat(opened).st_size)
    return None


def _functions(source: Tree, directory: str) -> list[Found]:
    """The configuration of each function, by which it can be named as not served."""
    found: list[Found] = []
    with suppress(OSError), source.directory(f"{directory}/{FUNCTIONS}".lstrip("/")) as top:
        for looked_at, path in enumerate(_below(top, "", 0)):
            name = f"{FUNCTIONS}/{path}/{FUNCTION_CONFIG}"
            one = _file(source, directory, name) if path.endswith(".func") else None
            if one is not None and one.size <= MAX_RULE_FILE_BYTES and not unusable(one.path):
                found.append(one)
            if looked_at >= MOST_LOOKED_AT or len(found) >= MOST_FUNCTIONS:
                break
    return sorted(found, key=lambda one: one.path)


def _below(folder: int, above: str, depth: int) -> Iterator[str]:
    """All names below *folder*, but nothing inside a function."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = above + entry.name
            yield path
            if path.endswith(".func") or depth >= MAX_DEPTH or not _is_folder(folder, entry.name):
                continue
            with suppress(OSError):
                inner = open_folder(folder, entry.name)
                try:
                    yield from _below(inner, f"{path}/", depth + 1)
                finally:
                    os.close(inner)


def _is_folder(folder: int, name: str) -> bool:
    with suppress(OSError):
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    return False
