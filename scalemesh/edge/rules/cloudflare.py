"""The dialect of Cloudflare Pages: _redirects and _headers.

How paths find files is what the open source of its asset server does (cloudflare/workers-sdk, pages-shared,
asset-server/handler.ts). A rule with status 200 leads to another path, which is treated as if it had been asked for.
"""

from typing import Final

from scalemesh.edge.rules.asked import Asked
from scalemesh.edge.rules.default import may_be_a_view
from scalemesh.edge.rules.habits import Habits, nearest_404
from scalemesh.edge.rules.outcome import Change, Missing, Redirect, Serve
from scalemesh.edge.targets import write_target
from scalemesh.rules import HeaderChange, Place, Rules
from scalemesh.values import Manifest

_OWN: Final = (("Access-Control-Allow-Origin", "*"), ("Referrer-Policy", "strict-origin-when-cross-origin"))
_PLACE: Final = Place(file="cloudflare's own habits")


def find(path: str, query: str, manifest: Manifest, _rules: Rules) -> Serve | Redirect | None:
    """One to three look-ups in a dict, and nothing else is in reach."""
    if not path or path.endswith("/"):
        return _find_directory(path, query, manifest)
    if path in manifest.entries:
        return _find_file(path, query, manifest)
    if f"/{path}".endswith("/index"):
        return _moved(path.removesuffix("index"), query, "a directory is asked for without the name of its page")
    if f"{path}.html" in manifest.entries:
        return _serve(f"{path}.html", manifest)
    if f"{path}/index.html" in manifest.entries:
        return _moved(f"{path}/", query, f"{path}/index.html is a directory's page")
    return None


def lacking(asked: Asked, manifest: Manifest, _rules: Rules) -> Serve | Missing:
    """The nearest 404.html; where there is none on the way up, the site is a single-page application."""
    path = asked.path[1:]
    name, page = nearest_404(path, manifest)
    application = manifest.entries.get("index.html")
    if page is None and application is not None and may_be_a_view(path, asked):
        because = "cloudflare: no 404.html, so a single-page application, index.html"
        return Serve(entry=application, path="index.html", because=because)
    return Missing(
        page=page, path=name if page else "", because=f"cloudflare: no such file{f'; {name}' if page else ''}"
    )


def _find_directory(path: str, query: str, manifest: Manifest) -> Serve | Redirect | None:
    if f"{path}index.html" in manifest.entries:
        return _serve(f"{path}index.html", manifest)
    if f"/{path}".endswith("/index/"):
        return _moved(path.removesuffix("index/"), query, "a directory is asked for without the name of its page")
    stem = path.removesuffix("/")
    if f"{stem}.html" in manifest.entries and stem:
        return _moved(stem, query, f"{stem}.html is its page")
    return None


def _find_file(path: str, query: str, manifest: Manifest) -> Serve | Redirect:
    if not path.endswith(".html"):
        return _serve(path, manifest)
    stem = path.removesuffix(".html")
    if f"/{stem}".endswith("/index"):
        return _moved(stem.removesuffix("index"), query, "a directory is asked for without the name of its page")
    if stem in manifest.entries:
        return _serve(path, manifest)
    return _moved(stem, query, "a page is asked for without its extension")


def _serve(name: str, manifest: Manifest) -> Serve:
    return Serve(entry=manifest.entries[name], path=name, because=f"cloudflare: the file {name}")


def _moved(path: str, query: str, why: str) -> Redirect:
    return Redirect(location=write_target(path, query), status=308, because=f"cloudflare: {why}")


HABITS: Final = Habits(
    find=find,
    lacking=lacking,
    redirects_any_method=True,
    sets=tuple(Change(HeaderChange(name=name, value=value), value, _PLACE, is_default=True) for name, value in _OWN),
)
