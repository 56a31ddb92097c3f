"""What is made of a source folder: every preset's fixture, overrides, package managers, output folders."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from builder.detect import Plan, plan
from builder.errors import BuildFailed
from builder.frameworks import framework, frameworks, immutable_patterns
from builder.job import Settings
from builder.nodes import Node
from builder.outputs import find_output
from builder.tree import Tree
from scalemesh.services.hashed_names import immutable_test

FIXTURES = Path(__file__).parents[1] / "fixtures/frameworks"
NODES = (Node((22, 20, 0), "/n/22"), Node((20, 20, 2), "/n/20"), Node((18, 20, 8), "/n/18"))


def plan_of(folder: Path, files: dict[str, Any] | None = None, **settings: Any) -> Plan:
    for path, content in (files or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content if isinstance(content, str) else json.dumps(content))
    return plan(folder, Settings(**settings), NODES)


def test_every_preset_has_a_fixture() -> None:
    assert {path.name for path in FIXTURES.iterdir()} == {row.slug for row in frameworks()}


@pytest.mark.parametrize("slug", [row.slug for row in frameworks()])
def test_the_fixture_of_a_preset_is_understood(slug: str) -> None:
    expected = json.loads((FIXTURES / slug / "expected.json").read_text())
    found = plan(FIXTURES / slug, Settings(), NODES).as_json()
    assert {key: found[key] for key in expected} == expected
    assert found["why"]["framework"]


def test_vercels_names_of_frameworks_are_known() -> None:
    names = ("nextjs", "nuxtjs", "docusaurus-2", "sveltekit-1", "vite", "astro", "create-react-app", "gatsby")
    assert all(framework(name) for name in names)


def test_settings_win_over_vercel_json_and_that_over_detection(tmp_path: Path) -> None:
    vercel = {"buildCommand": "make site", "outputDirectory": "from-vercel", "installCommand": ""}
    files = {"package.json": {"devDependencies": {"vite": "1"}}, "vercel.json": vercel}
    found = plan_of(tmp_path, files, output_directory="./by/hand/")
    assert (found.framework, found.install_command, found.build_command) == ("vite", None, "make site")
    assert (found.output_candidates, found.output_by_hand) == (("by/hand",), True)
    assert "settings" in found.why["output"]
    assert "vercel.json" in found.why["build"]


def test_a_framework_named_by_hand_needs_no_proof(tmp_path: Path) -> None:
    assert plan_of(tmp_path, {"vercel.json": {"framework": "nextjs"}}).framework == "next"
    assert plan_of(tmp_path, {"vercel.json": {"framework": None}, "index.html": "x"}).framework == "static"


@pytest.mark.parametrize(
    ("files", "settings", "words"),
    [
        ({"vercel.json": "{"}, {}, "vercel.json is not valid JSON"),
        ({"package.json": "[]"}, {}, "package.json must hold a JSON object"),
        ({"package.json": "[" * 100_000}, {}, "package.json is nested too deeply"),
        ({"vercel.json": {"buildCommand": 7}}, {}, "buildCommand in vercel.json must be a text"),
        ({}, {"framework": "rails"}, "'rails' is not known. Known are: next, nuxt"),
        ({}, {"output_directory": "../secrets"}, "must lie inside the source"),
        ({}, {"root_directory": "/etc"}, "must lie inside the source"),
        (
            {"apps/web/x": ""},
            {"root_directory": "apps/site"},
            "is not a folder of the source. Folders that exist: apps",
        ),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, files: dict[str, Any], settings: dict[str, str], words: str) -> None:
    with pytest.raises(BuildFailed, match=words):
        plan_of(tmp_path, files, **settings)


def test_a_root_directory_uses_the_lock_file_above_it(tmp_path: Path) -> None:
    files = {
        "package-lock.json": "{}",
        "apps/web/package.json": {"dependencies": {"vite": "1"}, "scripts": {"build": "x"}},
    }
    found = plan_of(tmp_path, files, root_directory="apps/web")
    assert (found.install_command, found.install_directory, found.lock_file) == ("npm ci", "", "package-lock.json")
    assert (found.root_directory, found.build_command) == ("apps/web", "npm run build")


@pytest.mark.parametrize(
    ("files", "install"),
    [
        ({"package-lock.json": "{}"}, "npm ci"),
        ({"npm-shrinkwrap.json": "{}"}, "npm ci"),
        ({"pnpm-lock.yaml": "lockfileVersion: 5.4\n"}, "npx -y pnpm@7 install --frozen-lockfile"),
        ({"pnpm-lock.yaml": "lockfileVersion: '6.0'\n"}, "npx -y pnpm@8 install --frozen-lockfile"),
        ({"yarn.lock": "# yarn lockfile v1\n"}, "npx -y yarn@1 install --frozen-lockfile --non-interactive"),
        ({"yarn.lock": "__metadata:\n  version: 8\n"}, "npx -y -p @yarnpkg/cli-dist@4 yarn install --immutable"),
        ({}, "npm install"),
    ],
)
def test_the_lock_file_tells_the_package_manager(tmp_path: Path, files: dict[str, str], install: str) -> None:
    found = plan_of(tmp_path, {**files, "package.json": {"dependencies": {"x": "1"}}})
    assert found.install_command == install
    assert bool(found.warnings) == (install == "npm install")


def test_package_manager_field_pins_the_version(tmp_path: Path) -> None:
    package = {"dependencies": {"x": "1"}, "packageManager": "pnpm@8.15.4+sha256.abc"}
    found = plan_of(tmp_path, {"package.json": package, "pnpm-lock.yaml": "lockfileVersion: '6.0'"})
    assert found.install_command == "npx -y pnpm@8.15.4 install --frozen-lockfile"
    hostile = {"dependencies": {"x": "1"}, "packageManager": "pnpm@1; rm -rf /"}
    assert plan_of(tmp_path, {"package.json": hostile}).install_command == "npx -y pnpm@8 install --frozen-lockfile"


def test_what_is_not_static_is_warned_about(tmp_path: Path) -> None:
    found = plan_of(
        tmp_path, {"package.json": {"dependencies": {"next": "15"}}, "next.config.js": "module.exports = {}"}
    )
    assert any("output: 'export'" in warning for warning in found.warnings)


def test_a_missing_output_names_the_folders_there_and_the_way_out(tmp_path: Path) -> None:
    found = plan_of(
        tmp_path, {"package.json": {"dependencies": {"next": "15"}}, "app/page.js": "x", "node_modules/x": ""}
    )
    with pytest.raises(BuildFailed, match=r"should leave it in 'out' .*exist: app\. .*Add output: 'export'") as raised:
        find_output(found.output_candidates, Tree(tmp_path), by_hand=False, what="`next build`", hint=found.hint)
    assert raised.value.reason == "no_output"


@pytest.mark.parametrize("path", ["dist/web/browser/index.html", "dist/index.html", "dist/other/index.html"])
def test_the_output_of_angular_is_found_where_its_versions_put_it(tmp_path: Path, path: str) -> None:
    found = plan_of(
        tmp_path, {"package.json": {"dependencies": {"@angular/core": "19"}}, "angular.json": "{", path: "x"}
    )
    where = find_output(found.output_candidates, Tree(tmp_path), by_hand=False, what="", hint="")
    assert (tmp_path / where / "index.html").exists() or where == "dist/web"


def test_links_in_the_source_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"dependencies": {"vite": "1"}}')
    (tmp_path / "src").mkdir()
    (tmp_path / "src/package.json").symlink_to("../secret.json")
    (tmp_path / "src/linked").symlink_to("..")
    os.mkfifo(tmp_path / "src/vercel.json")
    found = plan_of(tmp_path / "src", {"index.html": "x"})
    assert (found.framework, found.package_manager) == ("static", None)
    assert not Tree(tmp_path / "src").has_file("linked/secret.json")


def test_a_static_site_in_public_is_found_there(tmp_path: Path) -> None:
    found = plan_of(tmp_path, {"public/index.html": "x", "README.md": "y"})
    assert find_output(found.output_candidates, Tree(tmp_path), by_hand=False, what="", hint="") == "public"


@pytest.mark.parametrize(
    ("slug", "path", "is_hashed"),
    [
        ("vite", "assets/index-DiwrgTda.js", True),
        ("vite", "assets/my-document.pdf", False),
        ("vite", "assets/photo-20240101.jpg", False),
        ("vite", "index.html", False),
        ("next", "_next/static/chunks/main-0f3b9c1d2e4a5b6c.js", True),
        ("astro", "_astro/index.BJ7hTq1k.css", True),
        ("create-react-app", "static/js/main.1a2b3c4d.js", True),
        ("unknown", "assets/index-DiwrgTda.js", False),
        ("static", "assets/index-DiwrgTda.js", True),
        ("static", "_next/static/chunks/main-0a1b2c3d4e5f6789.js", True),
        ("static", "assets/logo-DiwrgTda.png", False),
        ("static", "index-DiwrgTda.js", False),
        ("static", "assets/app-20240101.js", False),
        ("other", "static/js/main.0a1b2c3d.js", True),
    ],
)
def test_only_hash_named_files_are_immutable(slug: str, path: str, is_hashed: bool) -> None:
    assert immutable_test(immutable_patterns(slug))(path) == is_hashed
