"""Fresh log blocks inside one process: the default bus, nothing to install."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from scalemesh.ports import Finding, LogBus
from scalemesh.values import DeploymentId, LogBlock

CHECK: Final = DeploymentId("dpl_check")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryConfig:
    """How much is held for a reader that does not keep up."""

    queue_blocks: int = 256  #: per subscriber; the next block empties the queue and puts one None there

    def __post_init__(self) -> None:
        if not 1 <= self.queue_blocks <= 100_000:
            raise ValueError("queue_blocks must be 1 to 100000")


class MemoryBus:
    """Implements LogBus for one event loop."""

    Config = MemoryConfig

    def __init__(self, config: MemoryConfig) -> None:
        self._size = config.queue_blocks
        self._queues: dict[DeploymentId, set[_Queue]] = {}
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def open(cls, config: MemoryConfig) -> AsyncIterator[Self]:
        """Yield the bus; afterwards every subscription has come to its end."""
        bus = cls(config)
        try:
            yield bus
        finally:
            bus._closed = True
            for queues in bus._queues.values():
                for queue in queues:
                    queue.close()

    async def publish(self, block: LogBlock) -> None:
        for queue in self._queues.get(block.deployment, ()):
            queue.add(block)

    @asynccontextmanager
    async def subscribe(self, deployment: DeploymentId) -> AsyncIterator[AsyncGenerator[LogBlock | None]]:
        queue = _Queue(self._size)
        if self._closed:
            queue.close()
        queues = self._queues.setdefault(deployment, set())
        queues.add(queue)
        try:
            async with aclosing(queue.blocks()) as blocks:
                yield blocks
        finally:
            queues.discard(queue)
            if not queues and self._queues.get(deployment) is queues:
                del self._queues[deployment]

    async def check(self) -> Sequence[Finding]:
        block = LogBlock(deployment=CHECK, lines=())
        async with self.subscribe(CHECK) as blocks:
            await self.publish(block)
            came = await anext(blocks, None)
        return [Finding(ok=came is block, what="a block went through the memory of this process")]


class _Queue:
    """What one subscriber has not taken yet."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[LogBlock | None] = deque()
        self._closed = False
        self._changed = asyncio.Event()

    def add(self, block: LogBlock) -> None:
        if len(self._waiting) >= self._size:
            # All of it, this block too, is in the store by now: one None says so, and fresh blocks may follow it.
            self._waiting.clear()
            self._waiting.append(None)
        else:
            self._waiting.append(block)
        self._changed.set()

    def close(self) -> None:
        self._closed = True
        self._changed.set()

    async def blocks(self) -> AsyncGenerator[LogBlock | None]:
        """What came, in order, until the bus is closed."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._closed:
                return
            self._changed.clear()
            await self._changed.wait()


if TYPE_CHECKING:
    _fits: type[LogBus] = MemoryBus
