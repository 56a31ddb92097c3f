"""Do the same call for many things over a few connections at once."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from builder.api import Api

T = TypeVar("T")


def for_each(things: Sequence[T], do: Callable[[T, Api], None], api: Api, workers: int) -> None:
    """Call ``do(thing, connection)`` for all of *things*; raises the first error once all workers have stopped."""
    waiting = iter(things)
    lock = threading.Lock()
    errors: list[BaseException] = []

    def work(connection: Api) -> None:
        try:
            while not errors:
                with lock:
                    thing = next(waiting, None)
                if thing is None:
                    return
                do(thing, connection)
        except BaseException as error:  # noqa: BLE001  (raised again by the caller's thread)
            errors.append(error)

    count = min(workers, -(-len(things) // 4))  # a thread and a connection pay from four things on
    threads = [threading.Thread(target=_with_own, args=(work, api), daemon=True) for _ in range(count - 1)]
    for thread in threads:
        thread.start()
    work(api)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _with_own(work: Callable[[Api], None], api: Api) -> None:
    connection = api.another()
    try:
        work(connection)
    finally:
        connection.close()
