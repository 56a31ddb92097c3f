"""The default dialect: what a site without any rules of its own gets.

``/x`` serves x, else x.html, else redirects to ``/x/`` where x/index.html exists; ``/x/`` serves x/index.html;
the nearest 404.html up the tree answers the rest; a single-page application answers pages itself.
"""

from typing import Final

from scalemesh.edge.rules.asked import Asked
from scalemesh.edge.rules.habits import Habits, nearest_404, once_slashed
from scalemesh.edge.rules.outcome import Missing, Redirect, Serve
from scalemesh.edge.targets import write_target
from scalemesh.rules import Rules
from scalemesh.services.content_types import is_asset
from scalemesh.services.manifests import is_hidden
from scalemesh.values import Manifest


def find(path: str, query: str, manifest: Manifest, _rules: Rules) -> Serve | Redirect | None:
    """One to three look-ups in a dict, and nothing else is in reach."""
    if "//" in f"/{path}":
        return Redirect(
            location=write_target(once_slashed(path), query), status=308, because="default: doubled slashes"
        )
    for name, because in _candidates(path):
        if (entry := manifest.entries.get(name)) is not None:
            return Serve(entry=entry, path=name, because=f"default: {because} {name}")
    if path and not path.endswith("/") and f"{path}/index.html" in manifest.entries:
        return Redirect(
            location=write_target(f"{path}/", query),
            status=308,
            because=f"default: {path}/index.html is a directory's page",
        )
    return None


def lacking(asked: Asked, manifest: Manifest, rules: Rules) -> Serve | Missing:
    """The single-page application, or the nearest 404 page."""
    path = asked.path[1:]
    if rules.fallback and may_be_a_view(path, asked):
        entry = manifest.entries[rules.fallback]
        because = f"default: single-page application, {rules.fallback}"
        return Serve(entry=entry, path=rules.fallback, because=because)
    name, page = nearest_404(path, manifest)
    because = f"default: no such file; {name}" if page else "default: no such file, and no 404.html"
    return Missing(page=page, path=name if page else "", because=because)


def may_be_a_view(path: str, asked: Asked) -> bool:
    """Hidden and well-known names are never an application's; a missing asset never answers as a page."""
    if is_hidden(path) or path.startswith(".well-known/"):
        return False
    return not is_asset(path) or asked.navigates


def _candidates(path: str) -> tuple[tuple[str, str], ...]:
    if not path or path.endswith("/"):
        return ((f"{path}index.html", "the directory's page"),)
    return ((path, "the file"), (f"{path}.html", "the page"))


HABITS: Final = Habits(find=find, lacking=lacking)
