"""Threads of a store's own for calls that block: bounded, and none of them keeps the process from ending."""

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")

_Job = tuple[Future[Any], Callable[[], Any]]
END_S: Final = 2.0  #: for which calls under way are waited for at the end; each has its own time limit besides


class Threads:
    """At most *most* of them, made when they are needed. A ThreadPoolExecutor's would be waited for at the very end."""

    def __init__(self, name: str, most: int) -> None:
        self._name, self._most = name, most
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._made: list[threading.Thread] = []

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What *function* returns. A caller that is cancelled leaves at once; the thread ends what it is in."""
        return await asyncio.wrap_future(self.submit(function, *args, **kwargs))

    async def each(self, function: Callable[[U], T], items: Collection[U], lanes: int | None = None) -> list[T]:
        """Call *function* with every item, several at a time, and return what it returned, in order.

        The first error ends it, and so does a caller that is cancelled: what has not begun by then is not done.
        """
        waiting = deque(enumerate(items))
        results: list[Any] = [None] * len(waiting)

        def lane() -> None:
            while True:
                try:
                    place, item = waiting.popleft()
                except IndexError:
                    return
                try:
                    results[place] = function(item)
                except BaseException:
                    waiting.clear()
                    raise

        try:
            count = min(lanes or self._most, self._most, len(waiting))
            await asyncio.gather(*(self.run(lane) for _ in range(count)))
        finally:
            waiting.clear()
        return results

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """As ``run``, for those who wait in another way."""
        future: Future[T] = Future()
        with self._lock:
            self._jobs.put((future, lambda: function(*args, **kwargs)))
            if self._idle > 0:
                self._idle -= 1
            elif len(self._made) < self._most:
                made = threading.Thread(target=self._serve, name=f"{self._name}-{len(self._made)}", daemon=True)
                self._made.append(made)
                made.start()
        return future

    def close(self) -> None:
        """Drop what waits and see the threads end, as far as they do in time."""
        with contextlib.suppress(queue.Empty):
            while True:
                if job := self._jobs.get_nowait():
                    job[0].cancel()
        for _ in self._made:
            self._jobs.put(None)
        until = time.monotonic() + END_S
        for made in self._made:
            made.join(max(0.0, until - time.monotonic()))

    def _serve(self) -> None:
        while job := self._jobs.get():
            future, call = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 -- whoever waits for it gets it
                    future.set_exception(error)
            del job, future, call  # or what it returned would live until the next one comes
            with self._lock:
                self._idle += 1


def chunked(items: Iterable[T], size: int) -> list[list[T]]:
    """*items* in lists of at most *size*."""
    everything = list(items)
    return [everything[start : start + size] for start in range(0, len(everything), size)]
