"""Why a visit could not be passed on to its origin, each in the words that the visitor reads."""

from typing import Final

import aiohttp
from aiohttp import web

from scalemesh.edge import pages
from scalemesh.edge.answers import Answer, Headers, Visit
from scalemesh.edge.origins.addresses import ForbiddenAddressError

RETRY_S: Final = 5
_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_KEPT_ON_PAGES: Final = frozenset({"x-scalemesh-deployment", "x-robots-tag", "x-content-type-options"})


class Refusal(Exception):  # noqa: N818  an answer, not a mistake of ours
    """The visit ends here, with a page of ours. Its text is for the log: what exactly happened."""

    status = 502
    title = "The server behind this page does not answer"
    text = "This page comes from another server, and no connection to it could be made. Please try again later."
    headers: Headers = ()

    def page(self, visit: Visit, headers: Headers) -> Answer:
        """The page; of *headers*, those of a rule, what an error may carry."""
        kept = tuple(pair for pair in headers if pair[0].lower() in _KEPT_ON_PAGES)
        return pages.page(
            visit, (*self.headers, *kept), status=self.status, title=self.title, text=self.text, because=str(self)
        )


class BadPlace(Refusal):
    title = "This page leads nowhere"
    text = "The site passes this address on to another server, but what it names is no address of a server."


class ForbiddenPlace(Refusal):
    title = "This page leads to a closed network"
    text = (
        "The site passes this address on to a server that sites may not reach from here: it is in a private network, "
        "or on this very machine. Whoever runs this server can open it with proxy.allow_networks."
    )


class UnknownName(Refusal):
    text = "This page comes from another server, and its host name could not be found. Please try again later."


class Untrusted(Refusal):
    title = "The server behind this page cannot be trusted"
    text = (
        "This page comes from another server, and its certificate could not be proven. Whoever runs this server can "
        "name the authority behind it with proxy.ca_bundle."
    )


class Garbled(Refusal):
    title = "The server behind this page answers badly"
    text = "This page comes from another server, and what it answered cannot be read or was cut short."


class TooLongAnswer(Refusal):
    title = "This answer is too large"
    text = "The server behind this page answers with more than is passed on here (proxy.answer_mib)."


class TooLongRequest(Refusal):
    status = 413
    title = "This is too much at once"
    text = "What was sent is larger than what is passed on here (proxy.request_mib)."


class BrokenRequest(Refusal):
    status = 400
    title = "This request cannot be read"
    text = "What was sent breaks off, or is badly written."


class TooLate(Refusal):
    status = 504
    title = "The server behind this page takes too long"
    text = "This page comes from another server, and it did not answer in time. Please try again later."


class Loop(Refusal):
    status = 508
    title = "This page leads back to itself"
    text = "The site passes this address on to a server that passes it on again, and so for ever."


class TooMany(Refusal):
    status = 503
    title = "Too many at once"
    text = "Too many visits are being passed on to other servers just now. Please try again in a few seconds."
    headers = (("Retry-After", str(RETRY_S)),)


class NoMethod(Refusal):
    status = 405
    title = "This cannot be done here"
    text = "No connections are passed on, only requests."
    headers = (("Allow", _METHODS),)


def reason(error: Exception) -> Refusal:
    """What *error*, from connecting to an origin or reading the head of its answer, means to the visitor."""
    if _is_forbidden(error):
        return ForbiddenPlace(str(error))
    for kinds, refusal in _MEANINGS:
        if isinstance(error, kinds):
            return refusal(f"{type(error).__name__}: {error}")
    return Refusal(f"{type(error).__name__}: {error}")


_MEANINGS: Final[tuple[tuple[tuple[type[Exception], ...], type[Refusal]], ...]] = (
    ((TimeoutError,), TooLate),
    ((aiohttp.InvalidURL,), BadPlace),
    ((aiohttp.ClientConnectorDNSError,), UnknownName),
    ((aiohttp.ClientSSLError,), Untrusted),
    ((aiohttp.ClientResponseError, aiohttp.ClientPayloadError), Garbled),
)


def _is_forbidden(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ForbiddenAddressError):
        error = error.__cause__
    return error is not None


def sent(request: web.BaseRequest, answer: Answer, own: Headers) -> web.Response:
    """*answer* as a response, with *own* headers; what is still to come of the request ends the connection."""
    response = web.Response(status=answer.status, headers=[*answer.headers, *own], body=_body(answer))
    if not request.content.is_eof():
        response.force_close()
    return response


def _body(answer: Answer) -> bytes | None:
    return answer.body if isinstance(answer.body, bytes) else None
