"""Every error that no page has drawn becomes problem+json (RFC 9457) here, with a request id."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from scalemesh.errors import ScaleMeshError

log = logging.getLogger(__name__)

REQUEST_ID: Final = web.RequestKey("request_id", str)
BEGUN: Final = web.RequestKey("begun", web.StreamResponse)  #: the response whose head went out
RETRY_S: Final = 5  #: after which it is worth asking a thing again that did not answer
CODES: Final = {401: "unauthorized", 403: "forbidden", 404: "not_found", 413: "too_large", 429: "too_many"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What went wrong, in the words of ScaleMeshError."""

    status: int
    code: str
    what: str
    why: str = ""
    fix: str = ""
    request_id: str

    def response(self) -> web.Response:
        body = {
            "type": "about:blank",
            "title": self.what,
            "detail": self.why,
            "fix": self.fix,
            "code": self.code,
            "status": self.status,
            "request_id": self.request_id,
        }
        headers = {"Retry-After": str(RETRY_S)} if self.status == 503 else {}
        return web.json_response(body, status=self.status, headers=headers, content_type="application/problem+json")


class Errors:
    """The outermost middleware; pages have one of their own inside of it."""

    def __init__(self, *, new_id: Callable[[], str]) -> None:
        self._new_id = new_id

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        request[REQUEST_ID] = self._new_id()
        try:
            return await handler(request)
        except ConnectionError:  # whoever asked has gone: nothing to log, and nobody to tell
            return request.get(BEGUN) or web.Response(status=400)
        except Exception as error:  # noqa: BLE001 -- whatever escapes, somebody waits for an answer
            if BEGUN in request:
                return _cut_off(request, error)
            return _answer(request, error)


def _answer(request: web.Request, error: Exception) -> web.Response:
    if isinstance(error, web.HTTPException) and error.status < 400:
        raise error
    response = _problem(error, request).response()
    if isinstance(error, web.HTTPException) and "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _problem(error: Exception, request: web.Request) -> Problem:
    request_id = request[REQUEST_ID]
    if isinstance(error, web.HTTPException):
        return _of_aiohttp(request, error, request_id)
    if not isinstance(error, ScaleMeshError):
        log.error("a request failed", exc_info=error, extra={"request": request_id, "path": request.path})
        what, why = "something broke here", "this is a mistake in Scale Mesh; the daemon's log tells more"
        return Problem(status=500, code="error", what=what, why=why, request_id=request_id)
    if error.status >= 500:
        log.warning("a request failed", extra={"request": request_id, "error": str(error)})
    return Problem(
        status=error.status, code=error.code, what=error.what, why=error.why, fix=error.fix, request_id=request_id
    )


def _cut_off(request: web.Request, error: Exception) -> web.StreamResponse:
    """Half an answer is out already: ending the connection is all that keeps it from being taken for the whole."""
    log.warning("an answer broke off", extra={"request": request[REQUEST_ID], "error": repr(error)})
    if request.transport is not None:
        request.transport.abort()
    return request[BEGUN]


def _of_aiohttp(request: web.Request, error: web.HTTPException, request_id: str) -> Problem:
    phrase = HTTPStatus(error.status).phrase.lower()
    what = f"nothing is at {request.path[:200]}" if error.status == 404 else phrase
    code = CODES.get(error.status, phrase.replace(" ", "_"))
    return Problem(status=error.status, code=code, what=what, request_id=request_id)
