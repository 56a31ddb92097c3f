"""A daemon that is going to be killed: opens the executor, warms it up, starts one job when told.

python -m tests.contracts.executor.starter <place>    prints "ready", then starts once it can read a line
"""

import asyncio
import sys
from pathlib import Path

from plugins.executors.local import LocalConfig, LocalExecutor
from tests.contracts.executor.stand_in import make_job

PROGRAM = "open('/work/src/starts', 'a').write('x'); time.sleep(0.2); sys.exit(0)"


async def main(place: Path) -> None:
    """See the module's docstring."""
    sockets = place / "sockets"
    async with LocalExecutor.open(LocalConfig(work_dir=place / "jobs"), entry=place / "entry") as executor:
        warm = await executor.start(make_job("sys.exit(0)", sockets / "builds.sock", deployment="dpl_warm"))
        await executor.stop(warm)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        await executor.start(make_job(PROGRAM, sockets / "builds.sock"))
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
