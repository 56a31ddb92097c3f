"""Stores that are open: whoever asks for one, a task of its own opens it and closes it again."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from scalemesh.db.homes import Home
from scalemesh.errors import ScaleMeshError
from scalemesh.services.home_store import Place

log = logging.getLogger(__name__)

Open = Callable[[str], AbstractAsyncContextManager[Place]]  #: by kind; its settings are those of the config


class Openings:
    """One store of each kind. What was opened in one task is closed in the same, as context managers may need."""

    def __init__(self, open_kind: Open) -> None:
        self._open_kind: Final = open_kind
        self._held: dict[str, _Held] = {}

    async def open(self, kind: str) -> Place:
        """The store of that kind, opened unless it is open.

        Raises:
            ConfigError: there is no such kind, or its settings have mistakes.
        """
        if (held := self._held.get(kind)) is None:
            held = self._held[kind] = _Held(self._open_kind(kind))
        try:
            return await asyncio.shield(held.ready)
        except BaseException:
            if held.ready.done():
                self._held.pop(kind, None)
            raise

    @property
    def kinds(self) -> set[str]:
        """Those that are open, or are being opened."""
        return set(self._held)

    async def former(self, home: Home) -> Place | None:
        """Where the blobs lived before *home*, while uploads may lie there; None also where it opens no more."""
        if home.leftovers is None:
            return None
        try:
            return await self.open(home.leftovers)
        except ScaleMeshError as error:
            log.warning("the former store cannot be opened", extra={"kind": home.leftovers, "error": error.what})
            return None

    async def close(self, kind: str) -> None:
        """Close it, if it is open. Repeatable."""
        if (held := self._held.pop(kind, None)) is not None:
            await held.close()

    async def close_all(self) -> None:
        for kind in reversed(list(self._held)):
            await self.close(kind)


class _Held:
    def __init__(self, opening: AbstractAsyncContextManager[Place]) -> None:
        self.ready: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._task = asyncio.create_task(self._hold(opening))

    async def close(self) -> None:
        self._closing.set()
        await asyncio.shield(self._task)

    async def _hold(self, opening: AbstractAsyncContextManager[Place]) -> None:
        try:
            async with opening as place:
                self.ready.set_result(place)
                await self._closing.wait()
        except Exception as error:
            if self.ready.done():
                log.exception("a store could not be closed")
                return
            self.ready.set_exception(error)
            self.ready.exception()  # seen: whoever asked may be gone


@asynccontextmanager
async def openings(open_kind: Open) -> AsyncIterator[Openings]:
    """Opens stores by *open_kind*; whatever is open at the end is closed."""
    opened = Openings(open_kind)
    try:
        yield opened
    finally:
        await opened.close_all()
