"""Threads that hash for long pieces of work, behind everything else that the processor is wanted for."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

THREADS: Final = 2
NICE: Final = 15  #: of 19: visits and builds come first
WORTH_BYTES: Final = 32 * 1024  #: less is hashed sooner than it is handed over


class Hashing:
    """A few threads of low priority, for as long as the block lasts."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "hash", initializer=_stand_back)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(wait=False)

    async def feed(self, update: Callable[[bytes], object], data: bytes) -> None:
        """Call *update* with *data*, in one of the threads where that is worth it."""
        if len(data) < WORTH_BYTES:
            update(data)
            return
        await asyncio.get_running_loop().run_in_executor(self._pool, update, data)


def _stand_back() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)  # Linux counts niceness by thread
