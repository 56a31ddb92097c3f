"""Which package manager a project uses, by its lock file, and the commands of that manager."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from builder.tree import Tree

LOCKS: Final = (
    ("pnpm-lock.yaml", "pnpm"),
    ("yarn.lock", "yarn"),
    ("package-lock.json", "npm"),
    ("npm-shrinkwrap.json", "npm"),
)
_PINNED: Final = re.compile(r"(npm|pnpm|yarn)@(\d+(?:\.\d+){0,2}(?:-[\w.]+)?)(?:\+.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Packager:
    """One package manager as this project uses it."""

    name: str
    run: str  #: how its program is called: ``npm``, ``npx -y pnpm@9``
    install: str | None  #: None: there is nothing to install
    directory: str  #: where the lock file lies: where to install
    lock: str | None  #: path of the lock file
    why: str
    warnings: tuple[str, ...] = ()

    def script(self, name: str) -> str:
        """The command that runs a script of package.json."""
        return f"{self.run} run {name}"


def find_packager(tree: Tree, root: str, package: Mapping[str, Any]) -> Packager:
    """The package manager of the project in the folder *root* of *tree*; a lock file above *root* counts too."""
    found = _lock(tree, root)
    pinned = _PINNED.fullmatch(str(package.get("packageManager", "")))
    if found is None:
        return _without_lock(tree, root, package, pinned)
    directory, file, name = found
    lock = f"{directory}/{file}" if directory else file
    if pinned and pinned[1] == name:
        return _locked(name, pinned[2], directory, lock, f"packageManager is {pinned[0]} and {lock} exists")
    return _locked(name, _version(tree, name, lock), directory, lock, f"{lock} exists")


def _lock(tree: Tree, root: str) -> tuple[str, str, str] | None:
    folder = PurePosixPath(root or ".")
    for directory in (folder, *folder.parents):
        where = "" if str(directory) == "." else str(directory)
        for file, name in LOCKS:
            if tree.has_file(f"{where}/{file}" if where else file):
                return where, file, name
    return None


def _without_lock(tree: Tree, root: str, package: Mapping[str, Any], pinned: re.Match[str] | None) -> Packager:
    name = pinned[1] if pinned else "npm"
    run = _program(name, pinned[2]) if pinned else "npm"
    wants = any(package.get(kind) for kind in ("dependencies", "devDependencies", "workspaces"))
    warnings = []
    if wants:
        warnings.append(
            "There is no lock file, so each build may get other versions. Commit the one that your package "
            "manager writes."
        )
    if any(tree.has_file(f"{root}/{file}".lstrip("/")) for file in ("bun.lock", "bun.lockb")):
        warnings.append("bun.lock is not read: the packages are installed by npm.")
    return Packager(
        name=name,
        run=run,
        install=f"{run} install" if wants else None,
        directory=root,
        lock=None,
        why=f"packageManager is {pinned[0]}" if pinned else "there is no lock file",
        warnings=tuple(warnings),
    )


def _locked(name: str, version: str, directory: str, lock: str, why: str) -> Packager:
    run = _program(name, version)
    if name == "npm":
        install = f"{run} ci"
    elif name == "pnpm" or not version.startswith("1"):
        install = f"{run} install {'--frozen-lockfile' if name == 'pnpm' else '--immutable'}"
    else:
        install = f"{run} install --frozen-lockfile --non-interactive"
    return Packager(name=name, run=run, install=install, directory=directory, lock=lock, why=why)


def _program(name: str, version: str) -> str:
    """How it is called: npm comes with Node, whatever its version; the others are fetched by npx."""
    if name == "npm":
        return "npm"
    if name == "yarn" and version and not version.startswith("1"):
        return f"npx -y -p @yarnpkg/cli-dist@{version} yarn"
    return f"npx -y {name}@{version}"


def _version(tree: Tree, name: str, lock: str) -> str:
    head = (tree.text(lock) or "")[:4000]
    if name == "pnpm":
        match = re.search(r"^lockfileVersion:\s*'?(\d+)", head, re.MULTILINE)
        return {"5": "7", "6": "8"}.get(match[1] if match else "", "9")
    if name == "yarn":
        return "4" if "__metadata:" in head else "1"
    return ""
