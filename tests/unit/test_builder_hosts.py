"""A source that was built elsewhere: what netlify.toml and a Wrangler file say holds here too."""

from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuildFailed
from builder.hosts import netlify_folder
from builder.tree import Tree
from tests.unit.test_builder_detect import plan_of

VITE = {"devDependencies": {"vite": "1"}, "scripts": {"build": "vite build"}}
NETLIFY = """
[build]
  command = "make site"
  publish = "out/"
  ignore = "git diff --quiet"
[build.environment]
  NODE_VERSION = "20"
  HUGO_VERSION = 1
  CI = ""
  FLAG = true
"""


def test_netlify_toml_says_how_to_build_and_where_the_output_is(tmp_path: Path) -> None:
    found = plan_of(tmp_path, {"package.json": VITE, "netlify.toml": NETLIFY})
    assert (found.build_command, found.output_candidates, found.output_by_hand) == ("make site", ("out",), True)
    assert found.ignore_command == "git diff --quiet"
    assert {"NODE_VERSION": "20", "HUGO_VERSION": "1", "CI": "", "FLAG": "true"}.items() <= found.env.items()
    assert str(found.node) == "20.20.2"
    assert found.why["node"].startswith("NODE_VERSION in netlify.toml")
    assert (found.why["build"], found.why["output"]) == ("netlify.toml sets command", "netlify.toml sets publish")


def test_settings_win_over_vercel_json_and_that_over_netlify_toml_and_that_over_wrangler(tmp_path: Path) -> None:
    files: dict[str, Any] = {"package.json": VITE, "wrangler.toml": 'pages_build_output_dir = "./by-wrangler"\n'}
    assert plan_of(tmp_path, files).output_candidates == ("by-wrangler",)
    assert plan_of(tmp_path).why["output"] == "wrangler.toml sets pages_build_output_dir"
    assert plan_of(tmp_path, {"netlify.toml": '[build]\npublish = "by-netlify"\n'}).output_candidates == ("by-netlify",)
    assert plan_of(tmp_path, {"vercel.json": {"outputDirectory": "by-vercel"}}).output_candidates == ("by-vercel",)
    assert plan_of(tmp_path, output_directory="by-hand").output_candidates == ("by-hand",)


def test_a_file_for_the_version_of_node_wins_over_netlify_toml_and_that_over_engines(tmp_path: Path) -> None:
    files: dict[str, Any] = {"package.json": {**VITE, "engines": {"node": "22"}}, "netlify.toml": NETLIFY}
    assert str(plan_of(tmp_path, files).node) == "20.20.2"
    assert str(plan_of(tmp_path, {".nvmrc": "18"}).node) == "18.20.8"


def test_an_empty_command_means_that_nothing_is_built(tmp_path: Path) -> None:
    files = {"package.json": VITE, "netlify.toml": "[build]\ncommand = ''\npublish = '.'\n"}
    found = plan_of(tmp_path, files)
    assert found.build_command is None


def test_base_is_where_commands_run_and_publish_lies_below_it(tmp_path: Path) -> None:
    files = {"apps/web/package.json": VITE, "netlify.toml": '[build]\nbase = "/apps/web/"\npublish = "dist"\n'}
    found = plan_of(tmp_path, files)
    assert (found.root_directory, found.output_candidates, found.framework) == ("apps/web", ("dist",), "vite")
    assert netlify_folder(Tree(tmp_path), "apps/web") == ""
    assert netlify_folder(Tree(tmp_path), "apps/docs") == "apps/docs"


def test_the_root_directory_of_the_settings_wins_over_base(tmp_path: Path) -> None:
    files = {
        "apps/web/package.json": VITE,
        "apps/docs/index.html": "x",
        "apps/docs/netlify.toml": '[build]\npublish = "public"\n',
        "netlify.toml": '[build]\nbase = "apps/web"\npublish = "dist"\n',
    }
    found = plan_of(tmp_path, files, root_directory="apps/docs")
    assert (found.root_directory, found.output_candidates) == ("apps/docs", ("public",))


def test_contexts_are_named_as_not_followed(tmp_path: Path) -> None:
    found = plan_of(tmp_path, {"index.html": "x", "netlify.toml": '[context.deploy-preview]\ncommand = "x"\n'})
    assert found.build_command is None
    assert "contexts of netlify.toml (deploy-preview) are not followed" in found.warnings[0]


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[build", "netlify.toml is not valid TOML"),
        ("a = " + "[" * 10_000, "nested too deeply"),
        ("a" + ".a" * 10_000 + " = 1", "far too many dots"),
        ("#" * 1_100_000, "longer than 1 MiB"),
        ("build = 7", "build in netlify.toml must be a table"),
        ("[build]\ncommand = 7", "command in netlify.toml must be a text"),
        ("[build]\nbase = '../other'", "base in netlify.toml must lie inside the source"),
        ("[build]\npublish = 'a/../../b'", "publish in netlify.toml must lie inside the source"),
        ("[build]\nbase = 'a'\npublish = '/b'", "must be relative to base, 'a'"),
        ("[build]\nbase = 'nowhere'", "'nowhere' is not a folder of the source"),
        ("[build]\nenvironment = 'A=1'", "environment in netlify.toml must be a table"),
        ("[build.environment]\nA = ['x']", "The variable 'A' in netlify.toml must be a text"),
        ("[build.environment]\n" + "".join(f"A{n} = 1\n" for n in range(201)), "more than 200 variables"),
    ],
)
def test_a_mistake_in_netlify_toml_is_named(tmp_path: Path, toml: str, words: str) -> None:
    with pytest.raises(BuildFailed, match=words):
        plan_of(tmp_path, {"index.html": "x", "netlify.toml": toml})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("wrangler.json", '{"pages_build_output_dir": "dist"}'),
        ("wrangler.jsonc", '// a "comment"\n{"name": "a//b", /* b\n */ "pages_build_output_dir": "dist", // c\n}'),
    ],
)
def test_a_wrangler_file_may_be_json_with_comments(tmp_path: Path, name: str, text: str) -> None:
    assert plan_of(tmp_path, {"package.json": VITE, name: text}).output_candidates == ("dist",)


@pytest.mark.parametrize("text", ["pages_build_output_dir = ", "pages_build_output_dir = 7", "#" * 2_000_000])
def test_a_wrangler_file_that_cannot_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    found = plan_of(tmp_path, {"package.json": VITE, "wrangler.toml": text})
    assert not found.output_by_hand
