"""Choose a Node among those installed, by what the project says of it."""

import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.semver import Range, Version, parse_range, parse_version

LTS_NAMES: Final = {
    "argon": 4,
    "boron": 6,
    "carbon": 8,
    "dubnium": 10,
    "erbium": 12,
    "fermium": 14,
    "gallium": 16,
    "hydrogen": 18,
    "iron": 20,
    "jod": 22,
    "krypton": 24,
}


@dataclass(frozen=True, slots=True)
class Node:
    """An installed Node: a folder with node, npm and npx."""

    version: Version
    folder: str

    def __str__(self) -> str:
        return ".".join(map(str, self.version))


@dataclass(frozen=True, slots=True)
class Wish:
    """A range and who asks for it (``engines.node in package.json``)."""

    range: str
    asker: str


@dataclass(frozen=True, slots=True)
class Choice:
    node: Node | None
    why: str
    warnings: tuple[str, ...] = ()


def installed(folders: Iterable[str]) -> tuple[Node, ...]:
    """The Nodes in *folders*, newest first; a folder without a working one is left out."""
    found = []
    for folder in folders:
        try:
            said = subprocess.run(
                [str(Path(folder) / "node"), "--version"], env={}, capture_output=True, timeout=20, check=True
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if version := parse_version(said.stdout.decode("ascii", "replace")):
            found.append(Node(version, folder))
    return tuple(sorted(found, key=lambda node: node.version, reverse=True))


def choose(nodes: Sequence[Node], wishes: Sequence[Wish]) -> Choice:
    """The newest of *nodes* that meets the wishes; an earlier wish outweighs a later one.

    A wish that cannot be met together with those before it is warned about and otherwise ignored.
    """
    left, met, warnings = list(nodes), [], []
    for wish in wishes:
        wanted = _range(wish.range)
        if wanted is None:
            warnings.append(f"{wish.asker} asks for Node {wish.range[:60]!r}, which is not a version range.")
        elif fitting := [node for node in left if wanted(node.version)]:
            left = fitting
            met.append(f"{wish.asker} asks for {wish.range}")
        elif nodes:
            have = ", ".join(map(str, nodes))
            warnings.append(f"{wish.asker} asks for Node {wish.range}, which is not installed here (have: {have}).")
    if not left:
        return Choice(None, "no Node is installed", tuple(warnings))
    chosen = max(left, key=lambda node: node.version)
    return Choice(chosen, " and ".join(met) or "it is the newest that is installed", tuple(warnings))


def _range(text: str) -> Range | None:
    """A range of package.json, or one of the words that .nvmrc knows."""
    text = text.strip().lower()
    if text in {"node", "latest", "current", "stable"}:
        return lambda _: True
    if text in {"lts/*", "lts"}:
        return lambda version: version[0] % 2 == 0
    if (match := re.fullmatch(r"lts/(\w+)", text)) and match[1] in LTS_NAMES:
        major = LTS_NAMES[match[1]]
        return lambda version: version[0] == major
    return parse_range(text.removeprefix("node").strip())
