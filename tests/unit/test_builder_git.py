"""Fetching from real Git repositories: what is got, what is refused, and what is said."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuildFailed
from builder.fetch import Facts, Fetch
from builder.git import Git, scheme_of, shown
from builder.job import Credentials, GitSource
from builder.life import Life
from tests.unit.builder_daemon import build, daemon
from tests.unit.builder_git import bare, commit, git, git_server, work_tree


class Room:
    """One fetch into an empty folder, with what it said."""

    def __init__(self, folder: Path) -> None:
        self.src, self.spool, self.said = folder / "w/src", folder / "w/spool", list[str]()
        self.src.mkdir(parents=True)

    def fetch(self, url: str, **what: Any) -> Facts:
        what.setdefault("allow", ("https", "ssh", "http", "file"))
        source = GitSource(url=url, **what)
        runs = Git(source, spool=self.spool, env={"PATH": os.environ["PATH"]}, life=Life())
        return Fetch(runs, source, self.src, self.said.append).run()

    def refuses(self, url: str, **what: Any) -> str:
        with pytest.raises(BuildFailed) as raised:
            self.fetch(url, **what)
        assert raised.value.reason == "clone_failed"
        return raised.value.message


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Bare repositories: site.git with the branches main and dev."""
    tree = work_tree(tmp_path / "tree")
    commit(tree, {"index.html": "one"}, "First\n\nwith a body")
    git("checkout", "-q", "-b", "dev", cwd=tree)
    commit(tree, {"index.html": "two"}, "Second")
    git("checkout", "-q", "main", cwd=tree)
    (tmp_path / "root").mkdir()
    bare(tree, tmp_path / "root/site.git")
    return tmp_path / "root"


def test_the_default_branch_is_taken_with_its_facts(room: Room, root: Path) -> None:
    facts = room.fetch(f"file://{root}/site.git", file_root=str(root))
    assert (room.src / "index.html").read_text() == "one"
    assert (facts.branch, facts.default_branch, facts.author) == ("main", "main", "Ada Lovelace")
    assert facts.message == "First\n\nwith a body"
    assert facts.commit == git("rev-parse", "main", cwd=root / "site.git")


def test_a_branch_is_taken_by_its_exact_name(room: Room, root: Path) -> None:
    facts = room.fetch(f"file://{root}/site.git", file_root=str(root), branch="dev")
    assert (room.src / "index.html").read_text() == "two"
    assert (facts.branch, facts.default_branch) == ("dev", "main")


def test_a_commit_is_taken_although_its_branch_moved_on(room: Room, root: Path) -> None:
    first = git("rev-parse", "main", cwd=root / "site.git")
    git("update-ref", "refs/heads/main", "dev", cwd=root / "site.git")
    facts = room.fetch(f"file://{root}/site.git", file_root=str(root), branch="main", commit=first)
    assert (room.src / "index.html").read_text() == "one"
    assert facts.branch == "main"


def test_an_old_server_that_gives_no_single_commits_is_asked_for_the_branch(room: Room, root: Path) -> None:
    first = git("rev-parse", "main", cwd=root / "site.git")
    git("update-ref", "refs/heads/main", "dev", cwd=root / "site.git")
    with git_server(root) as address:
        runs = Room(room.src.parent / "other")
        source = GitSource(url=f"{address}/site.git", branch="main", commit=first, allow=("http",))
        old = Git(source, spool=runs.spool, env={"PATH": os.environ["PATH"]}, life=Life())
        config = runs.spool / "git/config"
        config.write_text(config.read_text().replace("version = 2", "version = 0"))
        Fetch(old, source, runs.src, runs.said.append).run()
        assert (runs.src / "index.html").read_text() == "one"


@pytest.mark.parametrize(
    ("branch", "words"),
    [("gone", "has no branch 'gone'. Its default branch is 'main'"), ("de*", "has no branch 'de*'")],
)
def test_an_absent_branch_is_named(room: Room, root: Path, branch: str, words: str) -> None:
    assert words in room.refuses(f"file://{root}/site.git", file_root=str(root), branch=branch)


def test_a_commit_that_is_not_there_is_named(room: Room, root: Path) -> None:
    with git_server(root) as address:
        assert "has no commit" in room.refuses(f"{address}/site.git", commit="1" * 40)


