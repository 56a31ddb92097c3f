"""The pages that we answer ourselves where a site has none: one look, nothing loaded from anywhere.

Who does not ask for HTML (a program, an image tag) gets the same words as plain text. No page names a host, a
project or a person that the visitor did not name, and none repeats what the visitor sent.
"""

import re
from dataclasses import dataclass
from html import escape
from typing import Final

from scalemesh.edge.answers import Answer, Headers, Visit
from scalemesh.values import HostKind, Route, State

BUSY_RETRY_S: Final = 5
IDLE_RETRY_S: Final = 30

_CLOSED: Final = ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
_OWN: Final[Headers] = (("Cache-Control", "no-store"), ("Vary", "Accept"))
_HOSTLESS: Final[Headers] = (("X-Content-Type-Options", "nosniff"), ("X-Robots-Tag", "noindex"))

_HTML: Final = re.compile(
    r"(?:^|,)\s*(?:text/html|application/xhtml\+xml)\s*(?P<parameters>;[^,]*)?(?=,|$)", re.IGNORECASE
)
_REFUSED: Final = re.compile(r";\s*q=0(?:\.0*)?\s*(?:;|$)", re.IGNORECASE)

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">{refresh}
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; background: #fafafa; color: #18181b;
  font: 16px/1.6 system-ui, sans-serif }}
