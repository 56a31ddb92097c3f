"""What installed packages depend on, as names for caches; and when an install may be skipped because of that.

An install is skipped only where all that it would do is known to be done already: all that it reads is part of the key,
and all that it writes lies in ``node_modules`` (see builder.footprint for what it wrote elsewhere).
"""

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from builder.detect import Plan
from builder.locks import from_source
from builder.tree import MAX_CONFIG_BYTES, Tree

FORMAT: Final = "2"  #: of keys and archives; a change makes all that is kept unknown
MOST_FOLDERS: Final = 20_000  #: of a source that are looked at for manifests
MOST_MANIFESTS: Final = 2_000
LOCKS: Final = frozenset(
    {"package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb"}
)
#: Besides manifests and locks, what package managers read.
_READ: Final = LOCKS | {".npmrc", ".yarnrc", ".yarnrc.yml", "pnpm-workspace.yaml", ".pnpmfile.cjs", "bunfig.toml"}
_READ_ENDS: Final = (".patch", ".diff")
_READ_FOLDERS: Final = (".yarn/patches", ".yarn/plugins", ".yarn/releases")
#: Parts of a manifest that no install looks at.
_IDLE: Final = frozenset(
    {"description", "keywords", "author", "contributors", "license", "homepage", "repository", "bugs"}
)
#: Scripts of the project itself that package managers run at the end of an install, in their order.
HOOKS: Final = ("preinstall", "install", "postinstall", "preprepare", "prepare", "postprepare")
_SECTIONS: Final = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies")
#: Packages whose own install script reads the source of the project that they are installed into.
GENERATORS: Final = frozenset({"@prisma/client"})
#: One plain call of a package manager: whatever else a command does, skipping it would be noticed.
_PLAIN: Final = re.compile(
    r"(?:npx (?:-y |--yes )?(?:(?:-p |--package[= ])?\S+ )?)?"
    r"(?:npm|pnpm|yarn|bun)(?:@\S+)?(?: (?:ci|i|install|clean-install))?"
    r"(?: --?[A-Za-z][\w-]*(?:=[\w./-]+)?)*"
)
_PROGRAM: Final = re.compile(r"(?:.* )?(?:npm|pnpm|yarn|bun)(?:@\S+)?(?= |$)")  #: what comes before ``install``
#: Variables that package managers, and scripts of well-known packages, heed.
_HEEDED: Final = (
    *("NODE_", "npm_", "NPM_", "PNPM_", "pnpm_", "YARN_", "BUN_", "COREPACK_"),
    *("PUPPETEER_", "PLAYWRIGHT_", "CYPRESS_", "SHARP_", "SENTRYCLI_", "PRISMA_", "ELECTRON_"),
)


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of what an install needs and makes."""

    downloads: str  #: of what package managers download
    downloads_prefix: str  #: of the same for other locks
    modules: str | None  #: of what lies in node_modules afterwards; None: the install is never skipped
    why_never: str = ""  #: as part of a sentence; empty where nobody would expect it
    hooks: tuple[str, ...] = ()  #: commands to be run where the install is skipped


def keys(plan: Plan, source: Tree, env: Mapping[str, str]) -> Keys | None:
    """The keys of *plan*, before anything is installed; None where there is nothing to keep. *env*: of its commands."""
    if not plan.install_command:
        return None
    manager = _manager(plan)
    prefix = f"{manager}-{_short(_machine())}-"
    locks = _content(source, filter(None, (plan.lock_file, *_other_locks(plan))))
    manifest = source.text(_joined(plan.install_directory, "package.json")) or ""
    downloads = prefix + _digest(locks or manifest)
    if plan.package_manager is None or plan.lock_file is None:
        return Keys(downloads, prefix, None)
    project = _Project(source, plan.install_directory)
    why = project.why_never() or _why_never(plan, source)
    if why:
        return Keys(downloads, prefix, None, why)
    parts = (
        *(FORMAT, _machine(), str(plan.node), plan.install_command, plan.install_directory, plan.root_directory),
        project.content(),
        json.dumps(sorted((name, value) for name, value in env.items() if _is_heeded(name))),
    )
    return Keys(downloads, prefix, prefix + _digest("\0".join(parts)), "", _run_hooks(plan, project.hooks()))


class _Project:
    """The manifests below the folder in which packages are installed."""

    def __init__(self, source: Tree, directory: str) -> None:
        self._source, self._directory = source, directory
        self._root = _manifest(source, _joined(directory, "package.json"))
        self._has_workspaces = bool(self._root.get("workspaces")) or source.has_file(
            _joined(directory, "pnpm-workspace.yaml")
        )
        self._files = list(_read_files(source, directory))

    def hooks(self) -> tuple[str, ...]:
        return _hooks(self._root)

    def why_never(self) -> str:
        """Why more than the key may say decides what is installed; empty: nothing does."""
        if len(self._files) > MOST_MANIFESTS:
            return "the source has too many manifests"
        if large := [path for path in self._key_files() if self._source.size(path) >= MAX_CONFIG_BYTES]:
            return f"{large[0]} is too large"
        manifests = {path: _manifest(self._source, path) for path in self._manifests()}
        for path, manifest in manifests.items():
            if path != _joined(self._directory, "package.json") and _hooks(manifest):
                return f"{path} has a script {_hooks(manifest)[0]!r}"
            for name, wanted in _dependencies(manifest):
                if name in GENERATORS:
                    return f"{name} reads the source when it is installed"
                if wanted.startswith(("file:", "portal:", "./", "../", "/", "~")):
                    return f"{path} has a dependency in a folder ({name[:80]})"
        return self._copied()

    def content(self) -> str:
        """All that an install reads."""
        parts = []
        for path in self._key_files():
            text = self._source.text(path) or ""
            parts.append(f"{path}\0{_essence(text) if path.endswith('package.json') else text}")
        return "\0".join(parts)

    def _key_files(self) -> list[str]:
        return [*self._manifests(), *(path for path in self._files if not path.endswith("package.json"))]

    def _manifests(self) -> list[str]:
        """Of the project and its workspaces. Without workspaces, other manifests are nobody's."""
        own = _joined(self._directory, "package.json")
        return [path for path in self._files if path.endswith("package.json") and (self._has_workspaces or path == own)]

    def _copied(self) -> str:
        """Which lock says that a folder of the source is copied; with workspaces, each may have a lock of its own."""
        own = {_joined(self._directory, name) for name in LOCKS}
        for path in self._files:
            name = path.rpartition("/")[2]
            if name in LOCKS and (self._has_workspaces or path in own):
                text = self._source.text(path) or ""
                if found := from_source(name, text, has_workspaces=self._has_workspaces):
                    return f"{path} has a dependency in a folder ({found})"
        return ""


