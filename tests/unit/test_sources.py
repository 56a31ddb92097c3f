"""What may be named as a source."""

import subprocess
from pathlib import Path

import pytest

from scalemesh.config import Git
from scalemesh.errors import InvalidError
from scalemesh.services.sources import (
    check_branch,
    check_commit,
    check_git_url,
    check_root_directory,
    repository_folder,
)

BOTH = Git()


def git(*words: str) -> None:
    subprocess.run(["git", *words], check=True, capture_output=True)


@pytest.mark.parametrize("url", ["https://git.example/a/b.git", "ssh://git@git.example/a", "git@git.example:a/b.git"])
def test_https_and_ssh_are_allowed(url: str) -> None:
    assert check_git_url(url, BOTH) == url


@pytest.mark.parametrize(
    "url",
    [
        "", "-uhttps://x/y", "--upload-pack=x", "http://git.example/a", "git://git.example/a", "file:///etc", "/etc",
        "ext::sh -c id", "https://", "https:///path", "https://a b/c", "https://x/\n", "HTTP://x/y", "x" * 3000,
        "https://me:secret@git.example/a", "https://git.example:99999/a", "ext::id", "host::x",
    ],
)  # fmt: skip
def test_everything_else_is_refused(url: str) -> None:
    with pytest.raises(InvalidError):
        check_git_url(url, BOTH)


def test_a_password_is_not_repeated_in_the_error() -> None:
    with pytest.raises(InvalidError) as caught:
        check_git_url("https://me:hunter22@git.example/a", BOTH)
    assert "hunter22" not in str(caught.value)


def test_file_urls_lie_below_their_root(tmp_path: Path) -> None:
    allowed = Git(allow=("file",), file_root=tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("/etc")
    assert check_git_url(f"file://{tmp_path}/in", allowed)
    (tmp_path / "ring").symlink_to("ring")
    inside = ("/../x", "/%2e%2e/x", "/link", "/link/passwd", "/ring", "/%00")
    for url in (*(f"file://{tmp_path}{path}" for path in inside), "file:///etc", f"file://host{tmp_path}/in"):
        with pytest.raises(InvalidError):
            check_git_url(url, allowed)
        assert repository_folder(url, allowed) is None


def test_a_fetch_reads_one_folder_of_this_machine(tmp_path: Path) -> None:
    """Which one is git's own choice: see that it fetches from each, and from nothing that we find no folder for."""
    allowed = Git(allow=("file", "https"), file_root=tmp_path)
    for bare in ("one.git", "with blank", "deep/two.git"):
        git("init", "-q", "--bare", str(tmp_path / bare))
    git("init", "-q", str(tmp_path / "checkout"))
    (tmp_path / "named").symlink_to("one.git")
    read = {
        "one.git": "one.git", "one": "one.git", "with%20blank": "with blank", "deep/two": "deep/two.git",
        "checkout": "checkout/.git", "checkout/.git": "checkout/.git", "named": "named",
        "": None, "deep": None, "nothing.git": None, "checkout/src": None,
    }  # fmt: skip
    for path, folder in read.items():
        url = f"file://{tmp_path}/{path}"
        assert repository_folder(url, allowed) == (str(tmp_path / folder) if folder else None), path
        done = subprocess.run(["git", "ls-remote", url], capture_output=True, check=False)
        assert (done.returncode == 0) is (folder is not None), path
    assert repository_folder("https://git.example/one.git", allowed) is None


def test_a_root_that_is_a_repository_shows_nothing_beside_it(tmp_path: Path) -> None:
    git("init", "-q", str(tmp_path))
    git("init", "-q", "--bare", str(tmp_path / "other.git"))
    allowed = Git(allow=("file",), file_root=tmp_path)
    assert repository_folder(f"file://{tmp_path}", allowed) == str(tmp_path / ".git")


@pytest.mark.parametrize("branch", ["main", "feature/login", "v1.2", "ümlaut", "a-b_c"])
def test_branch_names_of_git_are_branches(branch: str) -> None:
    assert check_branch(branch) == branch


@pytest.mark.parametrize(
    "branch",
    ["", "-x", "a..b", "a b", "a~1", "a^", "a:b", "@", "a@{1}", "/a", "a/", "a.lock", "a\0", "x" * 300, "a//b"],
)
def test_what_git_would_refuse_is_no_branch(branch: str) -> None:
    with pytest.raises(InvalidError):
        check_branch(branch)


def test_a_commit_is_a_full_hash() -> None:
    assert check_commit("A" * 40) == "a" * 40
    for bad in ("abc", "g" * 40, "-" + "a" * 39, ""):
        with pytest.raises(InvalidError):
            check_commit(bad)


def test_a_root_directory_stays_inside() -> None:
    assert check_root_directory("apps/web/") == "apps/web"
    assert check_root_directory("./") == ""
    for bad in ("/etc", "../x", "a/../../b", ".git", "a/.git/hooks", "a\0"):
        with pytest.raises(InvalidError):
            check_root_directory(bad)
