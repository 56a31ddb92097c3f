"""What an install wrote besides the packages themselves: whoever skips it must not miss any of that."""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.packages import LOCKS
from builder.tree import Tree

CACHES: Final = "home/.cache/"
MOST_ENTRIES: Final = 200_000  #: more are not compared
#: Below the source: the packages, Git's own, and what package managers note for themselves.
_OF_PACKAGES: Final = frozenset({"node_modules", ".git", ".pnpm-store"})
_NOTES: Final = (".yarn/install-state.gz", ".yarn/build-state.yml")
#: Below the home folder: downloads and notes of package managers.
_OF_HOME: Final = frozenset(
    {
        *(
            ".npm",
            ".yarn",
            ".bun",
            ".yarnrc",
            ".node-gyp",
            ".cache/yarn",
            ".cache/pnpm",
            ".cache/node",
            ".cache/node-gyp",
        ),
        *(".cache/pip", ".cache/uv", ".cache/pypoetry", ".local/share/pnpm", ".local/state/pnpm", ".config/pnpm"),
        *(".config/yarn", ".config/configstore", ".cache/node-compile-cache"),
    }
)

Footprint = Mapping[str, tuple[int, int]]


def footprint(work: Path) -> Footprint | None:
    """All that lies in ``src`` and ``home`` but packages; None where that is too much to look at."""
    found: dict[str, tuple[int, int]] = {}
    for top in ("src", "home"):
        with suppress(OSError), Tree(work).directory(top) as opened:
            for path, folders, files, at in os.fwalk(".", dir_fd=opened):
                inner = path.removeprefix(".").lstrip("/")
                folders[:] = [name for name in folders if not _is_of_packages(top, f"{inner}/{name}".lstrip("/"))]
                for name in (*folders, *files):  # a link to a folder is among the folders
                    relative = f"{inner}/{name}".lstrip("/")
                    if not _is_of_packages(top, relative) and (facts := _facts(name, at)):
                        found[f"{top}/{relative}"] = facts
                if len(found) > MOST_ENTRIES:
                    return None
    return found


@dataclass(frozen=True, slots=True)
class Written:
    """What is new or changed: what can be kept with the packages, and the first that cannot; empty: there is none."""

    folders: tuple[str, ...] = ()
    elsewhere: str = ""


def written(before: Footprint | None, after: Footprint | None, *, below: str = "") -> Written:
    """What was written *below* a folder between the two.

    Scripts of packages put browsers and compiled parts of them into folders of their own in ``~/.cache``.
    """
    if before is None or after is None:
        return Written(elsewhere="more files than can be looked at")
    paths = changed(before, after, below)
    folders = {"/".join(path.split("/")[:3]) for path in paths if path.startswith(CACHES) and path.count("/") > 2}
    elsewhere = (path for path in paths if "/".join(path.split("/")[:3]) not in folders)
    return Written(tuple(sorted(folders)), next(elsewhere, ""))


def changed(before: Footprint, after: Footprint, below: str) -> list[str]:
    """The files *below* a folder that are new or changed, sorted."""
    return sorted(path for path, facts in after.items() if before.get(path) != facts and path.startswith(below))


def _is_of_packages(top: str, path: str) -> bool:
    if top == "home":
        return path in _OF_HOME
    name = path.rpartition("/")[2]
    return name in _OF_PACKAGES or name in LOCKS or path.endswith(_NOTES)


def _facts(name: str, folder: int) -> tuple[int, int] | None:
    """When it was changed, and its size; None for a folder, which holds what matters."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    return None if stat.S_ISDIR(found.st_mode) else (found.st_mtime_ns, found.st_size)
