"""Run as a program by test_stores: uploads, adopts and puts the same contents each time; may be killed."""

import asyncio
import hashlib
import random
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Final

from scalemesh.values import Blob, DeploymentId, Digest
from tests.contracts.openers import STORES

A: Final = DeploymentId("dpl_aaaa1111")
B: Final = DeploymentId("dpl_bbbb2222")
CONTENTS: Final = [random.Random(size).randbytes(size) for size in (0, 10, 70_000, 600_000, 1_100_000)]


async def chunks_of(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65_536):
        yield data[start : start + 65_536]


async def main(kind: str, where: Path) -> None:
    blobs = {data: Blob(sha256=Digest(hashlib.sha256(data).hexdigest()), size_bytes=len(data)) for data in CONTENTS}
    async with STORES[kind](where) as store:
        for data, blob in list(blobs.items())[:-1]:
            await store.receive(A, 1, blob, chunks_of(data))
        await store.adopt(A, 1, await store.received(A, 1))
        await store.clear(A)
        await store.put(blobs[CONTENTS[-1]], chunks_of(CONTENTS[-1]))
        async with aclosing(store.blobs()) as pages:  # which needs what an adoption may have left for later
            async for _ in pages:
                pass


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
