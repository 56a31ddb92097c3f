"""A steady load: so many requests a second, each begun when it is due, however slow the ones before it are."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

PATIENCE_S: Final = 30.0


@dataclass(kw_only=True)
class Load:
    """What is asked, how often, and what came of it."""

    host: str
    path: str
    port: int = 0
    socket: Path | None = None  #: instead of the port
    per_s: float = 20.0
    took_s: list[float] = field(default_factory=list)  #: from when a request was due to the end of its answer
    failed: int = 0


@asynccontextmanager
async def steady_load(load: Load) -> AsyncIterator[None]:
    """Ask while inside; at the end wait for what is under way."""
    connector = aiohttp.UnixConnector(str(load.socket)) if load.socket else aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as group:
        asking = group.create_task(_ask_on(load, session, group))
        try:
            yield
        finally:
            asking.cancel()


async def _ask_on(load: Load, session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
    due = time.monotonic()
    while True:
        group.create_task(_ask(load, session, due))
        due += 1 / load.per_s
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _ask(load: Load, session: aiohttp.ClientSession, due: float) -> None:
    url = f"http://127.0.0.1:{load.port}{load.path}" if load.port else f"http://localhost{load.path}"
    try:
        async with session.get(url, headers={"Host": load.host}) as answer:
            await answer.read()
            is_well = answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        is_well = False
    load.took_s.append(time.monotonic() - due)
    load.failed += not is_well
