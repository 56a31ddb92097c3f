"""The same work for many things, a few at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def in_lanes(do: Callable[[T], Awaitable[None]], items: Iterable[T], *, lanes: int) -> None:
    """Do it for each of *items*, in *lanes* at a time; after a failure, which is raised, nothing more is begun."""
    waiting = iter(items)

    async def lane() -> None:
        for item in waiting:
            await do(item)

    tasks = [asyncio.create_task(lane()) for _ in range(lanes)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
