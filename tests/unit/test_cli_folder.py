"""What of a folder is deployed."""

import subprocess
from pathlib import Path

import click
import pytest

from scalemesh.cli.deploy import _folder
from scalemesh.cli.folder import built_files, source_files


def tree(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


def test_outside_of_git_all_but_packages_is_source(tmp_path: Path) -> None:
    folder = tree(tmp_path, "index.html", "src/a.js", "node_modules/x/i.js", "web/node_modules/y/i.js", ".env")
    assert source_files(folder) == [".env", "index.html", "src/a.js"]


def test_in_a_repository_the_source_is_what_git_would_keep(tmp_path: Path) -> None:
    folder = tree(tmp_path, "kept.html", "new.html", "gone.html", "dist/out.js", ".env", "ünï code.txt")
    (folder / ".gitignore").write_text("dist/\n.env\n")
    git(folder, "init", "-q")
    git(folder, "add", "kept.html", "gone.html")
    (folder / "gone.html").unlink()
    assert source_files(folder) == [".gitignore", "kept.html", "new.html", "ünï code.txt"]


def test_a_folder_inside_a_repository_counts_from_itself(tmp_path: Path) -> None:
    tree(tmp_path, "top.html", "web/index.html")
    git(tmp_path, "init", "-q")
    assert source_files(tmp_path / "web") == ["index.html"]


def test_a_finished_site_is_published_whole_even_if_git_ignores_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("dist/\n")
    folder = tree(tmp_path / "dist", "index.html", "node_modules/x.js", ".well-known/a", ".git/HEAD")
    assert built_files(folder) == [".well-known/a", "index.html", "node_modules/x.js"]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    folder = tree(tmp_path, "index.html")
    (folder / "again").symlink_to(folder)
    assert "index.html" in built_files(folder)
    assert len(built_files(folder)) < 3


def test_a_source_is_a_url_or_a_folder(tmp_path: Path) -> None:
    assert _folder("https://git.example/a/b.git") is None
    assert _folder("git@git.example:a/b.git") is None
    assert _folder(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(("name", "told"), [("no/such", "neither"), ("file.txt", "is a file"), ("bare.git", "file://")])
def test_what_is_neither_is_wrong_usage(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "file.txt").write_text("x")
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    with pytest.raises(Exception, match=told):
        _folder(str(tmp_path / name))


@pytest.mark.parametrize("source", ["", "  "])
def test_an_empty_source_is_wrong_usage_and_not_the_folder_that_one_is_in(source: str) -> None:
    with pytest.raises(click.UsageError, match="the source is empty"):
        _folder(source)