def test_an_empty_repository_is_said_to_be_empty(room: Room, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    git("init", "-q", "--bare", "empty.git", cwd=tmp_path / "r")
    assert "is empty" in room.refuses(f"file://{tmp_path}/r/empty.git", file_root=str(tmp_path / "r"))


def test_http_and_its_credentials(room: Room, root: Path) -> None:
    login = Credentials(username="u", password="pass-word-1")
    with git_server(root, "u:pass-word-1") as address:
        room.fetch(f"{address}/site.git", credentials=login)
    assert (room.src / "index.html").read_text() == "one"
    kept = [path.read_text("utf-8", "replace") for path in (room.src / ".git").rglob("*") if path.is_file()]
    assert not any("pass-word-1" in text for text in (*kept, *room.said))


@pytest.mark.parametrize("login", [None, Credentials(username="u", password="wrong-one")])
def test_missing_and_wrong_credentials_are_told_apart_from_absence(
    room: Room, root: Path, login: Credentials | None
) -> None:
    with git_server(root, "u:right-one") as address:
        said = room.refuses(f"{address}/site.git", credentials=login)
    assert "needs credentials" in said
    assert "not supported yet: clone it yourself and deploy the folder" in said


def test_a_repository_that_is_not_there_is_said_not_to_be(room: Room, root: Path) -> None:
    with git_server(root) as address:
        said = room.refuses(f"{address}/nothing.git")
    assert "There is no repository at" in said
    assert "not supported yet: clone it yourself and deploy the folder" in said
    assert "There is no repository at" in room.refuses(f"file://{root}/nothing.git", file_root=str(root))


def test_a_host_that_does_not_answer_is_named(room: Room, root: Path) -> None:
    with git_server(root) as address:
        pass
    assert "cannot be reached" in room.refuses(f"{address}/site.git")


def test_an_unknown_host_is_named(room: Room) -> None:
    assert "is unknown" in room.refuses("http://nowhere.invalid/site.git")


@pytest.mark.parametrize(
    "url",
    [
        "git://127.0.0.1/site.git",
        "ext::sh -c touch% /tmp/owned",
        "--upload-pack=touch /tmp/owned",
        "/etc",
        "../tree",
        "file2://x/y",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/a\nb",
    ],
)
def test_other_transports_than_the_allowed_are_refused(room: Room, url: str) -> None:
    assert "may not be fetched from" in room.refuses(url)


def test_a_file_address_may_not_leave_the_one_root(room: Room, root: Path, tmp_path: Path) -> None:
    bare(tmp_path / "tree", tmp_path / "private.git")
    (root / "link.git").symlink_to(tmp_path / "private.git")
    for url in (f"file://{tmp_path}/private.git", f"file://{root}/../private.git", f"file://{root}/link.git"):
        assert "outside the folder" in room.refuses(url, file_root=str(root))
    assert "outside the folder" in room.refuses(f"file://{root}/%2e%2e/private.git", file_root=str(root))


def test_submodules_come_too_by_the_same_rule(room: Room, root: Path, tmp_path: Path) -> None:
    outer = _with_submodule(tmp_path, root, f"file://{root}/site.git", "theme")
    facts = room.fetch(f"file://{root}/{outer}", file_root=str(root))
    assert (room.src / "theme/index.html").read_text() == "one"
    assert facts.author == "Ada Lovelace"


def test_a_relative_submodule_address_counts_from_its_parent(room: Room, root: Path, tmp_path: Path) -> None:
    outer = _with_submodule(tmp_path, root, "../site.git", "deep/theme")
    with git_server(root) as address:
        room.fetch(f"{address}/{outer}")
    assert (room.src / "deep/theme/index.html").read_text() == "one"


@pytest.mark.parametrize(
    ("url", "words"),
    [("file:///etc/private.git", "outside the folder"), ("ext::sh -c id", "may not be fetched from")],
)
def test_a_submodule_may_not_point_where_a_source_may_not(
    room: Room, root: Path, tmp_path: Path, url: str, words: str
) -> None:
    outer = _with_submodule(tmp_path, root, url, "theme")
    assert words in room.refuses(f"file://{root}/{outer}", file_root=str(root))


def _with_submodule(tmp_path: Path, root: Path, url: str, path: str) -> str:
    tree = work_tree(tmp_path / "outer")
    commit(tree, {".gitmodules": f'[submodule "theme"]\n\tpath = {path}\n\turl = {url}\n', "index.html": "outer"})
    inner = git("rev-parse", "main", cwd=root / "site.git")
    git("update-index", "--add", "--cacheinfo", f"160000,{inner},{path}", cwd=tree)
    git("commit", "-q", "-m", "with a theme", cwd=tree)
    bare(tree, root / "outer.git")
    return "outer.git"


def test_credentials_go_to_the_source_alone_and_not_to_a_submodule_elsewhere(
    room: Room, root: Path, tmp_path: Path
) -> None:
    with git_server(root, "u:pass-word-1") as theirs, git_server(root, "u:pass-word-1") as ours:
        outer = _with_submodule(tmp_path, root, f"{theirs}/site.git", "theme")
        login = Credentials(username="u", password="pass-word-1")
        assert f"{theirs}/site.git needs credentials" in room.refuses(f"{ours}/{outer}", credentials=login)


def test_hooks_and_watchers_in_the_tree_do_not_run(room: Room, root: Path, tmp_path: Path) -> None:
    tree = work_tree(tmp_path / "evil")
    commit(tree, {"x": "1", ".gitattributes": "* filter=own\n", "hooks/post-checkout": "#!/bin/sh\ntouch owned\n"})
    bare(tree, root / "evil.git")
    room.fetch(f"file://{root}/evil.git", file_root=str(root))
    assert not (room.src / "owned").exists()
    assert not (room.src / ".git/hooks").exists()


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("https://example.com/a.git", "https"),
        ("HTTPS://example.com/a.git", "https"),
        ("git@example.com:a/b.git", "ssh"),
        ("ssh://git@example.com/a.git", "ssh"),
        ("ext::sh", ""),
        ("/srv/x", ""),
        ("-oProxyCommand=x:y", ""),
    ],
)
def test_the_kind_of_an_address(url: str, scheme: str) -> None:
    assert scheme_of(url) == scheme


