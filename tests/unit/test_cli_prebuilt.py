"""What of a folder that is built already becomes the site."""

import json
from pathlib import Path

import pytest

from scalemesh.cli.prebuilt import prebuilt_files, tell_functions
from scalemesh.errors import InvalidError
from tests.unit.test_cli_folder import tree

CONFIG = json.dumps({"version": 3})
RULES = ".scalemesh/.vercel/output"


def test_a_plain_folder_is_published_as_it_is_with_its_rule_files(tmp_path: Path) -> None:
    folder = tree(
        tmp_path, "index.html", "static/a.js", "vercel.json", "_redirects", "config.json", "sub/wrangler.toml"
    )
    assert prebuilt_files(folder).files == {
        path: path
        for path in sorted(
            ("index.html", "static/a.js", "vercel.json", "_redirects", "config.json", "sub/wrangler.toml")
        )
    }


def test_a_wrangler_file_at_the_top_is_read_and_no_file_of_the_site(tmp_path: Path) -> None:
    found = prebuilt_files(tree(tmp_path, "index.html", "wrangler.toml", "wrangler.jsonc"))
    assert found.files == {
        "index.html": "index.html",
        ".scalemesh/wrangler.toml": "wrangler.toml",
        ".scalemesh/wrangler.jsonc": "wrangler.jsonc",
    }


@pytest.mark.parametrize("above", [".vercel/output/", ""])
def test_of_the_build_output_api_the_static_folder_is_the_site(
    tmp_path: Path, above: str, capsys: pytest.CaptureFixture[str]
) -> None:
    functions = f"{above}functions"
    folder = tree(tmp_path, f"{above}static/index.html", f"{above}static/.well-known/a", "vercel.json", "README.md")
    tree(
        folder,
        f"{functions}/api/b.func/.vc-config.json",
        f"{functions}/a.func/.vc-config.json",
        f"{functions}/a.func/x",
    )
    (folder / f"{above}config.json").write_text(CONFIG)
    found = prebuilt_files(folder)
    assert found.files == {
        ".well-known/a": f"{above}static/.well-known/a",
        "index.html": f"{above}static/index.html",
        ".scalemesh/vercel.json": "vercel.json",
        f"{RULES}/config.json": f"{above}config.json",
        f"{RULES}/functions/a.func/.vc-config.json": f"{functions}/a.func/.vc-config.json",
        f"{RULES}/functions/api/b.func/.vc-config.json": f"{functions}/api/b.func/.vc-config.json",
    }
    tell_functions(found)
    told = capsys.readouterr()
    assert told.err.splitlines() == [f"Not served: the function {name} (only files are)" for name in ("/a", "/api/b")]
    assert told.out == ""


@pytest.mark.parametrize("config", ['{"version": 2}', "[]", "no json", '{"site": "docs"}'])
def test_any_other_config_json_is_a_file_like_others(tmp_path: Path, config: str) -> None:
    folder = tree(tmp_path, "static/a.js", "index.html")
    (folder / "config.json").write_text(config)
    assert set(prebuilt_files(folder).files) == {"config.json", "index.html", "static/a.js"}


def test_rule_files_alone_are_nothing_to_deploy(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="has no files to deploy"):
        prebuilt_files(tree(tmp_path, "vercel.json", "_headers", "wrangler.toml"))
    folder = tree(tmp_path / "b", ".vercel/output/functions/a.func/.vc-config.json")
    (folder / ".vercel/output/config.json").write_text(CONFIG)
    with pytest.raises(InvalidError, match="static has no files to deploy"):
        prebuilt_files(folder)


def test_many_functions_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tree(tmp_path, ".vercel/output/config.json", ".vercel/output/static/index.html")
    tree(folder, *(f".vercel/output/functions/{number}.func/.vc-config.json" for number in range(30)))
    tell_functions(prebuilt_files(folder))
    assert "Not served: 10 more functions" in capsys.readouterr().err
