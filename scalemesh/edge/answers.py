"""What a visitor asked and what we answer, as plain values: nothing here knows a connection."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scalemesh.values import Digest

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request to a site host: all of it that can change the answer. Absent headers are None."""

    method: str
    target: str  #: as it was sent: path and query, percent-encoded
    host: str = ""  #: lower case, without port
    headers: Mapping[str, str] = field(default_factory=dict)  #: all of them, names in lower case: for rules that ask
    accept: str | None = None
    accept_encoding: str | None = None
    fetch_mode: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_range: str | None = None
    range: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Bytes of a blob, from *start* up to, not including, *stop*."""

    sha256: Digest
    size_bytes: int  #: of the whole blob
    start: int
    stop: int


Piece = bytes | Slice


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status, its headers (all but length, date and request id) and the body that GET would carry."""

    status: int
    headers: Headers = ()
    body: Piece | tuple[Piece, ...] = b""  #: several pieces: one behind the other
    because: str  #: the rule that answered, in words
    by_target: bool = False  #: the same for everybody who asks for this target of this host, but for its form

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The body, piece by piece."""
        return self.body if isinstance(self.body, tuple) else (self.body,)

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return sum(len(piece) if isinstance(piece, bytes) else piece.stop - piece.start for piece in self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A visit that another origin answers."""

    url: str  #: absolute, with its query, percent-encoded
    keeps_credentials: bool = False  #: Cookie and Authorization go along
    headers: Headers = ()  #: set on the request to the origin
    answer_headers: Headers = ()  #: set on the answer, in place of the origin's
    because: str  #: the rule that leads there, in words
