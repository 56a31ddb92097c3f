"""Why a visit is answered as it is: plain values for people, and the question that makes them.

No rule is read here. The edge decides the visit as it does for every visitor, and writes down what it met.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from scalemesh.errors import InvalidError
from scalemesh.services.hosts import normal_host

MAX_URL: Final = 8190  #: characters; a longer first line of a request is read by nobody here
MAX_HEADERS: Final = 100
MAX_HEADERS_CHARS: Final = 32 * 1024

_METHOD: Final = re.compile(r"[A-Z]{1,20}")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """A visit that somebody asks about, as a client would send it."""

    method: str
    target: str  #: path and query, percent-encoded
    host: str  #: as it was written, perhaps with a port
    headers: Pairs  #: in their order, Host first


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A rule that was tried, or a look for a file."""

    what: str  #: the rule as its author wrote it, or our words for what is no rule
    file: str  #: where the rule was written; empty for what is no rule
    line: int  #: from 1; 0: not one line
    matched: bool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SentHeader:
    """A header of the answer, and who set it."""

    name: str
    value: str
    by: str  #: places of rules, or "Scale Mesh"
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Caching:
    """What becomes of the answer on its way, and where its bytes come from."""

    control: str  #: Cache-Control; empty where there is none
    says: str  #: the same in words
    same_for_all: bool  #: everybody who asks for this address is answered the same, but for its form
    served_from: str  #: memory, file (read at each visit), made (words of our own), origin, or nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxied:
    """Where another origin would be asked; nobody has been."""

    url: str
    keeps_credentials: bool  #: Cookie and Authorization go along
    request_headers: tuple[str, ...]  #: names of those that the rule sets; their values may be secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The whole decision on one visit. Names no password, and nothing of what the visitor sent but the address."""

    method: str
    host: str
    target: str
    leads_to: str  #: a sentence: from the host to a deployment, or to none
    project: str | None = None
    host_kind: str | None = None
    deployment: str | None = None
    former_deployment: str | None = None  #: the one that the file comes from, where the live one has it no more
    dialect: str | None = None
    steps: tuple[Step, ...] = ()
    steps_left_out: int = 0  #: of those that did not match
    status: int | None = None  #: None: another origin says, or no site answers
    because: str = ""  #: the rule that answered, as file:line, or words
    file: str = ""  #: the path of the manifest that was chosen
    proxied: Proxied | None = None
    headers: tuple[SentHeader, ...] = ()
    withheld: tuple[SentHeader, ...] = ()  #: what rules took away, or set in vain
    caching: Caching | None = None
    size_bytes: int = 0  #: of the body that GET carries
    sha256: str | None = None  #: of the body; None where it is only part of a file


class Explainer:
    """Asks the edge. *explain* decides a visit for real; *control* is the host that is no site."""

    def __init__(self, explain: Callable[[Inquiry], Awaitable[Explanation]], *, control: str) -> None:
        self._explain, self._control = explain, control

    async def explain(self, url: str, *, method: str = "GET", headers: Sequence[tuple[str, str]] = ()) -> Explanation:
        """What a visit of *url* would be answered, and why; nothing is changed, and no other origin is asked.

        The scheme may be left out. A Host among *headers* outweighs the URL's.

        Raises:
            InvalidError: it could not even be sent: no host, no method, a header that is none, or too much of them.
        """
        if not _METHOD.fullmatch(method):
            raise InvalidError(f"{method[:40]!r} is no method", fix="write GET, HEAD, POST or another one")
        authority, target = split_url(url)
        pairs = checked_headers(headers)
        hosts = [value for name, value in pairs if name.lower() == "host"]
        if len(hosts) > 1:
            raise InvalidError("Host stands there twice", why="of two hosts neither counts", fix="send one")
        host = hosts[0] if hosts else authority
        if normal_host(host) == self._control:
            says = "This is the control host: dashboard and API, and no site. No rule of a site is asked."
            return Explanation(method=method, host=host, target=target, leads_to=says, because="control host")
        rest = (pair for pair in pairs if pair[0].lower() != "host")
        return await self._explain(Inquiry(method=method, target=target, host=host, headers=(("Host", host), *rest)))


def split_url(url: str) -> tuple[str, str]:
    """Host (and port) and target of *url*, encoded as a browser sends it; its fragment stays at home.

    Raises:
        InvalidError: it names no host, another scheme than http and https, or a password.
    """
    url = url.strip()
    scheme, separator, rest = url.partition("://")
    if not separator or re.search(r"[/?#]", scheme):
        scheme, rest = "http", url
    if scheme.lower() not in ("http", "https"):
        raise InvalidError(f"{scheme[:40]!r} is no scheme of a site", fix="let it begin with http:// or https://")
    rest = rest.partition("#")[0]
    found = re.search(r"[/?]", rest)
    authority, target = (rest[: found.start()], rest[found.start() :]) if found else (rest, "")
    if not authority:
        raise InvalidError("the address names no host", fix="write it whole, such as https://shop.example.com/about")
    if "@" in authority:
        raise InvalidError(
            "the address holds a name or a password", fix="leave it out, and send a header Authorization instead"
        )
    target = quote(target if target.startswith("/") else f"/{target}", safe=_PRINTABLE, errors="surrogateescape")
    if len(target) + len(authority) > MAX_URL:
        raise InvalidError("the address is too long", why=f"nobody here reads more than {MAX_URL} characters")
    return authority, target


def checked_headers(headers: Sequence[tuple[str, str]]) -> Pairs:
    """*headers*, if a client could send them.

    Raises:
        InvalidError: a name or a value that HTTP does not know, or too much of them.
    """
    if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADERS_CHARS:
        raise InvalidError("too many headers", why=f"at most {MAX_HEADERS}, {MAX_HEADERS_CHARS} characters in all")
    for name, value in headers:
        if not _NAME.fullmatch(name):
            raise InvalidError(f"{name[:40]!r} is no name of a header", fix="write it as Name: value")
        if not _VALUE.fullmatch(value):
            raise InvalidError(f"the value of {name} holds a control character")
    return tuple((name, value.strip()) for name, value in headers)


def header_of_line(line: str) -> tuple[str, str]:
    """``Name: value`` as a pair.

    Raises:
        InvalidError: it is none.
    """
    name, colon, value = line.partition(":")
    if not colon or not _NAME.fullmatch(name.strip()):
        raise InvalidError(f"{name[:40]!r} is no header", fix="write it as Name: value")
    return name.strip(), value.strip()
