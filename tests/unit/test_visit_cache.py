"""The cache holds what it may, fetches once for all who wait, and loses nobody to a stranger's leaving."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from scalemesh.edge.cache import _EACH, Shared
from scalemesh.errors import UnreachableError


class Gate:
    """A source that gives nothing until it is opened, and counts how often it was asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.error = error

    async def fetch(self, key: str) -> bytes:
        self.asked.append(key)
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return key.encode() * 100


def shared(fetch: Callable[[str], Awaitable[bytes]], room: int) -> Shared[str, bytes]:
    return Shared(fetch, len, room * (100 + _EACH))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


async def test_however_many_wait_one_fetch_answers_them_all() -> None:
    gate = Gate()
    cache = shared(gate.fetch, 2)
    waiting = [asyncio.create_task(cache.get("a")) for _ in range(50)]
    await until(lambda: gate.asked == ["a"])
    gate.open.set()
    assert set(await asyncio.gather(*waiting)) == {b"a" * 100}
    assert await cache.get("a") == b"a" * 100
    assert gate.asked == ["a"]


async def test_the_least_recently_read_leaves_first() -> None:
    gate = Gate()
    gate.open.set()
    cache = shared(gate.fetch, 2)
    for key in ("a", "b", "a", "c"):
        await cache.get(key)
    assert [cache.peek(key) is not None for key in ("a", "b", "c")] == [True, False, True]
    assert cache.weight_bytes <= 2 * (100 + _EACH)


async def test_what_is_heavier_than_all_room_is_given_and_not_kept() -> None:
    gate = Gate()
    cache = shared(gate.fetch, 0)
    waiting = [asyncio.create_task(cache.get("a")) for _ in range(3)]
    await until(lambda: gate.asked == ["a"])
    gate.open.set()
    assert await asyncio.gather(*waiting) == [b"a" * 100] * 3
    assert gate.asked == ["a"]
    assert (cache.peek("a"), cache.weight_bytes) == (None, 0)


async def test_what_came_another_way_while_it_was_fetched_is_weighed_once() -> None:
    gate = Gate()
    cache = shared(gate.fetch, 2)
    waiting = asyncio.create_task(cache.get("a"))
    await until(lambda: gate.asked == ["a"])
    cache.keep("a", b"a" * 100)
    gate.open.set()
    assert await waiting == b"a" * 100
    assert cache.weight_bytes == 100 + _EACH
    for key in ("b", "c", "d"):
        await cache.get(key)
    assert [cache.peek(key) is not None for key in ("b", "c", "d")] == [False, True, True]


async def test_a_failure_is_shared_and_not_remembered() -> None:
    gate = Gate(UnreachableError("away"))
    cache = shared(gate.fetch, 2)
    waiting = [asyncio.create_task(cache.get("a")) for _ in range(3)]
    await until(lambda: gate.asked == ["a"])
    gate.open.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, UnreachableError) for outcome in outcomes)
    assert gate.asked == ["a"]
    gate.error = None
    assert await cache.get("a") == b"a" * 100


async def test_when_the_one_who_fetches_leaves_another_takes_over() -> None:
    gate = Gate()
    cache = shared(gate.fetch, 2)
    leader, *others = [asyncio.create_task(cache.get("a")) for _ in range(3)]
    await until(lambda: gate.asked == ["a"])
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    await until(lambda: gate.asked == ["a", "a"])
    gate.open.set()
    assert await asyncio.gather(*others) == [b"a" * 100] * 2
    assert gate.asked == ["a", "a"]


async def test_one_who_waits_may_leave_without_harm() -> None:
    gate = Gate()
    cache = shared(gate.fetch, 2)
    leader, other = (asyncio.create_task(cache.get("a")) for _ in range(2))
    await until(lambda: gate.asked == ["a"])
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other
    gate.open.set()
    assert await leader == b"a" * 100
    assert gate.asked == ["a"]
