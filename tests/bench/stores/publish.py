"""Ten thousand files: what passes between the end of the build and ready, beside rclone with the same folder.

The builder's own work counts (hashing, asking, sending), and the daemon's (adopting, manifest, going live).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from tests.bench.measure import Figure, load_average
from tests.whole.daemon import RunningDaemon, end_all

FILES: Final = 10_000
FILE_BYTES: Final = 20_000
CHANGED: Final = 50
WITHIN_S: Final = 600.0
LANES: Final = 4  #: the builder's, and so rclone's
#: Pictures: nothing that would be compressed beside the next round.
BUILD: Final = f"""
import os, random, sys
version = int(open("version").read())
os.makedirs("dist/img", exist_ok=True)
open("dist/index.html", "w").write(f"<h1>{{version}}</h1>")
for n in range({FILES} - 1):
    seed = n if n >= {CHANGED} - 1 else n + (version + 1) * {FILES}
    with open(f"dist/img/{{n}}.webp", "wb") as file:
        file.write(random.Random(seed).randbytes({FILE_BYTES}))
"""
PACKAGE: Final = b'{"name": "many", "scripts": {"build": "python3 build.py"}}'


def source(version: int) -> dict[str, bytes]:
    return {"package.json": PACKAGE, "build.py": BUILD.encode(), "version": str(version).encode()}


async def published(daemon: RunningDaemon, project: str, version: int) -> float:
    """Deploy that version; the seconds from the build's end to ready."""
    deployment = await daemon.upload(project, "source", source(version))
    found = await daemon.until(deployment, "ready", within_s=WITHIN_S)
    built = [line for line in await daemon.lines(deployment) if line["text"].startswith("Built in")]
    return _at(found["finished_at"]) - _at(built[-1]["at"])


@asynccontextmanager
async def daemon_on(folder: Path, tables: str, environ: dict[str, str] | None = None) -> AsyncIterator[RunningDaemon]:
    """A daemon whose builds reach this machine's stores."""
    daemon = RunningDaemon(
        folder, executor='sandbox = "off"', tables=tables, environ=environ or {}, builds="output_mib = 1024\n"
    )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        await daemon.start()
        yield daemon
        await end_all(daemon)
    finally:
        daemon.kill_all()


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def on_disk(folder: Path, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    first, again = [], []
    async with daemon_on(folder / "disk", "") as daemon:
        for number in range(rounds):
            first.append(await published(daemon, f"many-{number}", 2 * number))
            again.append(await published(daemon, f"many-{number}", 2 * number + 1))
            say(f"disk round {number + 1}: first {first[-1]:.2f} s, again {again[-1]:.2f} s, load {load_average():.1f}")
    return [
        Figure(bench="publish", name="disk: first, 10,000 files", unit="s", values=first),
        Figure(bench="publish", name=f"disk: {CHANGED} changed", unit="s", values=again, at_most=2.0),
    ]


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        print(asyncio.run(on_disk(Path(made), 2, print)))
