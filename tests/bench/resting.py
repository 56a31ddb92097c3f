"""The daemon at rest with fifty sites: what memory it holds, and how soon after its start it answers a visit."""

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.bench.measure import Figure, Outcome, memory_mib
from tests.whole.daemon import RunningDaemon, running_daemon

PROJECTS: Final = 50
PAGES: Final = 20  #: of each site
AT_ONCE: Final = 2  #: uploads
REST_S: Final = 3.0  #: what a deployment leaves to do, and what Python's memory needs to settle
MOST_RESIDENT_MIB: Final = 90.0
MOST_START_S: Final = 1.5


async def measure(folder: Path, rounds: int, say: Callable[[str], None]) -> Outcome:
    """Publish fifty finished sites, look at the memory, then start the daemon *rounds* times."""
    async with running_daemon(folder / "daemon") as daemon:
        await _publish(daemon, folder / "sites")
        await asyncio.sleep(REST_S)
        figures = _memory(daemon, "after the 50 deployments")
        starts = []
        for number in range(rounds):
            await daemon.stop()
            starts.append(await _start(daemon))
            say(f"rest round {number + 1}: first answer after {starts[-1]:.2f} s")
        for number in range(PROJECTS):
            await _visit(daemon, number)
        await daemon.call("GET", "/deployments?limit=100")
        await asyncio.sleep(REST_S)
        figures += _memory(daemon, "after a start and a visit of each site")
    name = "process start to the first answered visit"
    return Outcome(figures=[*figures, Figure(bench="rest", name=name, unit="s", values=starts, at_most=MOST_START_S)])


async def _publish(daemon: RunningDaemon, folder: Path) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        site = folder / f"site-{number:02}"
        site.mkdir(parents=True)
        for page in range(PAGES):
            name = "index" if page == 0 else f"page-{page}"
            (site / f"{name}.html").write_text(f"<title>{number}.{page}</title>" + "<p>words</p>" * 300)
        async with room:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "scalemesh", "deploy", str(site), "--prebuilt", "--socket", str(daemon.socket),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            said, _ = await process.communicate()
        assert process.returncode == 0, said.decode(errors="replace")

    async with asyncio.TaskGroup() as group:
        for number in range(PROJECTS):
            group.create_task(one(number))


async def _start(daemon: RunningDaemon) -> float:
    began = time.monotonic()
    await daemon.start()
    await _visit(daemon, PROJECTS - 1)
    return time.monotonic() - began


async def _visit(daemon: RunningDaemon, number: int) -> None:
    status, body, _ = await daemon.visit(f"site-{number:02}.localhost")
    assert status == 200
    assert f"<title>{number}.0</title>" in body


def _memory(daemon: RunningDaemon, when: str) -> list[Figure]:
    assert daemon.process is not None
    resident, share = memory_mib(daemon.process.pid)
    return [
        Figure(bench="rest", name=f"resident {when}", unit="MiB", values=[resident], at_most=MOST_RESIDENT_MIB),
        Figure(bench="rest", name=f"proportional share {when}", unit="MiB", values=[share]),
    ]
