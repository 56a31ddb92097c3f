"""Rule files of a source: taken along with the output, whatever hostile code made of them."""

import json
import os
from pathlib import Path

import pytest

from builder.detect import plan
from builder.errors import BuildFailed
from builder.job import Settings
from builder.outputs import find_output
from builder.protocol import MAX_RULE_FILE_BYTES, MOST_FUNCTIONS
from builder.rule_files import CONFIG, STATIC, collect_rule_files, functions_of_source
from builder.tree import Tree
from tests.unit.builder_daemon import build, daemon, files_source


def put(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


def collected(root: Path, output: str = "dist") -> list[str]:
    return [file.path for file in collect_rule_files(Tree(root), "", output, lambda: None)]


def test_rule_files_of_the_root_directory_are_taken_under_names_of_their_own(tmp_path: Path) -> None:
    put(tmp_path, "vercel.json", "netlify.toml", "wrangler.toml", "wrangler.jsonc", "wrangler.json", "_redirects", "x")
    names = ("vercel.json", "netlify.toml", "wrangler.toml", "wrangler.jsonc", "wrangler.json")
    assert collected(tmp_path) == [f".scalemesh/{name}" for name in names]


def test_netlify_toml_at_the_top_counts_where_it_names_the_root_directory_as_its_base(tmp_path: Path) -> None:
    put(tmp_path, "apps/web/dist/x", "apps/web/netlify.toml", "apps/web/vercel.json", "apps/docs/vercel.json")
    (tmp_path / "apps/web/netlify.toml").write_text("")
    (tmp_path / "netlify.toml").write_text('[build]\nbase = "apps/web"\n')
    held = {
        directory: [file.held_at for file in collect_rule_files(Tree(tmp_path), directory, "dist", lambda: None)]
        for directory in ("apps/web", "apps/docs")
    }
    assert held == {"apps/web": ["apps/web/vercel.json", "netlify.toml"], "apps/docs": ["apps/docs/vercel.json"]}


def test_the_build_output_api_counts_where_it_is_the_output(tmp_path: Path) -> None:
    functions = ".vercel/output/functions"
    put(tmp_path, CONFIG, f"{STATIC}/index.html", f"{functions}/a.func/.vc-config.json", f"{functions}/a.func/x.js")
    put(tmp_path, f"{functions}/api/[id].func/.vc-config.json", f"{functions}/a.func/b.func/.vc-config.json")
    assert collected(tmp_path) == []
    assert collected(tmp_path, STATIC) == [
        f".scalemesh/{CONFIG}",
        f".scalemesh/{functions}/a.func/.vc-config.json",
        f".scalemesh/{functions}/api/[id].func/.vc-config.json",
    ]


def test_links_and_what_is_no_file_are_not_followed(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside", "secret", "x.func/.vc-config.json")
    root = put(tmp_path / "root", f"{STATIC}/index.html", f"{CONFIG}")
    (root / "vercel.json").symlink_to(outside / "secret")
    os.mkfifo(root / "netlify.toml")
    (root / "wrangler.toml").mkdir()
    (root / ".vercel/output/functions").symlink_to(outside)
    assert collected(root, STATIC) == [f".scalemesh/{CONFIG}"]
    (root / ".vercel/output/functions").unlink()
    (root / ".vercel/output/functions").mkdir()
    (root / ".vercel/output/functions/x.func").symlink_to(outside / "x.func")
    (root / ".vercel/output/functions/more").symlink_to(outside)
    assert collected(root, STATIC) == [f".scalemesh/{CONFIG}"]


def test_functions_are_bounded(tmp_path: Path) -> None:
    put(tmp_path, *(f".vercel/output/functions/{number}.func/.vc-config.json" for number in range(MOST_FUNCTIONS + 5)))
    put(tmp_path, ".vercel/output/functions/" + "d/" * 60 + "a.func/.vc-config.json")
    assert len(collected(tmp_path, STATIC)) == MOST_FUNCTIONS


def test_a_rule_file_that_nobody_would_read_ends_the_build(tmp_path: Path) -> None:
    (tmp_path / "vercel.json").write_bytes(b" " * (MAX_RULE_FILE_BYTES + 1))
    with pytest.raises(BuildFailed, match=r"vercel\.json is longer than 2 MiB"):
        collected(tmp_path)


@pytest.mark.parametrize(
    ("settings", "there", "expected"),
    [
        (Settings(), (CONFIG, f"{STATIC}/index.html"), STATIC),
        (Settings(), (CONFIG, f"{STATIC}/index.html", "dist/index.html"), STATIC),
        (Settings(), (f"{STATIC}/index.html", "dist/index.html"), "dist"),
        (Settings(output_directory="dist"), (CONFIG, f"{STATIC}/index.html", "dist/index.html"), "dist"),
        (Settings(output_directory=STATIC), (CONFIG, f"{STATIC}/index.html"), STATIC),
    ],
)
def test_what_an_adapter_left_outweighs_all_but_a_folder_set_by_hand(
    tmp_path: Path, settings: Settings, there: tuple[str, ...], expected: str
) -> None:
    (tmp_path / "package.json").write_text(json.dumps({"scripts": {"build": "x"}}))
    found = plan(tmp_path, settings, ())
    put(tmp_path, *there)
    tree = Tree(tmp_path)
    assert find_output(found.output_candidates, tree, by_hand=found.output_by_hand, what="", hint="") == expected


async def test_a_build_sends_them_beside_its_output(tmp_path: Path) -> None:
    source, uploads = files_source(web___vercel__json="{}", web___netlify__toml="", web___o___index__html="x")
    settings = {"root_directory": "web", "output_directory": "o"}
    async with daemon(tmp_path, source, uploads=uploads, settings=settings) as fake:
        assert await build(fake, tmp_path / "work") == 0
        files = {"index.html": b"x", ".scalemesh/vercel.json": b"{}", ".scalemesh/netlify.toml": b""}
        assert fake.files() == files


async def test_rule_files_alone_are_no_output(tmp_path: Path) -> None:
    source, uploads = files_source(vercel__json="{}", o____redirects="/a /b", o___vercel__json="{}")
    async with daemon(tmp_path, source, uploads=uploads, settings={"output_directory": "o"}) as fake:
        assert await build(fake, tmp_path / "work") == 1
        assert fake.finished is not None
        assert fake.finished["reason"] == "no_output"


@pytest.mark.parametrize(
    ("limit", "end"), [({"output_files": 2}, 0), ({"output_files": 1}, 1), ({"output_bytes": 3}, 1)]
)
async def test_rule_files_take_no_place_from_the_files_of_an_output_but_weigh(
    tmp_path: Path, limit: dict[str, int], end: int
) -> None:
    source, uploads = files_source(vercel__json="{}", o___a__html="x", o___b__html="y")
    settings = {"output_directory": "o"}
    async with daemon(tmp_path, source, uploads=uploads, settings=settings, limits=limit) as fake:
        assert await build(fake, tmp_path / "work") == end
        assert fake.finished is not None
        reasons = {"output_files": "too_many_files", "output_bytes": "output_too_large"}
        assert fake.finished.get("reason") == (reasons[next(iter(limit))] if end else None)


async def test_code_that_vercel_would_run_is_told_and_never_published(tmp_path: Path) -> None:
    code = {"api___hello__ts": "secret", "api___deep___x__py": "secret", "middleware__js": "secret"}
    other = {"api____lib__js": "x", "api___types__d__ts": "x", "api___data__json": "x", "index__html": "x"}
    source, uploads = files_source(**code, **other, vercel__json="{}")
    async with daemon(tmp_path, source, uploads=uploads) as fake:
        assert await build(fake, tmp_path / "work") == 0
        assert b"secret" not in fake.files().values()
        assert {"api/_lib.js", "api/types.d.ts", "api/data.json"} <= fake.files().keys()
        for name in ("api/hello.ts", "api/deep/x.py", "middleware.js"):
            assert f"Warning: {name} is not served: at Vercel it is run" in fake.text


def test_without_a_vercel_json_a_folder_named_api_is_like_others(tmp_path: Path) -> None:
    put(tmp_path, "api/a.js", "middleware.ts")
    assert functions_of_source(Tree(tmp_path)) == []
    put(tmp_path, "vercel.json")
    assert functions_of_source(Tree(tmp_path)) == ["api/a.js", "middleware.ts"]
    (tmp_path / "more").mkdir()
    put(tmp_path / "more", "vercel.json").joinpath("api").symlink_to(tmp_path / "api")
    assert functions_of_source(Tree(tmp_path / "more")) == []