def _why_never(plan: Plan, source: Tree) -> str:
    if not _PLAIN.fullmatch(plan.install_command or ""):
        return "its command may do more than install"
    if source.has_file(_joined(plan.install_directory, "binding.gyp")):
        return "the project itself is compiled by it"
    if source.has_folder(_joined(plan.install_directory, "node_modules")):
        return "the source brings node_modules along"
    return ""


def _run_hooks(plan: Plan, hooks: tuple[str, ...]) -> tuple[str, ...]:
    """Commands that run those of *hooks* that the install would have run."""
    command = plan.install_command or ""
    program = _PROGRAM.match(command)
    if program is None or "--ignore-scripts" in command:
        return ()
    is_berry = "@yarnpkg/cli-dist" in command  # it runs no prepare
    return tuple(f"{program[0]} run {hook}" for hook in hooks if not (is_berry and "prepare" in hook))


def _manager(plan: Plan) -> str:
    if plan.package_manager is None:
        return "pip" if ".venv/bin/pip" in (plan.install_command or "") else "other"
    return re.sub(r"[^a-z]", "", plan.package_manager)


def _other_locks(plan: Plan) -> Iterator[str]:
    for name in ("bun.lock", "requirements.txt", "uv.lock", "poetry.lock"):
        yield _joined(plan.install_directory, name)


def _machine() -> str:
    """What compiled packages must fit."""
    with suppress(ValueError, OSError):
        if libc := os.confstr("CS_GNU_LIBC_VERSION"):
            return f"{platform.system()} {platform.machine()} {libc}"
    return f"{platform.system()} {platform.machine()} another libc"


def _is_heeded(name: str) -> bool:
    return name.startswith(_HEEDED) and not name.startswith(("npm_config_cache", "NODE_ENV", "NODE_EXTRA_CA"))


def _read_files(source: Tree, directory: str) -> Iterator[str]:
    """Paths of all manifests, locks, settings and patches that an install may read, sorted within a folder."""
    with suppress(OSError), source.directory(directory) as top:
        for count, (path, folders, files, _) in enumerate(os.fwalk(".", dir_fd=top)):
            if count > MOST_FOLDERS:
                yield from (f"{number}" for number in range(MOST_MANIFESTS + 1))  # too many is never
                return
            inner = path.removeprefix(".").lstrip("/")
            folders[:] = sorted(name for name in folders if name not in {"node_modules", ".git"})
            everything = any(f"{inner}/".startswith(f"{one}/") for one in _READ_FOLDERS)
            for name in sorted(files):
                if everything or name == "package.json" or name in _READ or name.endswith(_READ_ENDS):
                    yield _joined(directory, _joined(inner, name))


def _manifest(source: Tree, path: str) -> Mapping[str, Any]:
    try:
        found = json.loads(source.text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _hooks(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    scripts = manifest.get("scripts")
    return tuple(name for name in HOOKS if isinstance(scripts, dict) and scripts.get(name))


def _dependencies(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for section in _SECTIONS:
        found = manifest.get(section)
        if isinstance(found, dict):
            yield from ((str(name), str(wanted)) for name, wanted in found.items())


def _essence(text: str) -> str:
    """A manifest without what no install looks at: to change a build script keeps the packages."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(found, dict):
        return text
    kept = {name: value for name, value in found.items() if name not in _IDLE}
    if isinstance(scripts := kept.get("scripts"), dict):
        kept["scripts"] = {name: scripts[name] for name in _hooks(kept)}
    return json.dumps(kept, sort_keys=True)


def _content(source: Tree, paths: Iterable[str]) -> str:
    return "\0".join(text for path in paths if (text := source.text(path)))


def _joined(directory: str, name: str) -> str:
    return f"{directory}/{name}".strip("/")


def _short(text: str) -> str:
    return _digest(text)[:8]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:40]
