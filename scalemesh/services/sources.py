"""What may be named as a source: Git URLs, branches, commits, folders inside a repository."""

import re
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

from scalemesh.config import Git
from scalemesh.errors import InvalidError

SCP_LIKE: Final = re.compile(r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?![:/]{2}|:)[^\s\\]+")
COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
MAX_URL: Final = 2048
MAX_BRANCH: Final = 250
MAX_FOLDER: Final = 1024
# git check-ref-format, as far as a shell, a host name or a log could be hurt
BAD_BRANCH: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\.lock(?:/|$)|^[-/.]|[/.]$")


def check_git_url(url: str, allowed: Git) -> str:
    """Return *url* if a build may fetch from it.

    Raises:
        InvalidError: what is wrong and which URLs are allowed.
    """
    scheme = "ssh" if SCP_LIKE.fullmatch(url) and "://" not in url else urlsplit_or_none(url)
    problem = ""
    if not url or len(url) > MAX_URL or url.startswith("-") or any(ord(c) <= 0x20 or ord(c) == 0x7F for c in url):
        problem = "it is empty, too long, begins with '-' or holds blanks"
    elif scheme not in allowed.allow:
        problem = f"allowed: {', '.join(allowed.allow)}"
    elif scheme == "file" and not _below(url, allowed.file_root):
        problem = "file:// URLs must lie below git.file_root"
    elif "://" in url and urlsplit(url).password:
        problem = "a password in a URL ends up in logs; private repositories are not supported yet"
    if problem:
        shown = re.sub(r"//[^/@]*@", "//…@", url[:200])
        raise InvalidError(f"{shown!r} cannot be deployed from", why=problem, fix="see [git] allow in the config")
    return url


def repository_folder(url: str, allowed: Git) -> str | None:
    """The folder of this machine that a fetch from *url* reads, spelled as in the URL; None: it reads none.

    It holds one repository and nothing else: of a checkout it is ``.git``. Looked for in the order of git itself
    (gitrepository-layout, ``enter_repo``).
    """
    if urlsplit_or_none(url) != "file" or not _below(url, allowed.file_root):
        return None
    named = Path(unquote(urlsplit(url).path))
    longer = named.parent / f"{named.name}.git"
    return next((str(each) for each in (named / ".git", named, longer / ".git", longer) if _is_git(each)), None)


def check_branch(branch: str) -> str:
    """Return *branch* if Git would take it as a branch name.

    Raises:
        InvalidError: it is none.
    """
    if not branch or len(branch.encode()) > MAX_BRANCH or BAD_BRANCH.search(branch) or branch == "@":
        raise InvalidError(f"{branch[:80]!r} is no branch name")
    return branch


def check_commit(commit: str) -> str:
    """Return *commit*, a full hash in lower case.

    Raises:
        InvalidError: it is none.
    """
    if not COMMIT.fullmatch(commit.lower()):
        raise InvalidError(f"{commit[:80]!r} is no commit", fix="give the full hash (40 or 64 hex digits)")
    return commit.lower()


def check_root_directory(folder: str) -> str:
    """Return *folder* in its one normal spelling: "" for the top, else "a/b".

    Raises:
        InvalidError: it is absolute, leaves the repository, or is no sensible name.
    """
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts or ".git" in path.parts or len(folder) > MAX_FOLDER or "\0" in folder:
        raise InvalidError(f"root directory {folder[:80]!r}: must be a folder inside the repository, like apps/web")
    normal = path.as_posix()
    return "" if normal == "." else normal


def urlsplit_or_none(url: str) -> str | None:
    """The scheme, or None for what is no URL with a host or a path."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    if not parts.scheme or not (parts.hostname or (parts.scheme == "file" and parts.path)):
        return None
    return parts.scheme.lower()


def _below(url: str, root: Path | None) -> bool:
    parts = urlsplit(url)
    if root is None or parts.netloc not in ("", "localhost"):
        return False
    try:
        return Path(unquote(parts.path)).resolve().is_relative_to(root.resolve())
    except (ValueError, RuntimeError):  # a NUL, a ring of symbolic links
        return False


def _is_git(folder: Path) -> bool:
    try:
        return (folder / "objects").is_dir()
    except PermissionError:  # not for the daemon's user; whoever fetches may be another
        return True
