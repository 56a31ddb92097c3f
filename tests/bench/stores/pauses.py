"""What visitors feel while many files are published: all of them known, so that nothing is built or sent meanwhile."""

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.bench.measure import Figure, load_average
from tests.bench.stores.collection import visits_while
from tests.whole.daemon import RunningDaemon, end_all

FILES: Final = (10_000, 100_000)
QUIET_S: Final = 2.0
WITHIN_S: Final = 120.0


async def measure(folder: Path, say: Callable[[str], None]) -> list[Figure]:
    """One publish of each size; the store is the disk."""
    daemon = RunningDaemon(folder / "daemon", builds=f"output_files = {max(FILES)}\n")
    daemon.home.mkdir(parents=True)
    figures = []
    try:
        await daemon.start()
        await daemon.until(await daemon.upload("visited", "prebuilt", {"index.html": b"<h1>here</h1>"}), "ready")
        await daemon.upload("many", "prebuilt", {"index.html": b"first"})
        await daemon.stop()
        known = await asyncio.to_thread(_fill, daemon.data, max(FILES))
        await daemon.start()
        figures.append(_figure("without a publish", max(await visits_while(daemon, asyncio.sleep(QUIET_S)))))
        for count in FILES:
            body = json.dumps({"files": known[:count]}).encode()  # before: it would hold up the visits on this side
            slowest = max(await visits_while(daemon, _published(daemon, body)))
            figures.append(_figure(f"while {count:,} files are published", slowest))
            say(f"{count:,} files: {slowest * 1000:.0f} ms, load average {load_average():.1f}")
        await end_all(daemon)
    finally:
        daemon.kill_all()
    return figures


def _fill(data: Path, count: int) -> list[list[object]]:
    """Let the project own so many blobs; as a list of files. The daemon must not run."""
    files: list[list[object]] = []
    for number in range(count):
        content = str(number).encode()
        files.append([f"img/{number}.webp", hashlib.sha256(content).hexdigest(), len(content), False])
    with closing(sqlite3.connect(data / "scalemesh.db")) as database:
        ((project,),) = database.execute("SELECT id FROM project WHERE name = 'many'")
        database.execute("INSERT INTO holder (name, project_id) VALUES ('former:all', ?)", (project,))
        rows = [(sha256, size) for _, sha256, size, _ in files]
        database.executemany("INSERT INTO blob (sha256, size_bytes, state) VALUES (?, ?, 1)", rows)
        held = "INSERT INTO hold SELECT holder.id, blob.id FROM holder, blob WHERE name = 'former:all' AND sha256 = ?"
        database.executemany(held, [(sha256,) for sha256, _ in rows])
        database.commit()
    return files


async def _published(daemon: RunningDaemon, body: bytes) -> None:
    begun = await daemon.call("POST", "/projects/many/deployments", {"upload": "prebuilt"})
    url, headers = f"http://x/api/v1/deployments/{begun['id']}/finish", {"Content-Type": "application/json"}
    async with daemon.session() as session, session.post(url, data=body, headers=headers) as answer:
        assert answer.status < 400, await answer.text()
    await daemon.until(begun["id"], "ready", within_s=WITHIN_S)


def _figure(name: str, seconds: float) -> Figure:
    return Figure(bench="stores", name=f"slowest visit {name}", unit="ms", values=[seconds * 1000])
