"""Vercel's dialect: vercel.json and the Build Output API.

A page has the address that its file has, with ``.html``, unless cleanUrls is set. A directory's page answers with and
without a slash, unless trailingSlash chooses one. A 404 shows the 404.html at the top.
"""

import re
from typing import Final

from scalemesh.edge.rules.asked import Asked
from scalemesh.edge.rules.habits import Habits, once_slashed
from scalemesh.edge.rules.outcome import Missing, Redirect, Serve
from scalemesh.edge.targets import write_target
from scalemesh.rules import Rules
from scalemesh.services.content_types import HTML
from scalemesh.values import Manifest

_INDEX: Final = re.compile(r"(?:(.+)/)?index(?:\.html)?/?", re.DOTALL)
_PAGE: Final = re.compile(r"(.*)\.html/?", re.DOTALL)
_WITHOUT_SLASH: Final = re.compile(r"((?:[^/]+/)*[^/.]+)")
_FILE_WITH_SLASH: Final = re.compile(r"((?:[^/]+/)*[^/]+\.\w+)/")


def proper(path: str, rules: Rules) -> tuple[str, str] | None:
    """What cleanUrls, then trailingSlash make of *path*."""
    if rules.clean_urls and (found := _INDEX.fullmatch(path) or _PAGE.fullmatch(path)):
        bare = (found[1] or "").rstrip("/")
        return (f"{bare}/" if bare and rules.trailing_slash else bare), "cleanUrls"
    if rules.trailing_slash is None:
        return None
    if not rules.trailing_slash:
        return (path.rstrip("/"), "trailingSlash") if path.endswith("/") else None
    if path == ".well-known" or path.startswith(".well-known/"):
        return None
    if _WITHOUT_SLASH.fullmatch(path):
        return f"{path}/", "trailingSlash"
    return (path[:-1], "trailingSlash") if _FILE_WITH_SLASH.fullmatch(path) else None


def find(path: str, query: str, manifest: Manifest, rules: Rules) -> Serve | Redirect | None:
    """A few look-ups in a dict."""
    if "//" in f"/{path}":
        return Redirect(location=write_target(once_slashed(path), query), status=308, because="vercel: doubled slashes")
    for name, is_page, because in _candidates(path, rules):
        entry = manifest.entries.get(name)
        if entry is not None and (not is_page or entry.content_type.startswith(HTML)):
            return Serve(entry=entry, path=name, because=f"vercel: {because} {name}")
    return None


def lacking(_asked: Asked, manifest: Manifest, _rules: Rules) -> Missing:
    """The site's own 404 page; a build may have put it under its name without ``.html``."""
    for name in ("404.html", "404"):
        page = manifest.entries.get(name)
        if page is not None and page.content_type.startswith(HTML):
            return Missing(page=page, path=name, because=f"vercel: no such file; {name}")
    return Missing(page=None, because="vercel: no such file, and no 404.html")


def _candidates(path: str, rules: Rules) -> list[tuple[str, bool, str]]:
    """Names of files for *path*; whether each must be a page, since a build named it so; what it is."""
    bare = path.rstrip("/")
    names = [] if path.endswith("/") or not path else [(path, False, "the file")]
    if rules.clean_urls and bare:
        names.append((f"{bare}.html", False, "cleanUrls, the page"))
    directory = f"{bare}/" if bare else ""
    names.append((f"{directory}index.html", False, "the directory's page"))
    if bare:
        names.append((bare, True, "the page"))
    names.append((f"{directory}index", True, "the directory's page"))
    return names


HABITS: Final = Habits(find=find, lacking=lacking, proper=proper, rematches=True, merges_query=True)
