"""Which headers cross a proxy: those of the visitor to the origin, those of the origin to the visitor."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from multidict import CIMultiDict, CIMultiDictProxy

from scalemesh.edge.answers import Headers, Passage
from scalemesh.edge.cookies import host_only
from scalemesh.rules import ORDERS

LOOP_HEADER: Final = "CDN-Loop"  # RFC 8586; unlike Via, it makes no origin turn its compression off
LOOP_NAME: Final = "scalemesh"

#: RFC 9110, 7.6.1, and what is about one connection by custom. "Proxy" is no header at all, but CGI made it one.
_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})
#: Where a visitor comes from is said by us alone: the visitor's own word is worth nothing.
_ABOUT_VISITOR: Final = frozenset(
    {
        *("forwarded", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-originating-ip", "x-remote-ip"),
        *("x-remote-addr", "client-ip", "true-client-ip", "cf-connecting-ip", "fastly-client-ip"),
    }
)
_CREDENTIALS: Final = frozenset({"cookie", "authorization"})
_HANDSHAKE: Final = re.compile(r"sec-websocket-(?:key|version|extensions|accept|protocol)")
_NOT_FOR_VISITORS: Final = ORDERS | {"server", "x-request-id"}
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How a visitor reached us, as far as that is believed."""

    client: str  #: address
    scheme: str
    host: str  #: with its port, as in Host


def to_origin(sent: CIMultiDictProxy[str], passage: Passage, arrival: Arrival) -> CIMultiDict[str]:
    """The headers of the request to the origin; without Host and length, which follow from where and what is sent."""
    left_out = _named_by_connection(sent)
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in sent.items():
        if name.lower() not in left_out and _goes_on(name, passage.keeps_credentials):
            headers.add(name, as_text(value))
    _put(headers, [pair for pair in passage.headers if not _is_framing(pair[0].lower())])
    loops = [*sent.getall(LOOP_HEADER, ()), LOOP_NAME]
    headers[LOOP_HEADER] = ", ".join(as_text(value) for value in loops)  # after the rule's: none may take it away
    headers["X-Forwarded-For"] = arrival.client
    headers["X-Forwarded-Proto"] = arrival.scheme
    headers["X-Forwarded-Host"] = arrival.host
    return headers


def to_visitor(got: CIMultiDictProxy[str], passage: Passage, own: Headers = ()) -> CIMultiDict[str]:
    """The headers of the answer to the visitor, *own* last."""
    left_out = _named_by_connection(got)
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in got.items():
        lower = name.lower()
        if lower in left_out or _is_hop_by_hop(lower) or lower in _NOT_FOR_VISITORS:
            continue
        if lower == "set-cookie":
            cookie = host_only(as_text(value))
            if cookie is not None:
                headers.add(name, cookie)
        elif not (lower == "content-length" and "Transfer-Encoding" in got):
            headers.add(name, as_text(value))
    varies = [("Vary", value) for value in headers.getall("Vary", ())]  # a fact: a rule may add to it
    _put(headers, [*varies, *(pair for pair in passage.answer_headers if not _is_framing(pair[0].lower()))])
    _put(headers, own)
    return headers


def hops(sent: CIMultiDictProxy[str]) -> int:
    """How often a request has passed through a Scale Mesh already."""
    entries = ",".join(sent.getall(LOOP_HEADER, ())).split(",")
    return sum(entry.partition(";")[0].strip().lower() == LOOP_NAME for entry in entries)


def as_text(value: str) -> str:
    """*value* as it can be sent: bytes that are no UTF-8 were meant as Latin-1; no control character."""
    if not value.isascii():
        raw = value.encode("utf-8", "surrogateescape")
        try:
            value = raw.decode()
        except UnicodeDecodeError:
            value = raw.decode("latin-1")
    return _CONTROL.sub(" ", value)


def _goes_on(name: str, keeps_credentials: bool) -> bool:
    lower = name.lower().replace("_", "-")  # origins of the CGI kind read both as one
    if _is_framing(lower) or lower in ("host", "expect", LOOP_HEADER.lower()):
        return False
    if lower in _ABOUT_VISITOR or lower.startswith("x-forwarded"):
        return False
    if lower in _CREDENTIALS:
        return keeps_credentials
    return not _HANDSHAKE.fullmatch(lower)


def _is_framing(lower: str) -> bool:
    return lower == "content-length" or _is_hop_by_hop(lower)


def _is_hop_by_hop(lower: str) -> bool:
    return lower in _HOP_BY_HOP or lower == "proxy" or lower.startswith("proxy-")


def _named_by_connection(headers: CIMultiDictProxy[str]) -> set[str]:
    """What Connection says is about this connection alone; never what the message cannot be read without."""
    named = ",".join(headers.getall("Connection", ())).split(",")
    return {name.strip().lower() for name in named} - {"", "content-type", "content-encoding", "content-length"}


def _put(headers: CIMultiDict[str], pairs: Iterable[tuple[str, str]]) -> None:
    """Set *pairs* in place of what has their names; a name may stand there twice."""
    listed = list(pairs)
    for name, _ in listed:
        headers.popall(name, None)
    for name, value in listed:
        headers.add(name, as_text(value))
