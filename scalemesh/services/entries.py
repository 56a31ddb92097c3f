"""The entries of a manifest as they lie in its bytes: read one by one when somebody asks, found by halving.

A manifest in memory is little more than what it weighs on disk, whether it has ten files or two hundred thousand.
Whoever builds one has proven the bytes by their digest: they are those that ``manifests.encode`` wrote.
"""

import json
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any, Final

from scalemesh.values import Digest, Entry

_TEXT: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_ROW: Final = b'],["'
_DIGEST_CHARS: Final = 64
SHORT_BYTES: Final = 16 * 1024  #: a search through so much is quicker than halving


class Entries(Mapping[str, Entry]):
    """Path -> entry, from rows ``["path","<sha256>",size,type,immutable]`` in the order of their paths."""

    __slots__ = ("_offsets", "_raw", "_types")

    def __init__(self, raw: bytes, types: Sequence[str]) -> None:
        """*raw* is the JSON of the list of rows, without blanks; *types* are what their numbers mean."""
        self._raw, self._types = raw, types
        self._offsets = array("I", _row_offsets(raw))

    @property
    def weight_bytes(self) -> int:
        """What all of it takes in memory, about."""
        return len(self._raw) + 4 * len(self._offsets) + 500

    def __getitem__(self, path: str) -> Entry:
        place = self._place(path)
        if place is None:
            raise KeyError(path)
        return self._entry(place)

    def get(self, path: str, default: Any = None) -> Any:
        """As Mapping's own, without an exception for each path that is not there."""
        place = self._place(path)
        return default if place is None else self._entry(place)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._place(path) is not None

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[str]:
        return (self._path(offset) for offset in self._offsets)

    def _place(self, path: str) -> int | None:
        """Where the row of *path* goes on behind its path."""
        written = encode_basestring(path).encode()
        if len(self._raw) <= SHORT_BYTES:
            start = self._raw.find(b"[" + written + b',"') + 1
            return start + len(written) if start > 0 else None
        index = bisect_left(self._offsets, path, key=self._path)
        if index == len(self._offsets):
            return None
        start = self._offsets[index]
        return start + len(written) if self._raw.startswith(written, start) else None

    def _path(self, offset: int) -> str:
        found = _TEXT.match(self._raw, offset)
        if found is None:
            raise ValueError("no text begins there")
        written = found[0]
        return str(json.loads(written)) if b"\\" in written else written[1:-1].decode()

    def _entry(self, place: int) -> Entry:
        digest = place + 2  # behind ,"
        size, kind, immutable = self._raw[digest + _DIGEST_CHARS + 2 : self._raw.index(b"]", place)].split(b",")
        return Entry(
            sha256=Digest(self._raw[digest : digest + _DIGEST_CHARS].decode()),
            size_bytes=int(size),
            content_type=self._types[int(kind)],
            immutable=immutable == b"1",
        )


def _row_offsets(raw: bytes) -> Iterator[int]:
    """Where each row's path begins. Inside a text a quotation mark has a backslash before it: none is mistaken."""
    at = raw.find(b'["', 1)
    while at > 0:
        yield at + 1
        at = raw.find(_ROW, at)
        at += 2 if at > 0 else 0
