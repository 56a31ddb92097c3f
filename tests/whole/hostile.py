"""What the hostile builds run on: a daemon in a network of the tests' own, and what one looks at while they run."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.whole.daemon import RunningDaemon, repository
from tests.whole.sites import HELLO, built_by

PYTHON: Final = str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())  # a build has it, too
#: The time is that of the build that goes on, which all tests of a module share.
LIMITS: Final = """
parallel = 6
memory_mib = 256
pids = 64
time_limit_s = 3600
disk_mib = 64
output_mib = 8
output_files = 500
log_mib = 1
"""
SECRET: Final = "what another build wrote down"
ANOTHER_BUILD: Final = f"echo '{SECRET}' >secret.txt; cd src 2>/dev/null; echo waiting; sleep 600"


@dataclass
class Target:
    """A daemon with a site that is live, and a build that goes on all the time."""

    daemon: RunningDaemon
    another: str = ""  #: the deployment of the build that goes on
    count: int = field(default=0)

    async def run(self, script: str, name: str = "", **files: str) -> str:
        """Begin a build of *script*; returns its deployment."""
        self.count += 1
        name = f"{name or 'hostile'}-{self.count}"
        return await self.daemon.deploy(repository(self.daemon.home, name, built_by(script, **files)))

    async def loot(self, attack: str) -> str:
        """What the program *attack* printed, run as a build command."""
        told = (("DATA", str(self.daemon.data)), ("PORT", self.daemon.port), ("ANOTHER", self.another))
        program = "".join(f"{name} = {value!r}\n" for name, value in told) + attack
        script = f"mkdir -p out && {PYTHON} ./attack.py >out/index.html 2>&1; true"
        found = await self.daemon.until(await self.run(script, "attack", **{"attack.py": program}), "ready")
        return await self.page(found["permalink"])

    async def page(self, url: str, path: str = "/") -> str:
        status, body, _ = await self.daemon.visit(url.partition("://")[2].partition(":")[0], path)
        assert status == 200, (status, body)
        return body

    def memory_bytes(self) -> int:
        """What the daemon's own process holds in memory."""
        assert self.daemon.process is not None
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@dataclass
class Attention:
    """How long visits and API calls took, and how much memory the daemon had, while something else went on."""

    times_s: list[float] = field(default_factory=list)
    most_bytes: int = 0

    @property
    def usual_s(self) -> float:
        """Nine of ten took no longer. One that the machine itself held up says nothing of the daemon."""
        return sorted(self.times_s)[int(len(self.times_s) * 0.9)]


@asynccontextmanager
async def open_target(home: Path, netns: str, executor: str = "") -> AsyncIterator[Target]:
    """Start the daemon, publish a site, begin the build that goes on."""
    daemon = RunningDaemon(home, builds=LIMITS, executor=executor, netns=netns)
    try:
        await daemon.start()
        await daemon.until(await daemon.deploy(repository(home, "calm", built_by(HELLO))), "ready")
        another = await daemon.deploy(repository(home, "another", built_by(ANOTHER_BUILD)))
        await daemon.until_said(another, "waiting")
        yield Target(daemon, another)
        await daemon.call("POST", f"/deployments/{another}/cancel")
        await daemon.eventually(lambda: not daemon.temporary_files(), what=str(daemon.temporary_files()))
        await daemon.eventually(lambda: not daemon.processes(), what=str(daemon.processes()))
        await daemon.stop()
    finally:
        daemon.kill_all()


@asynccontextmanager
async def attention(target: Target) -> AsyncIterator[Attention]:
    """Visit the site and ask the API all the time, as long as the block runs."""
    seen = Attention()

    async def look() -> None:
        while True:
            began = time.monotonic()
            assert (await target.daemon.visit("calm.localhost"))[:2] == (200, "<h1>hello</h1>\n")
            await target.daemon.call("GET", "/deployments?limit=5")
            seen.times_s.append(time.monotonic() - began)
            seen.most_bytes = max(seen.most_bytes, target.memory_bytes())
            await asyncio.sleep(0.02)

    looking = asyncio.create_task(look())
    try:
        yield seen
        assert not looking.done(), looking.exception()
    finally:
        looking.cancel()
        await asyncio.wait({looking})
