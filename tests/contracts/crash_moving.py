"""Run as a program by test_moving: puts the same blobs each time, and moves them; may be killed at any point."""

import asyncio
import sys
from pathlib import Path
from typing import Final

from tests.contracts.moves import TO, put, two

CONTENTS: Final = [b"blob %d " % number * 50 for number in range(40)]


async def main(folder: Path) -> None:
    async with two(folder) as both:
        for data in CONTENTS:
            await put(both.home, data)
        if both.home.home.kind != TO:
            await both.move()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
