"""Renders the templates: one environment, escaped throughout."""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType

import jinja2
from aiohttp import web
from markupsafe import Markup

from scalemesh.amounts import size
from scalemesh.services.disk_room import DiskRoom, Level
from scalemesh.values import Deployment, State
from scalemesh.web.auth import USER
from scalemesh.web.ui import sgr, words
from scalemesh.web.ui.static_files import StaticFiles


class Renderer:
    def __init__(self, static_files: StaticFiles, disk: DiskRoom, *, now: Callable[[], datetime]) -> None:
        """*disk*: every page of whoever is signed in says so where it is short of room."""
        self._now, self._disk = now, disk
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("scalemesh.web.ui"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals.update(static=static_files.url, State=State, steps=words.STEPS, states=words.STATES)
        self._templates.filters.update(
            ago=self._ago,
            took=self._took,
            title=words.title,
            span=words.span,
            advice=lambda reason: words.ADVICE[reason],
            ansi=ansi,
            size=size,
        )

    def page(
        self,
        request: web.Request,
        template: str,
        context: Mapping[str, object] = MappingProxyType({}),
        *,
        status: int = 200,
    ) -> web.Response:
        """The page made from *template*, for whoever asks."""
        viewer, disk = request.get(USER), self._disk
        short = (
            None if viewer is None or disk.takes_builds else {"is_last": disk.level is Level.LAST, "why": disk.why()}
        )
        known = {"viewer": viewer, "path": request.path, "short_of_room": short, **context}
        text = self._templates.get_template(template).render(known)
        return web.Response(text=text, status=status, content_type="text/html")

    def _ago(self, at: datetime) -> Markup:
        return Markup('<time datetime="{}" title="{}" data-ago>{}</time>').format(
            at.isoformat(), words.exact(at), words.ago(at, self._now())
        )

    def _took(self, deployment: Deployment) -> Markup | str:
        """How long it took; while it runs, an element that counts on."""
        seconds = words.duration_s(deployment, self._now())
        if seconds is None:
            return "–"
        if deployment.is_final or deployment.started_at is None:
            return words.span(seconds)
        return Markup('<span data-since="{}">{}</span>').format(deployment.started_at.isoformat(), words.span(seconds))


def ansi(text: str) -> Markup:
    """A log line as HTML: colours as classes, everything else escaped."""
    parts = [
        Markup('<span class="{}">{}</span>').format(classes, part) if classes else Markup("{}").format(part)
        for classes, part in sgr.spans(text)
    ]
    return Markup("").join(parts)
