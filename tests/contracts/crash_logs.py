"""Run as a program by test_log_pipeline: sends the same blocks each time, as a builder that repeats them would."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from plugins.logbus.memory import MemoryBus, MemoryConfig
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.values import DeploymentId
from tests.contracts.openers import LOG_STORES

A: Final = DeploymentId("dpl_a")
BLOCKS: Final = 40
LINES: Final = 25


async def main(kind: str, where: Path) -> None:
    async with LOG_STORES[kind](where) as store, MemoryBus.open(MemoryConfig()) as bus:
        pipeline = LogPipeline(store, bus, now=lambda: datetime.now(UTC))
        await pipeline.write(A, "queue", "queued", once=1)
        for seq in range(1, BLOCKS + 1):
            lines = [[0, "out", "build", f"{seq}.{number}"] for number in range(LINES)]
            await pipeline.take(A, 1, seq, lines, secrets=[], log_bytes=10**6)
            sys.stdout.write(f"{seq}\n")
            sys.stdout.flush()
        await pipeline.write(A, "end", "ended", once=2)
        await pipeline.close(A)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
