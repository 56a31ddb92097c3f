"""Run as a program by test_collector: collects at once what nobody holds below a folder; may be killed."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scalemesh.db.database import open_database
from scalemesh.services.collector import Collector
from scalemesh.services.holdings import Holdings
from tests.contracts.openers import STORES


async def main(folder: Path) -> None:
    async with open_database(folder / "scalemesh.db") as database, STORES["disk"](folder) as store:
        holdings = Holdings(database, store)
        await Collector(database, store, holdings, grace=timedelta(0), now=lambda: datetime.now(UTC)).run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
