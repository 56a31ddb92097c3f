"""Following a log for as long as a reader stays: the one way that NDJSON and the websocket share."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final, TypeAlias

from scalemesh.errors import NotFoundError, TooManyError
from scalemesh.services.deployer import Deployer
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.values import DeploymentId, LogBlock

MayStay: TypeAlias = Callable[[], Awaitable[bool]]  #: whether the reader would still be let in

BEAT_S: Final = 15.0
MAX_FOLLOWERS: Final = 1000


class Followers:
    def __init__(self, logs: LogPipeline, deployer: Deployer) -> None:
        self._logs, self._deployer = logs, deployer
        self._stopping = asyncio.Event()
        self.count = 0  #: readers that follow now

    def stop(self) -> None:
        """Let every reader go; they come back to the next daemon with what they have."""
        self._stopping.set()

    def check_room(self) -> None:
        """Before an answer is begun.

        Raises:
            TooManyError: MAX_FOLLOWERS follow already.
        """
        if self.count >= MAX_FOLLOWERS:
            raise TooManyError(f"{MAX_FOLLOWERS} readers follow logs already", fix="read it page by page")

    async def follow(self, deployment: DeploymentId, after: int, may_stay: MayStay) -> AsyncGenerator[LogBlock | None]:
        """Blocks as ``LogPipeline.follow`` has them; None every BEAT_S. Read it under ``aclosing()``.

        Without a block that ``closes``, the end is ours and not the log's: come back with *after*. A reader who may
        not stay (signed out, token deleted) is let go like that, BEAT_S later at the most.
        """
        self.count += 1
        try:
            async with (
                aclosing(self._logs.follow(deployment, after, self._is_final(deployment))) as blocks,
                aclosing(self._with_beats(blocks, may_stay)) as beaten,
            ):
                async for block in beaten:
                    yield block
        finally:
            self.count -= 1

    async def _with_beats(self, blocks: AsyncGenerator[LogBlock], may_stay: MayStay) -> AsyncGenerator[LogBlock | None]:
        loop = asyncio.get_running_loop()
        due = loop.time() + BEAT_S
        stopped = asyncio.create_task(self._stopping.wait())
        coming = asyncio.create_task(_next(blocks))
        try:
            while not stopped.done():
                rest_s = max(0.0, due - loop.time())
                await asyncio.wait({coming, stopped}, timeout=rest_s, return_when=asyncio.FIRST_COMPLETED)
                if loop.time() >= due:
                    if not await may_stay():
                        return
                    due = loop.time() + BEAT_S
                    yield None
                if coming.done():
                    block = coming.result()
                    if block is None:
                        return
                    yield block
                    coming = asyncio.create_task(_next(blocks))
        finally:
            coming.cancel()
            stopped.cancel()
            await asyncio.wait({coming, stopped})

    def _is_final(self, deployment: DeploymentId) -> Callable[[], Awaitable[bool]]:
        async def ask() -> bool:
            try:
                found = await self._deployer.get(deployment)
            except NotFoundError:  # deleted while somebody read
                return True
            return found.is_cleaned  # a final state alone is not the end: the last words come after it

        return ask


async def _next(blocks: AsyncGenerator[LogBlock]) -> LogBlock | None:
    return await anext(blocks, None)
