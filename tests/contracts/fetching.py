"""Run as a program: read one blob through a cache, and say how many bytes came.

Arguments: the folder of the far store, that of the cache, the digest.
"""

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path

from scalemesh.services.cached_store import open_near
from scalemesh.values import Digest
from tests.rigs.far_store import FarConfig, FarStore


async def main(far: Path, cache: Path, digest: Digest) -> None:
    print("begins", flush=True)
    async with (
        FarStore.open(FarConfig(path=far)) as store,
        open_near(store, cache, 1 << 30, is_keeper=False) as near,
        aclosing(near.read(digest)) as chunks,
    ):
        print(sum([len(chunk) async for chunk in chunks]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), Digest(sys.argv[3])))
