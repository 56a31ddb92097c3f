"""From an entry to an answer: which of its representations, whole or in parts, or that the visitor's copy still holds.

A request with a Range that applies is answered from the bytes as they are, never from a variant: so the parts that a
visitor asks for mean the same whatever it can decode, and parts fetched at different times fit together.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from scalemesh.edge import pages
from scalemesh.edge.answers import Answer, Headers, Piece, Slice, Visit
from scalemesh.edge.conditions import etag_of, http_date, is_current, range_applies
from scalemesh.edge.negotiation import preferred
from scalemesh.edge.ranges import Span, Unsatisfiable, asked_spans
from scalemesh.services.encodings import Encodings, is_compressible
from scalemesh.values import Blob, Entry

REVALIDATE: Final = ("Cache-Control", "public, max-age=0, must-revalidate")
FOR_EVER: Final = ("Cache-Control", "public, max-age=31536000, immutable")
NO_STORE: Final = ("Cache-Control", "no-store")

_VARY: Final = ("Vary", "Accept-Encoding")
_BOUNDARY_DIGITS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An entry as it goes out: what the visit was led to, and by which rule."""

    entry: Entry
    encodings: Encodings
    modified: datetime  #: when its deployment was made
    common: Headers  #: what every answer of the host carries
    because: str


def file_answer(visit: Visit, file: File) -> Answer:
    """200 with all of the file, 206 with parts of it, 304, or 416."""
    entry, modified = file.entry, http_date(file.modified)
    plain = etag_of(entry.sha256)
    in_parts = visit.range is not None and range_applies(visit, plain, modified)
    coding = None if in_parts else _coding(visit, file)
    etag = etag_of(entry.sha256, coding)
    validators: Headers = (
        ("ETag", etag),
        ("Last-Modified", modified),
        *_vary(entry),
        FOR_EVER if entry.immutable else REVALIDATE,
        *file.common,
    )
    if is_current(visit, etag, modified):
        return Answer(status=304, headers=validators, because=file.because)
    try:
        spans = asked_spans(visit.range or "", entry.size_bytes) if in_parts else ()
    except Unsatisfiable:
        bounds = (("Content-Range", f"bytes */{entry.size_bytes}"), *file.common)
        return pages.range_not_satisfiable(visit, bounds)
    if spans:
        return _partial(file, spans, validators)
    headers = (*_representation(entry, coding), *validators)
    return Answer(status=200, headers=headers, body=_body(file, coding), because=file.because)


def page_answer(visit: Visit, file: File, status: int) -> Answer:
    """A page of the site's own that stands for another answer than itself, such as 404: whole, and kept by nobody."""
    coding = _coding(visit, file)
    kind = [header for header in _representation(file.entry, coding) if header[0] != "Accept-Ranges"]
    headers = (*kind, *_vary(file.entry), NO_STORE, *file.common)
    return Answer(status=status, headers=headers, body=_body(file, coding), because=file.because)


def _coding(visit: Visit, file: File) -> str | None:
    return preferred(visit.accept_encoding, file.encodings.variants_of(file.entry.sha256))


def _vary(entry: Entry) -> Headers:
    """Also while there are no variants yet: a cache that learned otherwise would keep the plain bytes for everybody."""
    return (_VARY,) if is_compressible(entry) else ()


def _representation(entry: Entry, coding: str | None) -> Headers:
    kind = ("Content-Type", entry.content_type)
    return (kind, ("Accept-Ranges", "bytes")) if coding is None else (kind, ("Content-Encoding", coding))


def _body(file: File, coding: str | None) -> Slice:
    entry = file.entry
    if coding is None:
        return _slice(entry, Span(0, entry.size_bytes))
    variant = file.encodings.variants_of(entry.sha256)[coding]
    return _slice(variant, Span(0, variant.size_bytes))


def _partial(file: File, spans: tuple[Span, ...], validators: Headers) -> Answer:
    entry = file.entry
    if len(spans) == 1:
        headers = (("Content-Range", _content_range(entry, spans[0])), *_representation(entry, None), *validators)
        return Answer(status=206, headers=headers, body=_slice(entry, spans[0]), because=file.because)
    boundary = entry.sha256[:_BOUNDARY_DIGITS]  # no file holds its own digest
    kind = ("Content-Type", f"multipart/byteranges; boundary={boundary}")
    return Answer(
        status=206,
        headers=(kind, ("Accept-Ranges", "bytes"), *validators),
        body=_multipart(entry, spans, boundary),
        because=file.because,
    )


def _multipart(entry: Entry, spans: tuple[Span, ...], boundary: str) -> tuple[Piece, ...]:
    """The parts with their heads between them (RFC 9110, 14.6)."""
    pieces: list[Piece] = []
    for span in spans:
        head = f"\r\n--{boundary}\r\nContent-Type: {entry.content_type}\r\n"
        head += f"Content-Range: {_content_range(entry, span)}\r\n\r\n"
        pieces += (head.encode(), _slice(entry, span))
    return (*pieces, f"\r\n--{boundary}--\r\n".encode())


def _content_range(entry: Entry, span: Span) -> str:
    return f"bytes {span.start}-{span.stop - 1}/{entry.size_bytes}"


def _slice(blob: Blob | Entry, span: Span) -> Slice:
    return Slice(sha256=blob.sha256, size_bytes=blob.size_bytes, start=span.start, stop=span.stop)
