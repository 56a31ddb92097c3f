"""Run git with a configuration that is ours alone, and say in plain words why it failed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from builder.errors import BuildFailed
from builder.job import GitSource
from builder.life import Life
from builder.programs import Program, run

SCHEMES: Final = ("https", "http", "ssh", "git", "file")
KEPT_BYTES: Final = 4 * 1024 * 1024
_SCP_LIKE: Final = re.compile(r"(?:[\w.-]+@)?[\w.-]+:(?!//|:)[^\s]+")

#: git asks "Username for 'https://host': " and "Password for 'https://name@host': ". Another host than the
#: source's own (a submodule, a redirect) gets nothing.
ASKPASS: Final = """#!/bin/sh
case "$1" in
  *"://$GIT_HOST': "|*"@$GIT_HOST': ") ;;
  *) exit 1 ;;
esac
case "$1" in
  Username*) printf '%s\\n' "$GIT_USERNAME" ;;
  Password*) printf '%s\\n' "$GIT_PASSWORD" ;;
  *) exit 1 ;;
esac
"""

#: No hooks, no watchers, no filters; the owner of a repository below file_root may be another user than ours.
CONFIG: Final = """[core]
	hooksPath = /dev/null
	fsmonitor = false
	sshCommand = ssh -F none -o BatchMode=yes -o ConnectTimeout=20 -o StrictHostKeyChecking=accept-new
[safe]
	directory = *
[protocol]
	version = 2
	allow = never
[advice]
	detachedHead = false
[http]
	lowSpeedLimit = 1
	lowSpeedTime = 60
[gc]
	auto = 0
[maintenance]
	auto = false
[uploadpack]
	allowAnySHA1InWant = true
"""

#: What git says -> what we say. {url} is the source, {branch} what was asked for.
SENTENCES: Final = (
    (
        r"could not read (Username|Password)|terminal prompts disabled|Authentication failed|askpass",
        "The repository {url} needs credentials or does not exist (some hosts answer the same to both). Check the "
        "address. Private repositories are not supported yet: clone it yourself and deploy the folder.",
    ),
    (
        r"repository '.*' not found|Repository not found|does not appear to be a git repository|"
        r"returned error: 404|repository not exported|not a git repository",
        "There is no repository at {url}, or it is private. Check the address. Private repositories are not "
        "supported yet: clone it yourself and deploy the folder.",
    ),
    (
        r"Could not resolve host|Name or service not known|Temporary failure in name resolution",
        "The host of {url} is unknown. Check the address and the name service of this machine.",
    ),
    (
        r"Failed to connect|Connection refused|Connection timed out|No route to host|Network is unreachable|"
        r"Operation timed out|unable to connect|Couldn't connect",
        "The host of {url} cannot be reached. Check the address and the network; builds may not reach "
        "private addresses unless builds.allow_networks opens them.",
    ),
    (
        r"SSL certificate problem|server certificate verification failed|gnutls_handshake",
        "The certificate of {url} is not trusted here. Name its authority in the settings of the builds.",
    ),
    (
        r"Permission denied \(publickey|Host key verification failed",
        "The host of {url} wants an SSH key that it knows, and builds have none. Use the https address of a public "
        "repository. Private ones are not supported yet: clone it yourself and deploy the folder.",
    ),
    (r"No space left on device", "The disk of the build is full while fetching {url}."),
    (r"transport '.*' not allowed", "The address {url} uses a transport that is not allowed (git.allow)."),
)


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    out: str
    err: str


class Git:
    """Git for one source. Its credentials go to git's askpass alone: never into a URL, an argument or a log."""

    def __init__(self, source: GitSource, *, spool: Path, env: Mapping[str, str], life: Life) -> None:
        self._source, self._life = source, life
        home = spool / "git"
        home.mkdir(parents=True, exist_ok=True)
        (home / "config").write_text(CONFIG + _allowed(source.allow))
        self._env = {
            **env,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(home / "config"),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "LC_ALL": "C",
            **self._asking(home),
        }

    def allowed(self, url: str) -> str:
        """Return *url* if it may be fetched from.

        Raises:
            BuildFailed: its scheme is not allowed, or it is a file outside the one root.
        """
        scheme = scheme_of(url)
        if scheme not in self._source.allow:
            raise BuildFailed(
                "clone_failed",
                f"The address {shown(url)} may not be fetched from: {scheme or 'a bare path'} is not among the "
                f"allowed kinds ({', '.join(self._source.allow)}). Use another address, or allow it in git.allow.",
            )
        if scheme == "file" and not self._below_root(url):
            raise BuildFailed(
                "clone_failed",
                f"The address {shown(url)} lies outside the folder that file addresses may point to (git.file_root).",
            )
        return url

    def say(self, *arguments: str, cwd: Path) -> Said:
        """Run git and return what it said, whatever the exit code."""
        said: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}

        def keep(stream: str, data: bytes) -> None:
            said[stream] += data[: max(0, KEPT_BYTES - len(said[stream]))]

        code = run(Program(argv=("git", *arguments), cwd=cwd, env=self._env), self._life, keep)
        return Said(code, said["out"].decode("utf-8", "replace"), said["err"].decode("utf-8", "replace"))

    def do(self, *arguments: str, cwd: Path, url: str = "") -> str:
        """Run git and return its output.

        Raises:
            BuildFailed: it failed; the sentence says why.
        """
        said = self.say(*arguments, cwd=cwd)
        if said.code:
            raise BuildFailed("clone_failed", explain(said.err, url or self._source.url))
        return said.out

    def _asking(self, home: Path) -> dict[str, str]:
        credentials = self._source.credentials
        if credentials is None:
            return {"GIT_ASKPASS": "/bin/false"}
        script = home / "askpass"
        script.write_text(ASKPASS)
        script.chmod(0o700)
        return {
            "GIT_ASKPASS": str(script),
            "GIT_HOST": urlsplit(self._source.url).netloc.rpartition("@")[2],
            "GIT_USERNAME": credentials.username,
            "GIT_PASSWORD": credentials.password,
        }

    def _below_root(self, url: str) -> bool:
        parts = urlsplit(url)
        if self._source.file_root is None or parts.netloc not in {"", "localhost"}:
            return False
        root = Path(self._source.file_root).resolve()
        return Path(unquote(parts.path)).resolve().is_relative_to(root)


def scheme_of(url: str) -> str:
    """The transport of *url*; empty for anything that is none we know (bare paths, ``ext::``, options)."""
    if any(ord(letter) < 33 or ord(letter) == 127 for letter in url) or url.startswith("-"):
        return ""
    scheme, separator, _ = url.partition("://")
    if separator:
        return scheme.lower() if scheme.lower() in SCHEMES else ""
    return "ssh" if _SCP_LIKE.fullmatch(url) else ""


def shown(url: str) -> str:
    """*url* for people: without a name or password in it, and not endless."""
    scheme, separator, rest = url.partition("://")
    if separator and "@" in rest.partition("/")[0]:
        rest = rest.partition("@")[2]
    return (scheme + separator + rest)[:300]


def explain(err: str, url: str) -> str:
    """One sentence for what git printed when it failed."""
    for pattern, sentence in SENTENCES:
        if re.search(pattern, err, re.IGNORECASE):
            return sentence.format(url=shown(url))
    lines = [line for line in err.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))] or lines or ["no reason"]
    return f"Fetching {shown(url)} failed: {telling[0].strip()[:300]}"


def _allowed(schemes: Sequence[str]) -> str:
    return "".join(f'[protocol "{scheme}"]\n\tallow = always\n' for scheme in schemes if scheme in SCHEMES)
