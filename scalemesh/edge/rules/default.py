"""The default dialect: what a site without any rules of its own gets.

``/x`` serves x, else x.html, else redirects to ``/x/`` where x/index.html exists; ``/x/`` serves x/index.html;
the nearest 404.html up the tree answers the rest; a single-page application answers pages itself.
"""

from scalemesh.edge.rules.outcome import Missing, Outcome, Redirect, Serve
from scalemesh.edge.targets import Target, write_target
from scalemesh.services.content_types import is_asset
from scalemesh.services.manifests import is_hidden
from scalemesh.values import Entry, Manifest


def resolve(target: Target, manifest: Manifest, navigates: bool) -> Outcome:
    """Say what *target* means in *manifest*: one to three look-ups in a dict, and nothing else is in reach."""
    path, entries = target.path, manifest.entries
    if "//" in f"/{path}":
        once = "/".join(part for part in target.parts if part) + ("/" if path.endswith("/") else "")
        return Redirect(location=write_target(once, target.query), status=308, because="default: doubled slashes")
    for name, because in _candidates(path):
        if (entry := entries.get(name)) is not None:
            return Serve(entry=entry, because=f"default: {because} {name}")
    if path and not path.endswith("/") and f"{path}/index.html" in entries:
        return Redirect(
            location=write_target(f"{path}/", target.query),
            status=308,
            because=f"default: {path}/index.html is a directory's page",
        )
    return _fallback(path, manifest, navigates)


def _candidates(path: str) -> tuple[tuple[str, str], ...]:
    if not path or path.endswith("/"):
        return ((f"{path}index.html", "the directory's page"),)
    return ((path, "the file"), (f"{path}.html", "the page"))


def _fallback(path: str, manifest: Manifest, navigates: bool) -> Outcome:
    if manifest.fallback is not None and _may_be_a_view(path, navigates):
        entry = manifest.entries[manifest.fallback]
        return Serve(entry=entry, because=f"default: single-page application, {manifest.fallback}")
    name, page = _nearest_404(path, manifest)
    because = f"default: no such file; {name}" if page else "default: no such file, and no 404.html"
    return Missing(page=page, because=because)


def _may_be_a_view(path: str, navigates: bool) -> bool:
    """Hidden and well-known names are never an application's; a missing asset never answers as a page."""
    if is_hidden(path) or path.startswith(".well-known/"):
        return False
    return navigates or not is_asset(path)


def _nearest_404(path: str, manifest: Manifest) -> tuple[str, Entry | None]:
    directory = path
    while directory:
        directory = directory.rpartition("/")[0]
        name = f"{directory}/404.html" if directory else "404.html"
        if (entry := manifest.entries.get(name)) is not None:
            return name, entry
    return "404.html", manifest.entries.get("404.html")
