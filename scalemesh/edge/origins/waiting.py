"""How long a visitor's request waits: a limit that moves with each sign of life, and ends when the visitor leaves."""

import asyncio
from types import TracebackType
from typing import Final, Self

from aiohttp import web

LOOK_S: Final = 0.5  #: so soon is it noticed that the visitor has left, while nothing is written


class Waiting:
    """An async context that ends what is done in it.

    With TimeoutError at its limit, with ConnectionResetError when the visitor has left: aiohttp does not tell a
    handler so while the handler waits for somebody else.
    """

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._timeout = asyncio.timeout(None)
        self._is_open = self._is_deserted = False
        self._next_look: asyncio.TimerHandle | None = None

    def at_most(self, seconds: float) -> None:
        """From now on, wait *seconds*."""
        if self._is_open and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + seconds)

    def for_ever(self) -> None:
        """From now on, only the visitor's leaving ends it."""
        if self._is_open and not self._timeout.expired():
            self._timeout.reschedule(None)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._is_open = True
        self._look()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        if self._next_look is not None:
            self._next_look.cancel()
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            if self._is_deserted:
                raise ConnectionResetError("the visitor has left") from None
            raise

    def _look(self) -> None:
        transport = self._request.transport
        loop = asyncio.get_running_loop()
        if transport is not None and not transport.is_closing():
            self._next_look = loop.call_later(LOOK_S, self._look)
        elif not self._timeout.expired():
            self._is_deserted = True
            self._timeout.reschedule(loop.time())
