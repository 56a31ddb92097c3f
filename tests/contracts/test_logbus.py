"""The contract of LogBus, over every kind of bus."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

import pytest

from scalemesh.ports import LogBus
from scalemesh.values import DeploymentId, LogBlock, LogLine
from tests.contracts.openers import BUSES

A: Final = DeploymentId("dpl_a")
B: Final = DeploymentId("dpl_b")
ROOM: Final = 4  #: blocks that the bus under test holds for a slow subscriber


@pytest.fixture(params=BUSES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def bus(kind: str) -> AsyncIterator[LogBus]:
    async with BUSES[kind](ROOM) as opened:
        yield opened


def block(number: int, deployment: DeploymentId = A, *, closes: bool = False) -> LogBlock:
    line = LogLine(
        number=number, at=datetime(2026, 1, 1, tzinfo=UTC), step="build", stream="out", text=f"line {number}"
    )
    return LogBlock(deployment=deployment, lines=[line], closes=closes)


async def test_every_subscriber_gets_what_is_published_from_then_on_in_order(bus: LogBus) -> None:
    await bus.publish(block(1))
    async with asyncio.timeout(30), bus.subscribe(A) as early:
        await bus.publish(block(2))
        async with bus.subscribe(A) as late:
            await bus.publish(block(3, closes=True))
            assert [await anext(early), await anext(early)] == [block(2), block(3, closes=True)]
            assert await anext(late) == block(3, closes=True)


async def test_a_subscriber_gets_blocks_of_its_deployment_alone(bus: LogBus) -> None:
    async with asyncio.timeout(30), bus.subscribe(A) as live:
        await bus.publish(block(1, B))
        await bus.publish(block(1, A))
        assert await anext(live) == block(1, A)


async def test_a_waiting_subscriber_is_woken(bus: LogBus) -> None:
    async with asyncio.timeout(30), bus.subscribe(A) as live:

        async def first() -> LogBlock | None:
            return await anext(live)

        task = asyncio.create_task(first())
        await bus.publish(block(1))
        assert await task == block(1)


async def test_a_slow_subscriber_holds_up_nobody_and_learns_once_that_it_missed_something(bus: LogBus) -> None:
    async with asyncio.timeout(30), bus.subscribe(A) as slow, bus.subscribe(A) as quick:
        for number in range(1, 50 * ROOM):
            await bus.publish(block(number))
            assert await anext(quick) == block(number)
        got = [await anext(slow)]
        await bus.publish(block(1000))
        while got[-1] != block(1000):
            got.append(await anext(slow))
    assert got.count(None) == 1
    numbers = [item.lines[0].number for item in got[got.index(None) + 1 :] if item]
    assert numbers == [*range(50 * ROOM - len(numbers) + 1, 50 * ROOM), 1000], "what follows the None has no gap"


async def test_leaving_is_clean_and_publishing_to_nobody_is_fine(bus: LogBus) -> None:
    async with bus.subscribe(A) as live:
        await bus.publish(block(1))
    with pytest.raises(StopAsyncIteration):
        await anext(live)
    await bus.publish(block(2))
    assert len(asyncio.all_tasks()) == 1


async def test_a_cancelled_subscriber_leaves_the_others_alone(bus: LogBus) -> None:
    listening = asyncio.Event()

    async def listen() -> None:
        async with bus.subscribe(A) as live:
            listening.set()
            await anext(live)

    async with asyncio.timeout(30), bus.subscribe(A) as other:
        task = asyncio.create_task(listen())
        await listening.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await bus.publish(block(1))
        assert await anext(other) == block(1)


async def test_closing_the_bus_ends_every_subscription(kind: str) -> None:
    listening = asyncio.Event()

    async def listen(bus: LogBus) -> list[LogBlock | None]:
        async with bus.subscribe(A) as live:
            listening.set()
            return [item async for item in live]

    async with asyncio.timeout(30):
        async with BUSES[kind](ROOM) as bus:
            task = asyncio.create_task(listen(bus))
            await listening.wait()
            await bus.publish(block(1))
        assert await task == [block(1)]


async def test_the_check_proves_it(bus: LogBus) -> None:
    findings = await bus.check()
    assert findings
    assert all(finding.ok for finding in findings)
