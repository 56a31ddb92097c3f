"""Do the same for many things over a few connections at once."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TypeVar

from builder.api import Api

C = TypeVar("C")
T = TypeVar("T")


def for_each(things: Sequence[T], do: Callable[[T, Api], None], api: Api, workers: int) -> None:
    """Call ``do(thing, connection)`` for all of *things*; raises the first error once all workers have stopped."""
    in_lanes(things, do, lambda: nullcontext(api), lambda: closing(api.another()), workers_for(len(things), workers))


def workers_for(count: int, most: int) -> int:
    """How many lanes *count* things are worth: a thread and a connection pay from four things on."""
    return max(1, min(most, -(-count // 4)))


def in_lanes(
    things: Iterable[T],
    do: Callable[[T, C], None],
    here: Callable[[], AbstractContextManager[C]],
    own: Callable[[], AbstractContextManager[C]],
    workers: int,
) -> None:
    """Call ``do(thing, what a lane has)`` for all of *things*, which are taken one by one.

    One lane is this thread, and opens *here*; each other opens its *own*. Raises the first error once all have stopped.
    """
    waiting, lock, errors = iter(things), threading.Lock(), list[BaseException]()

    def work(opened: Callable[[], AbstractContextManager[C]]) -> None:
        try:
            with opened() as lane:
                while not errors:
                    with lock:
                        thing = _next(waiting)
                    if not thing:
                        return
                    do(thing[0], lane)
        except BaseException as error:  # noqa: BLE001  (raised again by the caller's thread)
            errors.append(error)

    threads = [threading.Thread(target=work, args=(own,), daemon=True) for _ in range(workers - 1)]
    for thread in threads:
        thread.start()
    work(here)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _next(waiting: Iterator[T]) -> tuple[T, ...]:
    for thing in waiting:
        return (thing,)
    return ()
