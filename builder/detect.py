"""From a source folder to a plan: which framework, which commands, which output, and why each."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.errors import BuildFailed
from builder.frameworks import Framework, framework, frameworks
from builder.hosts import Netlify, netlify_folder, read_netlify
from builder.job import BuildSettings
from builder.nodes import Choice, Node, Wish, choose
from builder.outputs import candidates, static_folder
from builder.overrides import Override, find_overrides, read_json
from builder.packagers import Packager, find_packager
from builder.tree import Tree, names


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be done with a source. Paths are relative to the source; commands run in ``root_directory``."""

    framework: str
    framework_name: str
    root_directory: str
    package_manager: str | None
    lock_file: str | None
    install_command: str | None
    install_directory: str  #: differs from root_directory where the lock file lies above it
    build_command: str | None
    ignore_command: str | None
    output_candidates: tuple[str, ...]  #: below root_directory, best first; * stands for one folder
    output_by_hand: bool
    node: Node | None
    env: Mapping[str, str]
    hint: str  #: for the sentence when there is no output
    why: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For people and programs that ask what would be done."""
        return {
            "framework": self.framework,
            "name": self.framework_name,
            "root_directory": self.root_directory,
            "package_manager": self.package_manager,
            "lock_file": self.lock_file,
            "install_command": self.install_command,
            "install_directory": self.install_directory,
            "build_command": self.build_command,
            "ignore_command": self.ignore_command,
            "output_directory": self.output_candidates[0] if self.output_candidates else None,
            "output_candidates": list(self.output_candidates),
            "node": str(self.node) if self.node else None,
            "env": dict(self.env),
            "why": dict(self.why),
            "warnings": list(self.warnings),
        }


def plan(root: Path, settings: BuildSettings, nodes: Sequence[Node]) -> Plan:
    """Look at the source in *root* and decide. Runs nothing and follows no link.

    Raises:
        BuildFailed: rejected or no_output, where a file or a setting makes no sense.
    """
    source = Tree(root)
    at_top = read_netlify(source) or Netlify()
    directory = _root_directory(source, settings.root_directory or at_top.base)
    tree = source.below(directory)
    netlify = read_netlify(source.below(netlify_folder(source, directory)))
    package = read_json(tree, "package.json")
    by_hand = find_overrides(tree, settings, netlify)
    row, why = _framework(tree, package, by_hand.get("framework"))
    packager = find_packager(source, directory, package) if tree.has_file("package.json") else None
    planner = _Planner(source, directory, tree, package, by_hand, netlify or Netlify(), row, packager)
    return planner.plan(why, settings, nodes)


@dataclass(frozen=True, slots=True)
class _Planner:
    source: Tree
    directory: str
    tree: Tree
    package: Mapping[str, Any]
    by_hand: Mapping[str, Override]
    netlify: Netlify
    row: Framework
    packager: Packager | None

    def plan(self, framework_why: str, settings: BuildSettings, nodes: Sequence[Node]) -> Plan:
        install, install_why = self._install()
        build, build_why = self._build()
        outputs, output_why = self._outputs()
        node = self._node(settings, nodes)
        ignore = self.by_hand.get("ignore_command")
        why = {"framework": framework_why, "install": install_why, "build": build_why, "output": output_why}
        return Plan(
            framework=self.row.slug,
            framework_name=self.row.name,
            root_directory=self.directory,
            package_manager=self.packager.name if self.packager else None,
            lock_file=self.packager.lock if self.packager else None,
            install_command=install,
            install_directory=self.directory if self._own("install_command") else self._install_directory(),
            build_command=build,
            ignore_command=ignore.value or None if ignore else None,
            output_candidates=outputs,
            output_by_hand=self._own("output_directory"),
            node=node.node,
            env={**self.row.env, **self.netlify.env},
            hint=self.row.static_hint,
            why={**why, **({"node": node.why} if node.node else {})},
            warnings=(
                *self.netlify.warnings,
                *(self.packager.warnings if self.packager else ()),
                *node.warnings,
                *self._static_warning(),
            ),
        )

    def _own(self, name: str) -> bool:
        return bool(self.by_hand.get(name) and self.by_hand[name].value)

    def _install_directory(self) -> str:
        return self.packager.directory if self.packager else self.directory

    def _install(self) -> tuple[str | None, str]:
        if own := self.by_hand.get("install_command"):
            return own.value or None, own.why
        if self.row.installer == "python":
            return self._python()
        if self.packager is None:
            return None, "there is no package.json"
        return self.packager.install, self.packager.why

    def _python(self) -> tuple[str, str]:
        if self.tree.has_file("requirements.txt"):
            wanted, why = "-r requirements.txt", "requirements.txt exists"
        else:
            wanted, why = self.row.python_package, "there is no requirements.txt"
        return f"python3 -m venv .venv && .venv/bin/pip install -q {wanted}", why

    def _build(self) -> tuple[str | None, str]:
        if own := self.by_hand.get("build_command"):
            return own.value or None, own.why
        if self.packager and (name := _script(self.row, self.package)):
            return self.packager.script(name), f"package.json has a script {name!r}"
        if self.row.build:
            return self.row.build, f"this is how {self.row.name} is built"
        return None, "there is nothing to build"

    def _outputs(self) -> tuple[tuple[str, ...], str]:
        own = self.by_hand.get("output_directory")
        if own and own.value:
            return (_inside(own.value, "The output directory"),), own.why
        found = candidates(self.row, self.tree)
        if self.row.slug == "static":
            return static_folder(found, self.tree), "the folder with the pages is published as it is"
        return found, f"{self.row.name} writes there"

    def _node(self, settings: BuildSettings, nodes: Sequence[Node]) -> Choice:
        if self.packager is None and not settings.node_version:
            return Choice(nodes[0] if nodes else None, "it is the newest that is installed")
        engines = self.package.get("engines")
        texts = (
            (settings.node_version, "the project's setting"),
            (_first_line(self.tree.text(".nvmrc") or self.source.text(".nvmrc")), ".nvmrc"),
            (_first_line(self.tree.text(".node-version") or self.source.text(".node-version")), ".node-version"),
            (self.netlify.env.get("NODE_VERSION"), "NODE_VERSION in netlify.toml"),
            (engines.get("node") if isinstance(engines, dict) else None, "engines.node in package.json"),
            (self.row.node, self.row.name),
        )
        return choose(nodes, [Wish(text, asker) for text, asker in texts if text and isinstance(text, str)])

    def _static_warning(self) -> tuple[str, ...]:
        if not self.row.static_has or self._own("build_command") or self._own("output_directory"):
            return ()
        texts = (self.tree.text(file) or "" for file in self.row.static_files)
        return () if any(re.search(self.row.static_has, text) for text in texts) else (self.row.static_hint,)


def _framework(tree: Tree, package: Mapping[str, Any], by_hand: Override | None) -> tuple[Framework, str]:
    if by_hand and by_hand.value:
        row = framework(by_hand.value)
        if row is None:
            known = ", ".join(each.slug for each in frameworks())
            raise BuildFailed("rejected", f"The framework {by_hand.value[:60]!r} is not known. Known are: {known}.")
        if row.slug != "other":
            return row, by_hand.why
    else:
        for row in frameworks():
            if why := _proof(row, tree, package):
                return row, why
    if _script(_named("other"), package):
        return _named("other"), "package.json has a build script and names no framework that is known"
    return _named("static"), "nothing here needs to be built"


def _proof(row: Framework, tree: Tree, package: Mapping[str, Any]) -> str:
    for kind in ("dependencies", "devDependencies"):
        section = package.get(kind)
        if isinstance(section, dict) and (found := next((n for n in row.dependencies if n in section), None)):
            return f"package.json depends on {found}"
    if found := next((file for file in row.config if tree.has_file(file)), None):
        return f"{found} exists"
    if row.folders and (found := next((file for file in row.folder_config if tree.has_file(file)), None)):
        folders = [name for name in row.folders if tree.has_folder(name)]
        if len(folders) >= 2:
            return f"{found} and the folders {' and '.join(folders[:2])} exist"
    return ""


def _script(row: Framework, package: Mapping[str, Any]) -> str | None:
    scripts = package.get("scripts")
    if not isinstance(scripts, dict) or not row.scripts:
        return None
    for name in ("vercel-build", *row.scripts):
        text = scripts.get(name)
        if isinstance(text, str) and text.strip() and (row.script_has in text or name == "vercel-build"):
            return name
    return None


def _named(slug: str) -> Framework:
    row = framework(slug)
    if row is None:
        raise LookupError(slug)
    return row


def _root_directory(source: Tree, path: str) -> str:
    directory = _inside(path, "The root directory")
    directory = "" if directory == "." else directory
    if directory and not source.has_folder(directory):
        there = ", ".join(source.folders()[:30]) or "none"
        raise BuildFailed(
            "no_output", f"The root directory {directory!r} is not a folder of the source. Folders that exist: {there}."
        )
    return directory


def _inside(path: str, what: str) -> str:
    try:
        return "/".join(names(path)) or "."
    except OSError:
        raise BuildFailed("rejected", f"{what} {path[:200]!r} must lie inside the source, without '..'.") from None


def _first_line(text: str | None) -> str | None:
    lines = [line.partition("#")[0].strip() for line in (text or "").splitlines()]
    return next((line[:100] for line in lines if line), None)
