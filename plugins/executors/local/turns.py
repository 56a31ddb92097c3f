"""One process at a time serves a folder of jobs; the others may look at it, and the next one follows by itself."""

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_LOOK_AGAIN_S: Final = 0.5

Serve = Callable[[], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def in_turn(lock: Path, serve: Serve) -> AsyncIterator[None]:
    """Enter *serve* at once if no other process holds *lock*, else as soon as none does; leave it at the end.

    Raises whatever *serve* raises, if it is our turn at once. Later an OSError is logged and *serve* tried again.
    """
    async with AsyncExitStack() as served:
        if await _served(lock, serve, served):
            yield
            return
        waiting = asyncio.create_task(_serve_later(lock, serve, served))
        try:
            yield
        finally:
            waiting.cancel()
            await asyncio.wait({waiting})


async def _serve_later(lock: Path, serve: Serve, served: AsyncExitStack) -> None:
    while True:
        await asyncio.sleep(_LOOK_AGAIN_S)
        try:
            if await _served(lock, serve, served):
                return
        except OSError:
            log.exception("the jobs of the folder cannot be served yet", extra={"folder": str(lock.parent)})


async def _served(lock: Path, serve: Serve, served: AsyncExitStack) -> bool:
    async with AsyncExitStack() as fresh:
        held = _hold(lock)
        if held is None:
            return False
        fresh.callback(os.close, held)
        await fresh.enter_async_context(serve())
        await served.enter_async_context(fresh.pop_all())
        return True


def _hold(path: Path) -> int | None:
    """Take the lock until the descriptor is closed or this process ends; None: another process has it."""
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    return held
