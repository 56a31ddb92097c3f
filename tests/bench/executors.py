"""What each executor adds to the same build over the local one, and what fifty builds through docker leave behind."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.bench.measure import Figure, Outcome, PeerError, load_average, memory_mib
from tests.rigs import everywhere
from tests.rigs.docker import docker, engine_lacks
from tests.whole.daemon import RunningDaemon, end_all

MOST_ADDED_S: Final = {"docker": 1.5, "kubernetes": 5.0}
JOBS: Final = 50
AT_ONCE: Final = 4
WAITING: Final = 100
WITHIN_S: Final = 120.0
SOURCE: Final = {
    "package.json": b'{"name": "tiny", "scripts": {"build": "mkdir -p dist && cp page.html dist/index.html"}}',
    "page.html": b"<h1>tiny</h1>",
}


async def measure(folder: Path, rounds: int, say: Callable[[str], None]) -> Outcome:
    """*rounds* builds on each kind in turns, then many on docker.

    Raises:
        PeerError: there is no docker engine.
    """
    if why := engine_lacks():
        raise PeerError(f"executors: {why}")
    async with everywhere.all_kinds() as settings:
        builds = settings.builds + "parallel_per_project = 4\nqueue_length = 1000\n"
        running = RunningDaemon(
            folder / "daemon",
            builds=builds,
            kinds=settings.kinds,
            tables=settings.tables,
            environ=settings.environ,
        )
        running.home.mkdir(parents=True, exist_ok=True)
        try:
            await running.start()
            for kind in settings.kinds:
                await running.call("POST", "/projects", {"name": f"{kind}-site", "executor": kind})
            figures = [*await _added(running, settings.kinds, rounds, say), *await _many(running, say)]
            await end_all(running)
        finally:
            running.kill_all()
    return Outcome(figures=figures)


async def _added(daemon: RunningDaemon, kinds: Sequence[str], rounds: int, say: Callable[[str], None]) -> list[Figure]:
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    for kind in kinds:
        await _built(daemon, kind)  # what is done once: an image looked at, a definition registered
    for number in range(rounds):
        for kind in kinds:
            took[kind].append(await _built(daemon, kind))
        shown = ", ".join(f"{kind} {values[-1]:.2f} s" for kind, values in took.items())
        say(f"executors round {number + 1}: {shown}, load average {load_average():.1f}")
    local = took["local"]
    figures = [Figure(bench="executors", name="local: deploy to ready", unit="s", values=local)]
    for kind in kinds:
        if kind != "local":
            more = [one - base for one, base in zip(took[kind], local, strict=True)]
            ratios = [one / base for one, base in zip(took[kind], local, strict=True)]
            most = MOST_ADDED_S.get(kind)
            figures.append(
                Figure(bench="executors", name=f"{kind}: added to local", unit="s", values=more, at_most=most)
            )
            figures.append(Figure(bench="executors", name=f"{kind}: ratio to local", unit="x", values=ratios))
    return figures


async def _many(daemon: RunningDaemon, say: Callable[[str], None]) -> list[Figure]:
    """Fifty jobs, four at a time, while a hundred more wait; then nothing may be left."""
    before = _held(daemon)
    queued = [await daemon.upload("docker-site", "source", {**SOURCE, "n": str(n).encode()}) for n in range(JOBS)]
    began = time.monotonic()
    threads, memory = [], []
    waiting = [await daemon.upload("docker-site", "source", {**SOURCE, "w": str(n).encode()}) for n in range(WAITING)]
    for deployment in queued:
        await daemon.until(deployment, "ready", within_s=WITHIN_S)
        assert daemon.process is not None
        threads.append(float(len(os.listdir(f"/proc/{daemon.process.pid}/task"))))  # noqa: PTH208
        memory.append(memory_mib(daemon.process.pid)[0])
    say(f"executors: {JOBS} builds through docker in {time.monotonic() - began:.0f} s")
    for deployment in waiting:
        await daemon.try_call("POST", f"/deployments/{deployment}/cancel")  # some have ended meanwhile
    await daemon.eventually(lambda: not _containers(), within_s=30)
    await asyncio.sleep(1)  # connections that are closed after their answer
    after = _held(daemon)
    left = {name: after[name] - before[name] for name in before}
    return [
        *(
            Figure(bench="executors", name=f"{name} left after {JOBS} jobs", unit="", values=[count], at_most=most)
            for name, count, most in (
                (name, float(count), 8 if name == "open files" else 0) for name, count in left.items()
            )
        ),
        Figure(
            bench="executors",
            name=f"threads while {WAITING} wait: most less least",
            unit="",
            values=[max(threads) - min(threads)],
            at_most=8,
        ),
        Figure(
            bench="executors",
            name=f"resident while {WAITING} wait: last less first",
            unit="MiB",
            values=[memory[-1] - memory[0]],
            at_most=16,
        ),
    ]


async def _built(daemon: RunningDaemon, kind: str) -> float:
    began = time.monotonic()
    await daemon.until(await daemon.upload(f"{kind}-site", "source", SOURCE), "ready", within_s=WITHIN_S)
    return time.monotonic() - began


def _held(daemon: RunningDaemon) -> dict[str, int]:
    assert daemon.process is not None
    place = Path(f"/proc/{daemon.process.pid}")
    return {
        "containers": len(_containers()),
        "volumes": len(docker("volume", "ls", "--quiet", "--filter", "label=scalemesh.owner").split()),
        "networks": len(docker("network", "ls", "--quiet").split()),
        "threads": len(list((place / "task").iterdir())),
        "open files": len(list((place / "fd").iterdir())),
    }


def _containers() -> list[str]:
    return docker("ps", "--all", "--quiet", "--filter", "label=scalemesh.owner").split()