main {{ max-width: 32rem; padding: 2rem }}
small {{ color: #71717a; font-size: .875rem; letter-spacing: .06em }}
h1 {{ margin: .25rem 0 .75rem; font-size: 1.625rem; line-height: 1.25 }}
p {{ margin: 0; color: #3f3f46 }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #111113; color: #f4f4f5 }}
  small {{ color: #8e8e99 }}
  p {{ color: #c4c4cc }}
}}
</style>
</head>
<body><main><small>{status}</small><h1>{title}</h1><p>{text}</p></main></body>
</html>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    status: int
    title: str
    text: str
    because: str


_UNKNOWN_HOST: Final = _Words(
    status=404,
    title="There is no site here",
    text="Nothing is published under this address. If you expected a site, check the spelling, or ask whoever "
    "gave you the address.",
    because="unknown host",
)
_GONE: Final = {  #: statuses that a rule may give without a page of its own
    401: ("Not for everybody", "This address needs a sign-in."),
    403: ("Not for you", "The owner of this site keeps this address to themselves."),
    404: ("Page not found", "This site has no page at this address."),
    410: ("Gone for good", "What was at this address has been removed."),
    451: ("Not available", "This address is not available for legal reasons."),
    503: ("Closed for the moment", "The owner of this site has closed this address for now."),
}
_PROTECTED: Final = _Words(
    status=401,
    title="A name and a password are needed",
    text="The owner of this site lets in only those who know them.",
    because="protected",
)
_MALFORMED: Final = _Words(
    status=400,
    title="This address cannot be read",
    text="The address is badly written: an escape is incomplete, is not UTF-8, or leads out of the site.",
    because="malformed target",
)
_TOO_LONG: Final = _Words(
    status=414,
    title="This address is too long",
    text="Addresses on this server have at most 4096 characters.",
    because="target too long",
)
_METHOD: Final = _Words(
    status=405,
    title="This cannot be done here",
    text="This address can only be read: use GET or HEAD.",
    because="method",
)
_RANGE: Final = _Words(
    status=416,
    title="There is no such part",
    text="The file is shorter than the range that was asked for.",
    because="range not satisfiable",
)
_UNREACHABLE: Final = _Words(
    status=503,
    title="This page is out of reach for a moment",
    text="The files of this site cannot be read just now. Please try again in a few seconds.",
    because="the blob store does not answer",
)
_TOO_SLOW: Final = _Words(
    status=503,
    title="This address takes too long",
    text="The rules of this site take too long to say what is here. Its owner can make them simpler.",
    because="the rules take too much time or room",
)
_BROKEN: Final = _Words(
    status=500,
    title="Something went wrong on our side",
    text="The request id in this answer's headers finds it in the server's log.",
    because="internal error",
)

_WAITING: Final = {
    State.QUEUED: ("Waiting to be built", "is queued"),
    State.BUILDING: ("Being built", "is building"),
    State.PUBLISHING: ("Almost there", "is publishing"),
    State.READY: ("Almost there", "is ready and goes live now"),
    State.FAILED: ("Not published", "failed"),
    State.CANCELED: ("Not published", "was canceled"),
    State.SUPERSEDED: ("Not published", "was superseded by a newer one"),
}
_BUSY: Final = frozenset({State.QUEUED, State.BUILDING, State.PUBLISHING, State.READY})


def unknown_host(visit: Visit) -> Answer:
    """No route leads from the host: nothing else is told, least of all which hosts there are."""
    return _answer(visit, _UNKNOWN_HOST, _HOSTLESS)


def waiting(visit: Visit, route: Route) -> Answer:
    """Nothing is ready behind *route*: the state of what was tried last, on a page that reloads itself."""
    title, text = "Nothing is published yet", "This site has no deployment so far."
    if route.waiting is not None:
        title, state = _WAITING[route.waiting]
        what = "This" if route.kind is HostKind.PERMALINK else "The newest"
        text = f"{what} deployment of the site {state}. This page looks again by itself."
    words = _Words(status=503, title=title, text=text, because=f"nothing is ready: {route.waiting}")
    retry_s = BUSY_RETRY_S if route.waiting in _BUSY else IDLE_RETRY_S
    return _answer(visit, words, (("Retry-After", str(retry_s)), *_HOSTLESS), refresh_s=retry_s)


def no_such_page(visit: Visit, headers: Headers, because: str, status: int = 404) -> Answer:
    """The site has neither the file nor a page of its own to say so; or a rule ends the visit with *status*."""
    title, text = _GONE.get(status, ("There is nothing here", "A rule of this site answers so."))
    return _answer(visit, _Words(status=status, title=title, text=text, because=because), headers)


def protected(visit: Visit, headers: Headers, because: str) -> Answer:
    """The path asks for a name and a password (RFC 7617)."""
    asking = ("WWW-Authenticate", 'Basic realm="site", charset="UTF-8"')
    return _answer(visit, _PROTECTED, (asking, *headers), because=because)


def malformed(visit: Visit, headers: Headers) -> Answer:
    """The target cannot be decoded."""
    return _answer(visit, _MALFORMED, headers)


def too_long(visit: Visit, headers: Headers) -> Answer:
    """The target is over its limit."""
    return _answer(visit, _TOO_LONG, headers)


def method_not_allowed(visit: Visit, headers: Headers) -> Answer:
    """Sites are read; *headers* carry Allow."""
    return _answer(visit, _METHOD, headers)


def range_not_satisfiable(visit: Visit, headers: Headers) -> Answer:
    """The range lies past the end; *headers* carry Content-Range."""
    return _answer(visit, _RANGE, headers)


def unreachable(visit: Visit, headers: Headers) -> Answer:
    """The bytes are not in memory, and the store does not give them."""
    return _answer(visit, _UNREACHABLE, (("Retry-After", str(BUSY_RETRY_S)), *headers))


def too_slow(visit: Visit, headers: Headers) -> Answer:
    """The rules of the site cannot be tried in the time that a visit has."""
    return _answer(visit, _TOO_SLOW, headers)


def broken(visit: Visit, headers: Headers) -> Answer:
    """A mistake of ours."""
    return _answer(visit, _BROKEN, headers)


def page(visit: Visit, headers: Headers, *, status: int, title: str, text: str, because: str) -> Answer:
    """A page in words that its caller knows better than we do here; *headers* are added."""
    return _answer(visit, _Words(status=status, title=title, text=text, because=because), headers)


def _answer(
    visit: Visit, words: _Words, headers: Headers, *, because: str = "", refresh_s: int | None = None
) -> Answer:
    if not _wants_html(visit.accept):
        body = f"{words.status} {words.title}\n{words.text}\n"
        typed: Headers = (("Content-Type", "text/plain; charset=utf-8"),)
    else:
        refresh = f'\n<meta http-equiv="refresh" content="{refresh_s}">' if refresh_s else ""
        body = _PAGE.format(refresh=refresh, status=words.status, title=escape(words.title), text=escape(words.text))
        typed = (("Content-Type", "text/html; charset=utf-8"), _CLOSED)
    return Answer(
        status=words.status,
        headers=(*typed, *_OWN, *headers),
        body=body.encode(),
        because=because or words.because,
    )


def _wants_html(accept: str | None) -> bool:
    """Whether *accept* names HTML itself: browsers do where a page will be shown, ``*/*`` alone is a program."""
    found = _HTML.search(accept or "")
    return found is not None and not _REFUSED.search(found["parameters"] or "")
