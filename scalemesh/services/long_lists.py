"""Long lists of rows as JSON, written and read piece by piece.

The interpreter's own JSON lets no other thread run until it is done: a list of a hundred thousand files would hold up
every visit for that long, also where a thread of its own reads it.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

ROWS: Final = 2_000  #: written at once: about a millisecond
PIECE_BYTES: Final = 64 * 1024  #: read at once
_BETWEEN: Final = b'],["'


def written(rows: Sequence[Any], *, ensure_ascii: bool = True) -> str:
    """*rows* as JSON without blanks, as ``json.dumps`` writes it."""
    left = iter(rows)
    pieces = []
    while piece := list(islice(left, ROWS)):
        pieces.append(json.dumps(piece, separators=(",", ":"), ensure_ascii=ensure_ascii)[1:-1])
    return f"[{','.join(pieces)}]"


def read(data: bytes) -> Iterator[Any]:
    """The rows of a list, each of them a list that begins with a text, as ``written`` wrote it.

    Raises:
        ValueError: it is no JSON.
    """
    start, end = 1, data.find(_BETWEEN, PIECE_BYTES)
    while end >= 0:  # inside a text a quotation mark has a backslash before it: none is mistaken for a row's
        yield from json.loads(b"[" + data[start : end + 1] + b"]")
        start, end = end + 2, data.find(_BETWEEN, end + PIECE_BYTES)
    yield from json.loads(data if start == 1 else b"[" + data[start:])
