"""Draws what escapes from a page as a page: the same dress, and what, why, fix. Programs keep their problem+json."""

import logging
from typing import Final
from urllib.parse import quote

from aiohttp import web
from aiohttp.typedefs import Handler

from scalemesh.errors import ScaleMeshError
from scalemesh.web.errors import BEGUN, REQUEST_ID, Problem
from scalemesh.web.ui.render import Renderer

log = logging.getLogger(__name__)

PROGRAMS: Final = ("/api/", "/build/", "/metrics")
REFUSALS: Final = {
    404: "There is no such page",
    405: "That page cannot be used like this",
    413: "That was too large",
}


class PageFailures:
    """Its middleware stands between the one that answers programs and the gate, whose refusals it draws too."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(PROGRAMS):
            return await handler(request)
        try:
            return await handler(request)
        except ConnectionError:
            raise
        except Exception as error:
            if BEGUN in request or (isinstance(error, web.HTTPException) and error.status < 400):
                raise
            return self._draw(request, _problem(request, error))

    def _draw(self, request: web.Request, problem: Problem) -> web.Response:
        """The page; whoever is not signed in comes to the sign-in page first."""
        if problem.status == 401 and request.method in ("GET", "HEAD"):
            return web.Response(status=303, headers={"Location": f"/sign-in?next={quote(request.path_qs, safe='')}"})
        return self._renderer.page(request, "error.html", {"problem": problem}, status=problem.status)


def _problem(request: web.Request, error: Exception) -> Problem:
    request_id = request[REQUEST_ID]
    if isinstance(error, web.HTTPException):
        what = REFUSALS.get(error.status, error.reason)
        return Problem(status=error.status, code="error", what=what, request_id=request_id)
    if not isinstance(error, ScaleMeshError):
        log.error("a page failed", exc_info=error, extra={"request": request_id, "path": request.path})
        error = ScaleMeshError("something broke here", why="the daemon's log tells more")
    return Problem(
        status=error.status, code=error.code, what=error.what, why=error.why, fix=error.fix, request_id=request_id
    )
