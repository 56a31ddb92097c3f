"""Reads the head of a request as raw bytes, strictly: what is not wholly plain is not for this reader to judge.

A ``Head`` is everything behind the request line: on one connection the same bytes come again and again, so they are
read once and remembered. The grammar is a part of what aiohttp's parser takes (RFC 9112): what two readers might
take differently (folded lines, bare line feeds, bodies of unsure length) is left to aiohttp alone.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from scalemesh.edge.rules.asked import visit_headers
from scalemesh.services.hosts import normal_host

MAX_HEAD: Final = 8000  #: bytes; longer ones go to aiohttp, which has limits of its own
MAX_FIELDS: Final = 100
REMEMBERED: Final = 2048  #: heads; the memory for them is bounded by this times MAX_KEPT
MAX_KEPT: Final = 2048  #: bytes of a head that is remembered

_FIELDS: Final = re.compile(rb"(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*)+\r\n\r\n")
#: A head with one of these may be followed by more than another request, or changes what the connection is.
_STRANGE: Final = frozenset(
    {
        *(b"transfer-encoding", b"upgrade", b"expect", b"te", b"trailer", b"http2-settings", b"proxy-connection"),
        *(b"keep-alive", b"content-encoding", b"sec-websocket-key", b"sec-websocket-key1", b"sec-websocket-version"),
    }
)
#: Twice one of these, and two readers might take different ones; aiohttp refuses most of them.
_ONCE: Final = frozenset(
    {
        *(b"host", b"content-length", b"connection", b"content-type", b"authorization", b"user-agent", b"server"),
        *(b"content-location", b"content-range", b"etag", b"max-forwards"),
    }
)
_DIGITS: Final = re.compile(rb"[0-9]{1,15}")
_METHODS: Final = (b"GET ", b"HEAD ", b"OPTIONS ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ")
LINE: Final = re.compile(
    rb"(GET|HEAD|OPTIONS|POST|PUT|PATCH|DELETE) (/[!\"$-~]{0,4095}) HTTP/1\.1"
)  #: method and target
_REST_BEGUN: Final = re.compile(rb"(?:/[!\"$-~]*(?: [HTP/1.]{0,8}\r?)?)?")
_FIELDS_BEGUN: Final = re.compile(
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+(?::[\t\x20-\x7e\x80-\xff]*)?)?\r?"
)
#: An answer to a head with one of these is not the same for everybody.
_ASKING: Final = (b"range", b"if-modified-since", b"if-range", b"if-match", b"if-unmodified-since")


class Head:
    """What the fields of one request say, as far as we need to know."""

    __slots__ = (
        "_named",
        "accept_encoding",
        "body_bytes",
        "closes",
        "fields",
        "host",
        "if_none_match",
        "is_plain",
        "is_plainest",
    )

    def __init__(self, fields: list[tuple[bytes, bytes]]) -> None:
        named = dict(reversed(fields))  # the first of each
        self.fields = fields  #: names in lower case; in their order
        self.host = normal_host(named[b"host"].decode("latin-1")) or ""  #: empty: none that could be ours
        self.accept_encoding = b", ".join(value for name, value in fields if name == b"accept-encoding")
        self.if_none_match = named.get(b"if-none-match")
        self.closes = named.get(b"connection", b"").lower() == b"close"
        self.body_bytes = int(named.get(b"content-length", b"0"))
        self.is_plain = not self.body_bytes and not any(name in named for name in _ASKING)
        #: What a browser sends for most: nothing but the target, and the copy at hand, decide the answer.
        self.is_plainest = self.is_plain and not self.closes
        self._named: Mapping[str, str] | None = None

    def named(self) -> Mapping[str, str]:
        """All fields by name, as ``visit_headers`` joins them."""
        if self._named is None:
            self._named = visit_headers(self.pairs())
        return self._named

    def lines(self, name: str, default: list[str]) -> list[str]:
        """The lines of a field, as a multidict's ``getall`` gives them."""
        key = name.lower()
        return [value for found, value in self.pairs() if found == key] or default

    def pairs(self) -> list[tuple[str, str]]:
        """All fields as text, the way that aiohttp reads them."""
        return [(name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in self.fields]


def read_head(data: bytes) -> Head | None:
    """Read everything behind the request line: from its line end up to the empty line. None: not for us."""
    if len(data) > MAX_HEAD or not _FIELDS.fullmatch(data):
        return None
    lines = data[2:-4].split(b"\r\n")
    if len(lines) > MAX_FIELDS:
        return None
    fields = [_field(line) for line in lines]
    names = [name for name, _ in fields]
    if not _STRANGE.isdisjoint(names) or any(names.count(name) > 1 for name in _ONCE):
        return None
    named = dict(fields)
    if b"host" not in named or named.get(b"connection", b"").lower() not in (b"", b"close", b"keep-alive"):
        return None
    if b"content-length" in named and not _DIGITS.fullmatch(named[b"content-length"]):
        return None
    return Head(fields)


def may_become_plain(data: bytes) -> bool:
    """Whether *data*, the beginning of a request, can still become one for us. What cannot is aiohttp's to refuse."""
    line, is_whole, fields = data.partition(b"\r\n")
    if is_whole:
        return LINE.fullmatch(line) is not None and _FIELDS_BEGUN.fullmatch(fields) is not None
    return any(
        method.startswith(line) or (line.startswith(method) and _REST_BEGUN.fullmatch(line, len(method)))
        for method in _METHODS
    )


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t")


class Heads:
    """Heads that were read before. Forgets all of them when they are too many: they come back at once."""

    def __init__(self, read: Callable[[bytes], Head | None] = read_head) -> None:
        self._read = read
        self._known: dict[bytes, Head | None] = {}
        self.get = self._known.get  #: a head that is known; None also where it is not for us

    def learn(self, data: bytes) -> Head | None:
        """Read *data*, and remember it where it is short."""
        head = self._read(data)
        if head is not None and len(data) <= MAX_KEPT:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[data] = head
        return head
