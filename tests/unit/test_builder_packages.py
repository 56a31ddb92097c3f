"""When an install may be skipped: all that it reads is part of the key, or it is never skipped."""

import json
from pathlib import Path
from typing import Any

import pytest

from builder.detect import plan
from builder.job import Settings
from builder.nodes import Node
from builder.packages import Keys, keys
from builder.tree import MAX_CONFIG_BYTES, Tree

NODES = (Node((22, 0, 0), "/node"),)
INJECTED = {
    "pnpm-workspace.yaml": "packages: ['apps/*', 'packages/*']\ninjectWorkspacePackages: true\n",
    "package.json": '{"name": "all"}',
    "apps/web/package.json": '{"dependencies": {"ui": "workspace:*"}, "scripts": {"build": "vite build"}}',
    "packages/ui/package.json": '{"name": "ui"}',
    "packages/ui/src/x.ts": "export const x = 1",
}
OF_INJECTED = "packages:\n\n  'file:packages/ui':\n    resolution: {directory: packages/ui, type: directory}\n"
OF_LINKED = "importers:\n\n  apps/web:\n    dependencies:\n      ui:\n        version: link:../../packages/ui\n"
WORKSPACES = {"package.json": '{"workspaces": ["packages/*"]}', "packages/ui/package.json": '{"name": "ui"}'}
PLAIN = {"package.json": '{"dependencies": {"a": "1"}, "overrides": {"b": "file:./b"}}', "b/package.json": "{}"}


def keys_of(folder: Path, files: dict[str, str], root: str = "") -> Keys:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    found = keys(plan(folder, Settings(root_directory=root), NODES), Tree(folder), {})
    assert found is not None
    return found


def npm(**packages: dict[str, Any]) -> str:
    return json.dumps({"lockfileVersion": 3, "packages": {"": {}, **packages}}, indent=2)


@pytest.mark.parametrize(
    ("files", "name", "lock"),
    [
        (INJECTED, "pnpm-lock.yaml", OF_INJECTED),
        (PLAIN, "pnpm-lock.yaml", "packages:\n  b@file:b.tgz:\n    resolution: {integrity: x, tarball: file:b.tgz}\n"),
        (PLAIN, "yarn.lock", '# yarn lockfile v1\n\n"b@file:./b":\n  version "0.0.0"\n'),
        (PLAIN, "yarn.lock", '# yarn lockfile v1\n\nb@./b:\n  version "0.0.0"\n'),
        (
            PLAIN,
            "yarn.lock",
            '__metadata:\n  version: 8\n\n"b@portal:./b::locator=all%40workspace%3A.":\n  version: 0\n',
        ),
        (PLAIN, "package-lock.json", npm(b={}, **{"node_modules/b": {"resolved": "b", "link": True}})),
        (WORKSPACES, "package-lock.json", npm(**{"node_modules/ui": {"resolved": "file:packages/ui"}})),
        (PLAIN, "package-lock.json", '{"lockfileVersion": 1, "dependencies": {"b": {"version": "file:b"}}}'),
    ],
    ids=["injected", "packed", "yarn", "path", "portal", "unlisted", "install-links", "npm-6"],
)
def test_an_install_that_copies_a_folder_of_the_source_is_never_skipped(
    tmp_path: Path, files: dict[str, str], name: str, lock: str
) -> None:
    """Whatever leads there: what lies in that folder is no part of the key."""
    found = keys_of(tmp_path, {**files, name: lock}, "apps/web" if files is INJECTED else "")
    assert found.modules is None
    assert f"{name} has a dependency in a folder" in found.why_never


@pytest.mark.parametrize(
    ("files", "name", "lock"),
    [
        (INJECTED, "pnpm-lock.yaml", OF_LINKED),
        (WORKSPACES, "yarn.lock", '"@a/b@npm:^1.0.0":\n  version: 1\n\n"ui@workspace:packages/ui":\n  version: 0\n'),
        (WORKSPACES, "package-lock.json", npm(**{"node_modules/ui": {"resolved": "packages/ui", "link": True}})),
    ],
    ids=["pnpm", "yarn", "npm"],
)
def test_an_install_that_links_workspaces_may_be_skipped(
    tmp_path: Path, files: dict[str, str], name: str, lock: str
) -> None:
    found = keys_of(tmp_path, {**files, name: lock}, "apps/web" if files is INJECTED else "")
    assert found.modules is not None, found.why_never


@pytest.mark.parametrize("name", ["package-lock.json", ".yarn/releases/yarn.cjs", "patches/a.patch"])
def test_an_install_that_reads_more_of_a_file_than_the_key_does_is_never_skipped(tmp_path: Path, name: str) -> None:
    """Whatever its letters: the size is that of its bytes."""
    large = '"ü"' + " " * MAX_CONFIG_BYTES
    found = keys_of(tmp_path, {"package.json": "{}", "package-lock.json": npm(), name: large})
    assert found.why_never == f"{name} is too large"
