"""A collection beside visits: a million blobs, a tenth of which nobody holds; what it takes, and what visitors feel."""

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Final

import aiohttp

from tests.bench.measure import Figure, Unit, load_average, memory_mib, percentile
from tests.whole.daemon import RunningDaemon, end_all

BLOBS: Final = 1_000_000
EACH_UNHELD: Final = 10  #: every tenth
BATCH: Final = 50_000
TWO_HOURS_MS: Final = 2 * 3600 * 1000
QUIET_S: Final = 10.0
WITHIN_S: Final = 600.0
MOST_PAUSE_MS: Final = 20.0
DATA: Final = b"0123456789"


async def measure(folder: Path, say: Callable[[str], None]) -> list[Figure]:
    """One collection; the store is the disk."""
    daemon = RunningDaemon(folder / "daemon")
    daemon.home.mkdir(parents=True)
    try:
        await daemon.start()
        await daemon.until(await daemon.upload("visited", "prebuilt", {"index.html": b"<h1>here</h1>"}), "ready")
        await daemon.stop()
        await asyncio.to_thread(_fill, daemon.data)
        say(f"collection: {BLOBS:,} blobs are there, load average {load_average():.1f}")
        await daemon.start()
        quiet = await visits_while(daemon, asyncio.sleep(QUIET_S))
        assert daemon.process is not None
        before = memory_mib(daemon.process.pid)[0]
        began = time.monotonic()
        meanwhile = await visits_while(daemon, _collected(daemon))
        took = time.monotonic() - began
        more = memory_mib(daemon.process.pid)[0] - before
        left = sum(1 for _ in (daemon.data / "store" / "blobs").glob("*/*"))
        say(f"collection: {took:.1f} s, {len(meanwhile):,} visits, {left} blobs left, load {load_average():.1f}")
        await end_all(daemon)
    finally:
        daemon.kill_all()
    return [
        _figure(f"collect {BLOBS // EACH_UNHELD:,} of {BLOBS:,} blobs", "s", took),
        _figure("collect: resident memory more afterwards", "MiB", more, at_most=64),
        _figure("slowest visit without", "ms", max(quiet) * 1000),
        _figure("slowest visit meanwhile", "ms", max(meanwhile) * 1000, at_most=MOST_PAUSE_MS),
        _figure("p99.9 of visits without", "ms", percentile(quiet, 0.999) * 1000),
        _figure("p99.9 of visits meanwhile", "ms", percentile(meanwhile, 0.999) * 1000),
    ]


def _fill(data: Path) -> None:
    """Put blobs and their rows where the daemon has them; it must not run."""
    with closing(sqlite3.connect(data / "scalemesh.db")) as database:
        database.execute("PRAGMA synchronous = OFF")
        ((project,),) = database.execute("SELECT id FROM project")
        database.execute("INSERT INTO holder (name, project_id) VALUES ('former:all', ?)", (project,))
        ((holder,),) = database.execute("SELECT id FROM holder WHERE name = 'former:all'")
        since = int(time.time() * 1000) - TWO_HOURS_MS
        for start in range(0, BLOBS, BATCH):
            digests = [(n, hashlib.sha256(str(n).encode()).hexdigest()) for n in range(start, start + BATCH)]
            database.executemany(
                "INSERT INTO blob (sha256, size_bytes, state, unheld_at) VALUES (?, ?, 1, ?)",
                [(digest, len(DATA), since if n % EACH_UNHELD == 0 else None) for n, digest in digests],
            )
            held = [(holder, digest) for n, digest in digests if n % EACH_UNHELD]
            database.executemany("INSERT INTO hold SELECT ?, id FROM blob WHERE sha256 = ?", held)
            for n, digest in digests:
                if n % EACH_UNHELD == 0:
                    (data / "store" / "blobs" / digest[:2] / digest).write_bytes(DATA)
        database.commit()


async def _collected(daemon: RunningDaemon) -> None:
    await daemon.call("POST", "/gc", {"dry_run": False})
    async with asyncio.timeout(WITHIN_S):
        while (await daemon.call("GET", "/gc"))["running"]:
            await asyncio.sleep(0.5)


async def visits_while(daemon: RunningDaemon, work: Coroutine[None, None, None]) -> list[float]:
    """Seconds of each visit, one after another with a breath between them, until *work* has ended."""
    task = asyncio.create_task(work)
    took = []
    async with aiohttp.ClientSession() as session:
        while not task.done():
            began = time.perf_counter()
            async with session.get(f"http://127.0.0.1:{daemon.port}/", headers={"Host": "visited.localhost"}) as answer:
                assert answer.status == 200
                await answer.read()
            took.append(time.perf_counter() - began)
            await asyncio.sleep(0.001)
    await task
    return took


def _figure(name: str, unit: Unit, value: float, at_most: float | None = None) -> Figure:
    return Figure(bench="stores", name=name, unit=unit, values=[value], at_most=at_most)
