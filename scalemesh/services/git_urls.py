"""Says when two Git URLs mean the same repository, so that a deploy finds its project again."""

import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from scalemesh.errors import InvalidError

MAX_URL: Final = 2048
DEFAULT_PORTS: Final = {"https": 443, "http": 80, "ssh": 22, "git": 9418}

# git-clone(1): the scp-like form is one only if no slash stands before the first colon.
_SCP_LIKE: Final = re.compile(r"(?:[^/@:]+@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^/:@\[\]]+):(?P<path>.+)")


def canonical_git_url(url: str) -> str:
    """One spelling for all that name the same repository: a key to compare, not an address to clone from.

    Lower-case scheme and host; no credentials, default port, ``.git``, slash at the end or fragment;
    ``git@host:a/b`` and a path on this machine are written as ssh:// and file:// URLs.

    Raises:
        InvalidError: it is no URL, too long, or holds characters that none may hold.
    """
    if not url or len(url) > MAX_URL or not url.isprintable() or any(c.isspace() for c in url):
        raise _invalid(url)
    return _canonical(_as_url(url), url)


def _as_url(url: str) -> str:
    if "://" in url:
        return url
    if url.startswith("/"):
        return f"file://{url}"
    scp = _SCP_LIKE.fullmatch(url)
    if scp is None:
        raise _invalid(url)
    return f"ssh://{scp['host']}/{scp['path'].lstrip('/')}"


def _canonical(url: str, given: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as cause:
        raise _invalid(given) from cause
    host = (parts.hostname or "").rstrip(".")
    path = parts.path.rstrip("/").removesuffix(".git").rstrip("/")
    if not parts.scheme or not path or bool(host) == (parts.scheme == "file"):
        raise _invalid(given)
    if ":" in host:
        host = f"[{host}]"
    if port is not None and port != DEFAULT_PORTS.get(parts.scheme):
        host = f"{host}:{port}"
    return urlunsplit((parts.scheme, host, path, parts.query, ""))


def _invalid(url: str) -> InvalidError:
    # A URL may carry a password: it is named by its length alone.
    return InvalidError(
        f"this is no Git URL ({len(url)} characters)",
        fix="write it like https://github.com/someone/their-site.git or git@github.com:someone/their-site.git",
    )