def test_a_shown_address_has_no_password() -> None:
    assert shown("https://me:secret@example.com/a@b.git") == "https://example.com/a@b.git"


def _with_large_file(tmp_path: Path, root: Path) -> str:
    tree = work_tree(tmp_path / "large")
    for name, command in (("clean", "git-lfs clean -- %f"), ("smudge", "git-lfs smudge -- %f")):
        git("config", f"filter.lfs.{name}", command if shutil.which("git-lfs") else "cat", cwd=tree)
    commit(tree, {".gitattributes": "*.bin filter=lfs\n", "a.bin": "large" * 100})
    bare(tree, root / "large.git")
    if shutil.which("git-lfs"):
        shutil.copytree(tree / ".git/lfs", root / "large.git/lfs")
    return f"file://{root}/large.git"


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_large_files_come_too(room: Room, root: Path, tmp_path: Path) -> None:
    room.fetch(_with_large_file(tmp_path, root), file_root=str(root))
    assert (room.src / "a.bin").read_text() == "large" * 100


def test_without_git_lfs_the_log_says_that_pointers_stay(room: Room, root: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").symlink_to(shutil.which("git") or "")
    source = GitSource(url=_with_large_file(tmp_path, root), allow=("file",), file_root=str(root))
    runs = Git(source, spool=room.spool, env={"PATH": str(tmp_path / "bin")}, life=Life())
    Fetch(runs, source, room.src, room.said.append).run()
    assert any("git-lfs is not installed" in text for text in room.said)


async def test_the_daemon_learns_the_facts_and_commands_the_variables(root: Path, tmp_path: Path) -> None:
    source = {
        "kind": "git",
        "url": f"file://{root}/site.git",
        "branch": None,
        "commit": None,
        "credentials": None,
        "allow": ["file"],
        "file_root": str(root),
    }
    settings = {"build_command": "mkdir o; env > o/env.txt; cat > o/stdin", "output_directory": "o"}
    env, public = {"TOKEN": "s3cret-value", "NODE_ENV": "test"}, {"VERCEL_URL": "site.localhost"}
    async with daemon(tmp_path, source, settings=settings, env=env, public_env=public) as fake:
        assert await build(fake, tmp_path / "w") == 0
        assert fake.facts is not None
        assert fake.facts["default_branch"] == "main"
        seen = dict(line.split("=", 1) for line in fake.files()["env.txt"].decode().splitlines() if "=" in line)
        assert seen["VERCEL_GIT_COMMIT_SHA"] == fake.facts["commit"]
        assert (seen["VERCEL_GIT_COMMIT_REF"], seen["VERCEL_GIT_REPO_SLUG"]) == ("main", "site")
        assert (seen["CI"], seen["VERCEL"], seen["SCALEMESH"]) == ("1", "1", "1")
        assert (seen["VERCEL_URL"], seen["TOKEN"], seen["NODE_ENV"]) == ("site.localhost", "s3cret-value", "test")
        assert not any(name.startswith("SCALEMESH_") and "GIT" not in name for name in seen)
        assert fake.files()["stdin"] == b""
