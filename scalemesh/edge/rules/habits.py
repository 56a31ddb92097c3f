"""What differs between the dialects once their rules are compiled: how paths find files, and a few habits."""

from collections.abc import Callable
from dataclasses import dataclass

from scalemesh.edge.rules.asked import Asked
from scalemesh.edge.rules.outcome import Change, Missing, Redirect, Serve
from scalemesh.rules import Rules
from scalemesh.values import Entry, Manifest

#: (decoded path without its first slash, query, manifest, rules) -> the file there, or its proper address, or nothing
Find = Callable[[str, str, Manifest, Rules], Serve | Redirect | None]
#: (decoded path without its first slash, rules) -> the path that it should have, and the setting that says so
Proper = Callable[[str, Rules], tuple[str, str] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """One dialect."""

    find: Find
    lacking: Callable[[Asked, Manifest, Rules], Serve | Missing]  #: what answers where nothing is found
    proper: Proper | None = None  #: before all rules: a visit goes there first, if something answers there
    rematches: bool = False  #: rules are matched against the path that rules before them led to
    merges_query: bool = (
        False  #: a target with a query of its own gets the visitor's fields besides; else it keeps its own
    )
    redirects_any_method: bool = False  #: redirects answer POST too; else only what proxies does
    changes_missing: bool = False  #: header rules hold for the page of a 404 too
    find_led: Find | None = None  #: in place of *find* where a rule leads to another path of the site
    sets: tuple[Change, ...] = ()  #: headers of every answer


def nearest_404(path: str, manifest: Manifest) -> tuple[str, Entry | None]:
    """The 404.html beside *path*, or above it; None where there is none."""
    directory = path
    while directory:
        directory = directory.rpartition("/")[0]
        name = f"{directory}/404.html" if directory else "404.html"
        if (entry := manifest.entries.get(name)) is not None:
            return name, entry
    return "404.html", manifest.entries.get("404.html")


def once_slashed(path: str) -> str:
    """*path* without its first slash, and with one wherever several stand."""
    once = "/".join(part for part in path.split("/") if part)
    return f"{once}/" if once and path.endswith("/") else once
