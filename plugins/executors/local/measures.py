"""What the process tree of a job uses, where no control group counts it. Stdlib only."""

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class TreeUse:
    """What a process and all its descendants use."""

    pids: tuple[int, ...]
    threads: int
    resident_bytes: int


def tree_use(root: int, left_out: Collection[int] = ()) -> TreeUse:
    """Measure the descendants of the process *root*; neither itself nor *left_out* and what is below them."""
    children: dict[int, list[tuple[int, int, int]]] = {}
    for pid, parent, threads, pages in _processes():
        children.setdefault(parent, []).append((pid, threads, pages))
    found: list[tuple[int, int, int]] = []
    todo = [root]
    while todo:
        below = [child for child in children.get(todo.pop(), []) if child[0] not in left_out]
        found += below
        todo += [pid for pid, _, _ in below]
    return TreeUse(
        tuple(pid for pid, _, _ in found),
        sum(threads for _, threads, _ in found),
        sum(pages for _, _, pages in found) * _PAGE,
    )


def _processes() -> Iterator[tuple[int, int, int, int]]:
    for name in os.listdir("/proc"):  # noqa: PTH208 - names alone are wanted, a thousand of them
        if name.isdigit():
            with suppress(OSError):
                stat = Path("/proc", name, "stat").read_bytes()
                fields = stat[stat.rindex(b")") + 2 :].split()
                yield int(name), int(fields[1]), int(fields[17]), int(fields[21])
