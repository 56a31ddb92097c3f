"""Netlify's dialect: _redirects, _headers and netlify.toml.

With pretty URLs ``/x`` serves x.html, ``/x/`` leads to ``/x`` where there is x.html, and ``/x`` to ``/x/`` where there
is x/index.html alone. Without them every form serves the page that it means. Nothing is a single-page application by
itself: a rule ``/* /index.html 200`` says so.
"""

from typing import Final

from scalemesh.edge.rules.asked import Asked
from scalemesh.edge.rules.habits import Habits, once_slashed
from scalemesh.edge.rules.outcome import Missing, Redirect, Serve
from scalemesh.edge.targets import write_target
from scalemesh.rules import Rules
from scalemesh.values import Manifest

MOVED: Final = 301


def find(path: str, query: str, manifest: Manifest, rules: Rules) -> Serve | Redirect | None:
    """A few look-ups in a dict, and nothing else is in reach."""
    if not rules.pretty_urls:
        return find_any(path, query, manifest, rules)
    if "//" in f"/{path}":
        return _once_slashed(path, query, manifest, rules)
    stem = path.removesuffix("/")
    if stem and path != stem and f"{stem}.html" in manifest.entries:
        return _moved(stem, query, f"{stem}.html is its page")
    if stem == path and (served := _served((path, f"{path}.html"), manifest)):
        return served
    if path and stem == path and f"{path}/index.html" in manifest.entries:
        return _moved(f"{path}/", query, f"{path}/index.html is a directory's page")
    return _served((f"{path}index.html",), manifest) if path in ("", f"{stem}/") else None


def find_any(path: str, _query: str, manifest: Manifest, _rules: Rules) -> Serve | None:
    """Whatever form a path has, it serves what it means."""
    stem = path.removesuffix("/")
    index = f"{stem}/index.html" if stem else "index.html"
    return _served((index, f"{stem}.html") if stem != path else (stem, f"{stem}.html", index), manifest)


def lacking(_asked: Asked, manifest: Manifest, _rules: Rules) -> Missing:
    """The page of the site's own at its top."""
    page, name = manifest.entries.get("404.html"), "404.html"
    if page is None:
        return Missing(page=None, because="netlify: no such file, and no 404.html")
    return Missing(page=page, path=name, because=f"netlify: no such file; {name}")


def _once_slashed(path: str, query: str, manifest: Manifest, rules: Rules) -> Redirect | None:
    """Doubled slashes lead to the path without them, where that is one of the site."""
    once = once_slashed(path)
    return None if find_any(once, query, manifest, rules) is None else _moved(once, query, "doubled slashes")


def _served(names: tuple[str, ...], manifest: Manifest) -> Serve | None:
    for name in names:
        if (entry := manifest.entries.get(name)) is not None:
            return Serve(entry=entry, path=name, because=f"netlify: the file {name}")
    return None


def _moved(path: str, query: str, why: str) -> Redirect:
    return Redirect(location=write_target(path, query), status=MOVED, because=f"netlify: pretty URLs, {why}")


HABITS: Final = Habits(find=find, find_led=find_any, lacking=lacking, changes_missing=True)
