"""Where a build leaves its site: what the configuration says beforehand, and which folder is there afterwards."""

import json
import os
import posixpath
import re
from contextlib import suppress
from typing import Final

from builder.errors import BuildFailed
from builder.frameworks import Framework
from builder.rule_files import CONFIG, STATIC
from builder.tree import Tree, names

MAX_READ_CHARS: Final = 256 * 1024  #: of a configuration that is searched, not parsed


def candidates(row: Framework, tree: Tree) -> tuple[str, ...]:
    """Folders that may hold the output of *row*'s build in *tree*, best first; ``*`` stands for one name."""
    found = [*_told(row, tree), *(_angular(tree) if row.slug == "angular" else ()), *row.output]
    if row.slug == "static":
        return tuple(found)
    return tuple(dict.fromkeys((*found, STATIC)))


def find_output(wanted: tuple[str, ...], tree: Tree, *, by_hand: bool, what: str, hint: str) -> str:
    """The first of *wanted* that is a folder with something in it, relative to *tree*.

    What a build left by the Build Output API outweighs all but a folder that was set *by_hand*, as at Vercel.

    Raises:
        BuildFailed: no_output, with the folders that do exist.
    """
    if not by_hand and STATIC in wanted and tree.has_file(CONFIG) and _has_entries(tree, STATIC):
        return STATIC
    for pattern in wanted:
        for path in _expanded(pattern, tree):
            if _has_entries(tree, path) and (by_hand or path != "." or _has_page(tree, path)):
                return path
    expected = " or ".join(repr(path) for path in wanted[:3])
    there = ", ".join(name for name in tree.folders() if name not in {".git", "node_modules"})
    sentence = (
        f"There is no output: {what} should leave it in {expected}. Folders that exist: {there or 'none'}. "
        "Set the output directory to the one that holds the built site."
    )
    raise BuildFailed("no_output", f"{sentence} {hint}".strip())


def static_folder(wanted: tuple[str, ...], tree: Tree) -> tuple[str, ...]:
    """For a site without a build: the folders with an index page first."""
    return tuple(sorted(wanted, key=lambda path: not tree.has_file(f"{path}/index.html")))


def _told(row: Framework, tree: Tree) -> list[str]:
    told = []
    for each in row.output_from:
        for file in each.files:
            if match := re.search(each.pattern, (tree.text(file) or "")[:MAX_READ_CHARS]):
                path = posixpath.normpath(each.output.format(match[1].strip()))
                with suppress(OSError):
                    told.append("/".join(names(path)) or ".")
    return told


def _angular(tree: Tree) -> list[str]:
    """``outputPath`` of the default project: a folder, or {"base", "browser"}."""
    try:
        config = json.loads(tree.text("angular.json") or "{}")
        projects = config["projects"]
        project = projects.get(config.get("defaultProject")) or next(iter(projects.values()))
        path = project["architect"]["build"]["options"]["outputPath"]
        if isinstance(path, str):
            return [f"{path}/browser", path]
        return [posixpath.join(path["base"], path.get("browser", "browser")).rstrip("/"), path["base"]]
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return []


def _expanded(pattern: str, tree: Tree) -> list[str]:
    before, star, after = pattern.partition("*")
    if not star:
        return [pattern.strip("/") or "."]
    return [f"{before}{name}{after}" for name in tree.folders(before) if name != "node_modules"]


def _has_entries(tree: Tree, path: str) -> bool:
    with suppress(OSError), tree.directory(path) as opened:
        return bool(os.listdir(opened))  # noqa: PTH208  (by descriptor)
    return False


def _has_page(tree: Tree, path: str) -> bool:
    with suppress(OSError), tree.directory(path) as opened:
        return any(name.endswith((".html", ".htm")) for name in os.listdir(opened))  # noqa: PTH208
    return False
