"""Long lists of rows as JSON, written and read so that others get their turn.

The interpreter's own JSON lets no other thread run until it is done: a list of a hundred thousand files would hold up
every visit for that long, also where a thread of its own reads it.
"""

import json
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

ROWS: Final = 2_000  #: written at once: about a millisecond


def written(rows: Sequence[Any], *, ensure_ascii: bool = True) -> str:
    """*rows* as JSON without blanks, as ``json.dumps`` writes it."""
    left = iter(rows)
    pieces = []
    while piece := list(islice(left, ROWS)):
        pieces.append(json.dumps(piece, separators=(",", ":"), ensure_ascii=ensure_ascii)[1:-1])
    return f"[{','.join(pieces)}]"


def parsed(data: bytes) -> Any:
    """*data* as ``json.loads`` reads it. At each number, of which each file has one, others may have their turn.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(data, parse_int=_number)


def _number(text: str) -> int:
    """In the language itself: between two of its steps the interpreter looks who else wants to run."""
    return int(text)
