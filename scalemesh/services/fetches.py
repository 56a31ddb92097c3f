"""Fetches under way: one for each blob, however many wait for it; each goes on to its end whoever leaves."""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final

from scalemesh.errors import DamagedError, UnreachableError
from scalemesh.services.seldom import Seldom
from scalemesh.values import Digest

log = logging.getLogger(__name__)

LANES: Final = 32  #: blobs that are fetched at once
MOST_WAITING: Final = 2_000  #: blobs that are, or wait to be: the visitors of one more are told to come again
TURN_S: Final = 10.0  #: so long a blob waits for its turn
SLOW: Final = "the store gives blobs more slowly than they are asked for"
FAILED_S: Final = 1.0  #: so long the answer of a store that does not give a blob counts for those who come later

Fetch = Callable[[Digest], Coroutine[None, None, int]]


class Fetches:
    def __init__(self, fetch: Fetch) -> None:
        """*fetch* gets a blob and returns a descriptor of it."""
        self._fetch = fetch
        self._lanes = asyncio.Semaphore(LANES)
        self._running: dict[Digest, _Running] = {}
        self._seldom = Seldom(1)  # a store that is away fails one for each file that is asked for

    async def descriptor(self, sha256: Digest) -> int:
        """A descriptor of the blob, the caller's own.

        Raises:
            UnreachableError: too many others are fetched, or what the fetch raises; so whatever else it raises.
        """
        running = self._running.get(sha256)
        if running is None:
            if len(self._running) >= MOST_WAITING:
                raise UnreachableError(SLOW)
            running = self._running[sha256] = _Running(self._in_turn(sha256))
            running.task.add_done_callback(partial(self._ended, sha256, running))
        return await running.descriptor()

    async def close(self) -> None:
        """End all of them; who waits is told so."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _in_turn(self, sha256: Digest) -> int:
        try:
            async with asyncio.timeout(TURN_S):
                await self._lanes.acquire()
        except TimeoutError as cause:
            raise UnreachableError(SLOW) from cause
        try:
            return await self._fetch(sha256)
        finally:
            self._lanes.release()

    def _ended(self, sha256: Digest, running: "_Running", task: "asyncio.Task[int]") -> None:
        if not task.cancelled() and isinstance(error := task.exception(), UnreachableError):
            self._tell(sha256, error)
            task.get_loop().call_later(FAILED_S, self._running.pop, sha256, None)
            return
        del self._running[sha256]  # first: nobody may begin to wait for what is closed now
        running.close_if_last()

    def _tell(self, sha256: Digest, error: UnreachableError) -> None:
        """Log one of many that come in a short time; of those that are damaged each."""
        others = self._seldom.others()
        if others is not None or isinstance(error, DamagedError):
            log.warning("a blob cannot be fetched", extra={"blob": sha256, "error": str(error), "others": others or 0})


class _Running:
    """One fetch, and those who wait for it; the last of them closes what it got."""

    def __init__(self, work: Coroutine[None, None, int]) -> None:
        self._waiting = 0
        self.task = asyncio.create_task(work)

    async def descriptor(self) -> int:
        self._waiting += 1
        try:
            await asyncio.wait([self.task])
            if self.task.cancelled():
                raise UnreachableError("the cache is being closed")
            return os.dup(self.task.result())
        except OSError as error:  # too many files are open
            raise UnreachableError("the blob cannot be opened", why=str(error)) from error
        finally:
            self._waiting -= 1
            self.close_if_last()

    def close_if_last(self) -> None:
        """Close what was fetched, unless somebody has yet to take it."""
        task = self.task
        if not self._waiting and task.done() and not task.cancelled() and task.exception() is None:
            os.close(task.result())
