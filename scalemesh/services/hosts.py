"""The one place that makes host labels, and the names they are made of.

Three kinds of label stand under the base domain, and no two owners ever share one:

    <project>                   production
    <project>-git-<branch>      the newest deployment of a branch
    <project>-<6 characters>    one deployment, for ever

They can be told apart because a project name neither contains ``-git-``, nor ends in ``-git``, nor ends in
``-`` and six id characters; and because a branch slug that is not the branch's very name ends in six digits of its
hash, while a branch whose very name ends like that is treated as one that had to be changed.
"""

import ipaddress
import re
from collections.abc import Collection, Iterator
from hashlib import sha256
from itertools import count
from typing import Final

from slugify import slugify

from scalemesh.errors import InvalidError
from scalemesh.values import DeploymentId

MAX_LABEL: Final = 63  # RFC 1035, 2.3.4
MAX_HOST: Final = 253
MAX_PROJECT_NAME: Final = 40  #: leaves 18 characters for a branch behind "-git-"

RESERVED: Final = frozenset(
    {
        *("admin", "api", "app", "assets", "auth", "build", "builds", "cdn", "console", "control"),
        *("dashboard", "dns", "docs", "ftp", "git", "health", "help", "imap", "internal", "invalid"),
        *("local", "localhost", "login", "mail", "metrics", "ns", "ns1", "ns2", "pop", "registry"),
        *("root", "scalemesh", "smtp", "ssh", "static", "status", "support", "system", "test", "webmail"),
        *("welcome", "wpad", "www"),
    }
)

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_ID_TAIL: Final = re.compile(r"-[a-z0-9]{6}$")
_HASH_TAIL: Final = re.compile(r"(?:^|-)[0-9a-f]{6}$")
_DEPLOYMENT: Final = re.compile(r"dpl_[a-z0-9]{6,}")
_HOST_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_PORT: Final = re.compile(r"[0-9]{0,5}")


def production_label(project_name: str) -> str:
    """The label of what is live now."""
    return project_name


def permalink_label(project_name: str, deployment: DeploymentId) -> str:
    """The label of one deployment, for ever: its id's last six characters tell it from its siblings."""
    if not _DEPLOYMENT.fullmatch(deployment):
        raise InvalidError(f"{deployment!r} is no deployment id", why="ids look like dpl_ and 20 of a-z, 0-9")
    return f"{project_name}-{deployment[-6:]}"


def branch_label(project_name: str, branch: str) -> str:
    """The label of the newest deployment of *branch*; different branches have different labels."""
    room = MAX_LABEL - len(project_name) - len("-git-")
    return f"{project_name}-git-{_branch_slug(branch, room)}"


def _branch_slug(branch: str, room: int) -> str:
    slug = slugify(branch)
    if slug == branch and len(slug) <= room and not _HASH_TAIL.search(slug):
        return slug
    tail = sha256(branch.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{slug[: room - 7].strip('-')}-{tail}".lstrip("-")


def check_project_name(name: str, *, reserved: Collection[str] = ()) -> str:
    """Return *name* if a project may carry it; *reserved* adds the operator's own words to ours.

    Raises:
        InvalidError: it cannot be a host label, or could be taken for another project's host.
    """
    why = _fault_of_name(name, reserved)
    if why:
        raise InvalidError(
            f"a project cannot be called {name[:80]!r}",
            why=why,
            fix="take another name, such as " + _mended(slugify(name[:200]), reserved),
        )
    return name


def _fault_of_name(name: str, reserved: Collection[str] = ()) -> str:
    """Why nobody may be called *name*; empty if one may."""
    faults = {
        f"a name has at most {MAX_PROJECT_NAME} characters": len(name) > MAX_PROJECT_NAME,
        "a name is made of a-z, 0-9 and hyphens, and neither begins nor ends with a hyphen": not (
            _NAME.fullmatch(name)
        ),
        "this word is reserved": name in RESERVED or name in reserved,
        # RFC 5891, 4.2.3.1: xn-- and its kin
        "two hyphens in the third and fourth place mark encoded international names": name[2:4] == "--",
        "-git- marks the hosts of branches": "-git-" in name or name.endswith("-git"),
        "a hyphen and six characters at the end mark the hosts of single deployments": bool(_ID_TAIL.search(name)),
    }
    return next((why for why, applies in faults.items() if applies), "")


def name_from_git_url(url: str) -> str:
    """A valid project name after the last part of *url*; ``site`` where nothing of it can be used."""
    last = re.split(r"[/:\\]", url.split("?", 1)[0].split("#", 1)[0].rstrip("/"))[-1]
    return _mended(slugify(last.removesuffix(".git")[:200]), ())


def names_after(name: str) -> Iterator[str]:
    """*name*, then name-2, name-3 and so on, all valid: for whoever needs one that is still free."""
    yield name
    for number in count(2):
        tail = f"-{number}"
        candidate = name[: MAX_PROJECT_NAME - len(tail)].rstrip("-") + tail
        if not _fault_of_name(candidate):
            yield candidate


def _mended(slug: str, reserved: Collection[str]) -> str:
    """The nearest valid name; a second word keeps what a rule would otherwise forbid."""
    second = "-site"
    name = slug
    while "-git-" in name:
        name = name.replace("-git-", "-")
    name = name[:MAX_PROJECT_NAME]
    while name.endswith(("-", "-git")):
        name = name.removesuffix("-").removesuffix("-git")
    if name and _fault_of_name(name, reserved):
        name = name[: MAX_PROJECT_NAME - len(second)].rstrip("-") + second
    return name or "site"


def check_domain(host: str, *, base: str) -> str:
    """Return *host* as we write it, if a person may add it to a project.

    Raises:
        InvalidError: it is no domain, an address, or lies under *base*, where hosts are given out by name.
    """
    name = normal_host(host)
    if name is None or name.startswith("[") or ":" in host or "." not in name or "_" in name:
        raise InvalidError(f"{host[:80]!r} is no domain", fix="write it like www.example.com, without http://")
    if name.rsplit(".", 1)[1].isdigit():
        raise InvalidError(f"{name} is an address", why="a domain is a name", fix="point a name at the address")
    if name == base or name.endswith("." + base):
        raise InvalidError(f"{name} cannot be added", why=f"names under {base} are given to projects by their name")
    return name


def normal_host(header: str) -> str | None:
    """The host of a Host header, as routes are written: lower case, no port, no last dot; None if it is none.

    IPv6 addresses keep their brackets and take their shortest form.
    """
    host, port = _split_port(header)
    if not _PORT.fullmatch(port) or int(port or 0) > 65535 or not header.isascii():
        return None
    if host.startswith("["):
        return _normal_ipv6(host)
    host = host.lower().removesuffix(".")
    if len(host) > MAX_HOST or not all(_HOST_LABEL.fullmatch(label) for label in host.split(".")):
        return None
    return host


def _split_port(header: str) -> tuple[str, str]:
    if header.startswith("["):
        host, bracket, rest = header.partition("]")
        if rest and not rest.startswith(":"):
            return header, "no port"
        return host + bracket, rest[1:]
    host, _, port = header.partition(":")
    return host, port


def _normal_ipv6(host: str) -> str | None:
    try:
        return f"[{ipaddress.IPv6Address(host[1:-1])}]" if host.endswith("]") and "%" not in host else None
    except ipaddress.AddressValueError:
        return None
