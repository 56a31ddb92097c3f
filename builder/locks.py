"""Which packages a lock file takes from folders and files of the source, where an install copies what it finds there.

The lock decides, not the manifests: overrides, resolutions and settings such as injectWorkspacePackages lead to such
packages as well, and what they come to stands in the lock alone. A package that is merely linked is no such thing.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

_MOST_SHOWN: Final = 80
#: ``resolution: {directory: packages/ui, type: directory}``, or a packed file of the source.
_PNPM: Final = ("type: directory", "tarball: file:")
#: Yarn names an entry by what asks for it, ``"ui@file:../ui"``; version 1 also takes bare paths.
_YARN: Final = re.compile(r"@(?:file:|portal:|exec:|\.{0,2}/|~/)")


def from_source(name: str, text: str, *, has_workspaces: bool) -> str:
    """What the lock *text* of the file *name* takes from the source by a copy, for people; empty: nothing.

    *has_workspaces*: manifests of folders that npm links are known, so that those may be linked.
    """
    if name == "pnpm-lock.yaml":
        found = [line for line in text.splitlines() if any(words in line for words in _PNPM)]
    elif name == "yarn.lock":
        found = [line for line in text.splitlines() if not line.startswith((" ", "#")) and _YARN.search(line)]
    else:
        found = list(_of_npm(text, has_workspaces))
    return found[0].strip("\"': ")[:_MOST_SHOWN] if found else ""


def _of_npm(text: str, has_workspaces: bool) -> Iterator[str]:
    try:
        lock = json.loads(text)
    except (ValueError, RecursionError):
        return  # npm does not install by it either
    packages = lock.get("packages") if isinstance(lock, dict) else None
    if isinstance(packages, dict):
        yield from (path for path, entry in packages.items() if _is_copied(entry, has_workspaces))
    elif found := re.search(r'"version": *"(file:[^"]*)', text):  # of npm 6, which does not tell links apart
        yield found[1]


def _is_copied(entry: Any, has_workspaces: bool) -> bool:
    if not isinstance(entry, dict):
        return False
    if entry.get("link"):
        return not has_workspaces
    return str(entry.get("resolved", "")).startswith("file:")
