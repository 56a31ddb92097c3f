"""Named points at which a test lets the process die as by a power switch. Imports nothing of ours.

``SCALEMESH_FAULT=publish.after_blobs`` kills the process the first time it gets there, ``:3`` behind the name the
third time. Without the variable a point is a call of an empty function.
"""

import itertools
import os
import signal
from collections.abc import Callable
from typing import Final, Literal, get_args

Point = Literal[
    "hold.after_commit",
    "store.staged_written",
    "store.before_link",
    "store.after_link",
    "adopt.after_list",
    "settle.after_copies",
    "settle.after_uploads",
    "settle.after_list",
    "logs.after_append",
    "submit.after_commit",
    "delete.after_commit",
    "expiry.after_log",
    "leftovers.after_logs",
    "claim.after_commit",
    "start.before",
    "start.after",
    "finish.after_listing",
    "finish.after_commit",
    "publish.after_blobs",
    "publish.after_manifest",
    "publish.after_commit",
    "move.after_begin",
    "move.after_copy",
    "move.after_note",
    "move.before_switch",
    "move.after_switch",
    "window.after_blob",
    "encode.after_blobs",
    "encode.after_commit",
    "collect.after_doom",
    "collect.after_delete",
    "ledger.before_routes",
    "end.after_commit",
    "cancel.after_commit",
    "cancel.after_stop",
]
POINTS: Final[tuple[Point, ...]] = get_args(Point)


def armed(setting: str) -> Callable[[Point], None]:
    """Return the function that kills at the point named by *setting* (``name`` or ``name:N``), or does nothing.

    Raises:
        ValueError: no such point, or N is no number from 1.
    """
    if not setting:
        return lambda _point: None
    name, _, hit = setting.partition(":")
    if name not in POINTS or not (hit or "1").isdecimal() or int(hit or "1") < 1:
        raise ValueError(
            f"SCALEMESH_FAULT={setting!r} names no fault point; write name or name:N, of {', '.join(POINTS)}"
        )
    hits, deadly = itertools.count(1), int(hit or "1")  # next() of a count is safe between threads

    def die(point: Point) -> None:
        if point == name and next(hits) == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    return die


fault: Final = armed(os.environ.get("SCALEMESH_FAULT", ""))
