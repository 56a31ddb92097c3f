"""Get the source: one Git commit, shallow, with its submodules and large files; and the facts about it.

Everything that needs Git is read here, before any command of the user's can touch the folder ``.git``.
"""

import posixpath
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from builder.errors import BuildFailed
from builder.git import Git, explain, shown
from builder.job import GitSource

MAX_SUBMODULES: Final = 200
MAX_MESSAGE_CHARS: Final = 8192
#: git lfs puts files into the folder only where its filter is set up; the filter itself has nothing to do here
LFS_FILTER: Final = ("-c", "filter.lfs.smudge=git-lfs smudge -- %f", "-c", "filter.lfs.clean=git-lfs clean -- %f")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about the commit that is built; see protocol.Facts."""

    commit: str
    branch: str | None
    default_branch: str | None
    message: str
    author: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Remote:
    default_branch: str | None
    heads: dict[str, str]  #: full ref name or HEAD -> commit


class Fetch:
    """One fetch of one source into one empty folder."""

    def __init__(self, git: Git, source: GitSource, src: Path, say: Say) -> None:
        self._git, self._source, self._src, self._say = git, source, src, say
        self._submodules = 0

    def run(self) -> Facts:
        """Fetch, check out, and return the facts.

        Raises:
            BuildFailed: clone_failed, with the cause in plain words.
        """
        url = self._git.allowed(self._source.url)
        remote = self._look(url)
        branch = self._source.branch or (None if self._source.commit else remote.default_branch)
        commit = self._commit(remote, branch)
        named = f"{branch} at {commit[:10]}" if branch else commit[:10]
        self._say(f"Cloning {shown(url)} ({named})")
        self._checkout(url, commit, branch, self._src)
        self._add_submodules(self._src, url, depth=0)
        self._add_large_files(url)
        message, author = self._describe()
        return Facts(commit=commit, branch=branch, default_branch=remote.default_branch, message=message, author=author)

    def deepen(self, facts: Facts, depth: int) -> None:
        """Get the last *depth* commits too, for commands that compare; without them is no failure."""
        self._git.say(
            "fetch", "-q", "--no-tags", f"--depth={depth}", "--", self._source.url, facts.commit, cwd=self._src
        )

    def _look(self, url: str) -> _Remote:
        wanted = ["HEAD", *([f"refs/heads/{self._source.branch}"] if self._source.branch else [])]
        said = self._git.do("ls-remote", "--symref", "--", url, *wanted, cwd=self._src.parent)
        default, heads = None, {}
        for line in said.splitlines():
            value, _, name = line.partition("\t")
            if value.startswith("ref: refs/heads/") and name == "HEAD":
                default = value.removeprefix("ref: refs/heads/")
            elif _COMMIT.fullmatch(value):
                heads[name] = value
        return _Remote(default, heads)

    def _commit(self, remote: _Remote, branch: str | None) -> str:
        url = shown(self._source.url)
        if self._source.commit:
            if not _COMMIT.fullmatch(self._source.commit):
                raise BuildFailed("clone_failed", f"{self._source.commit[:80]!r} is not a full commit id.")
            return self._source.commit
        if branch and (found := remote.heads.get(f"refs/heads/{branch}")):
            return found
        if not self._source.branch and (found := remote.heads.get("HEAD")):
            return found
        if not remote.heads and not self._source.branch:
            raise BuildFailed("clone_failed", f"The repository {url} is empty. Push a commit first.")
        default = f" Its default branch is {remote.default_branch!r}." if remote.default_branch else ""
        raise BuildFailed("clone_failed", f"The repository {url} has no branch {branch!r}.{default}")

    def _checkout(self, url: str, commit: str, branch: str | None, folder: Path) -> None:
        git = self._git
        git.do("init", "-q", "--template=", "-b", "scalemesh", ".", cwd=folder)
        fetch = ("fetch", "-q", "--no-tags", "--no-recurse-submodules")
        said = git.say(*fetch, "--depth=1", "--", url, commit, cwd=folder)
        if said.code:  # an old server gives only what a branch names: take that branch with its history
            refs = f"refs/heads/{branch}" if branch else "refs/heads/*:refs/remotes/origin/*"
            if not re.search("unadvertised object|not our ref", said.err):
                raise BuildFailed("clone_failed", explain(said.err, url))
            git.do(*fetch, "--", url, refs, cwd=folder, url=url)
            if git.say("cat-file", "-e", f"{commit}^{{commit}}", cwd=folder).code:
                raise BuildFailed(
                    "clone_failed", f"The repository {shown(url)} has no commit {commit[:10]} (any more)."
                )
        git.do("checkout", "-q", "--detach", commit, cwd=folder, url=url)

    def _describe(self) -> tuple[str, str]:
        said = self._git.do("log", "-1", "--no-show-signature", "--format=%an%x00%B", cwd=self._src)
        author, _, message = said.partition("\0")
        return message.strip()[:MAX_MESSAGE_CHARS], author.strip()[:200]

    def _add_submodules(self, folder: Path, parent_url: str, depth: int) -> None:
        """Fetch the commit that the tree names for each submodule; each URL must pass the same rule."""
        if not (folder / ".gitmodules").is_file() or (folder / ".gitmodules").is_symlink():
            return
        urls = self._submodule_urls(folder)
        for line in self._git.do("ls-files", "-s", "-z", cwd=folder).split("\0"):
            mode, _, rest = line.partition(" ")
            path = rest.partition("\t")[2]
            if mode != "160000" or path not in urls:
                continue
            self._submodules += 1
            if self._submodules > MAX_SUBMODULES or depth > 8:
                raise BuildFailed("clone_failed", f"There are more than {MAX_SUBMODULES} submodules, or in a loop.")
            url = self._git.allowed(_joined(parent_url, urls[path]))
            self._say(f"Cloning submodule {path} from {shown(url)}")
            (folder / path).mkdir(parents=True, exist_ok=True)
            self._checkout(url, rest.split(" ")[0], None, folder / path)
            self._add_submodules(folder / path, url, depth + 1)

    def _submodule_urls(self, folder: Path) -> dict[str, str]:
        said = self._git.say(
            "config", "-z", "-f", ".gitmodules", "--get-regexp", r"^submodule\..*\.(path|url)$", cwd=folder
        )
        found: dict[str, dict[str, str]] = {}
        for item in filter(None, said.out.split("\0")):
            key, _, value = item.partition("\n")
            name, _, what = key.rpartition(".")
            found.setdefault(name, {})[what] = value
        return {each["path"]: each["url"] for each in found.values() if "path" in each and "url" in each}

    def _add_large_files(self, url: str) -> None:
        """Replace the pointers of Git LFS by their files, from the source's own LFS server or an allowed one."""
        if self._git.say("grep", "-q", "filter=lfs", "--", "*.gitattributes", cwd=self._src).code:
            return
        if self._git.say("lfs", "version", cwd=self._src).code:
            self._say("Warning: large files stay pointers, since git-lfs is not installed where builds run.")
            return
        settings = ["-c", f"remote.origin.url={url}", *LFS_FILTER]
        said = self._git.say("config", "-f", ".lfsconfig", "--get", "lfs.url", cwd=self._src)
        if not said.code:
            settings += ["-c", f"lfs.url={self._git.allowed(said.out.strip())}"]
        self._say("Fetching large files (Git LFS)")
        self._git.do(*settings, "-c", "lfs.concurrenttransfers=4", "lfs", "pull", "origin", cwd=self._src, url=url)


def _joined(parent: str, url: str) -> str:
    """*url* of a submodule, which may be relative to its parent's (``../other.git``)."""
    if not url.startswith(("./", "../")):
        return url
    scheme, separator, rest = parent.partition("://")
    if not separator:
        host, _, path = parent.partition(":")
        return f"{host}:{posixpath.normpath(posixpath.join(path, url))}"
    host, slash, path = rest.partition("/")
    joined = posixpath.normpath(posixpath.join("/" + path.rstrip("/"), url)).lstrip("/")
    return f"{scheme}{separator}{host}{slash}{joined}"
