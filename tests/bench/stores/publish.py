"""Ten thousand files: what passes between the end of the build and ready, beside rclone with the same folder.

The builder's own work counts (hashing, asking, sending), and the daemon's (adopting, manifest, going live).
"""

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from tests.bench.measure import Figure, PeerError, Unit, load_average
from tests.bench.stores.bucket import tables
from tests.rigs import s3_servers
from tests.whole.daemon import RunningDaemon, end_all

FILES: Final = 10_000
FILE_BYTES: Final = 20_000
CHANGED: Final = 50
WITHIN_S: Final = 600.0
LANES: Final = 8  #: the builder's, and so rclone's
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
RCLONE: Final = (
    *(str(Path(sys.executable).with_name("rclone")), "sync", "--transfers", str(LANES), "--checkers", "16"),
    *("--config", "/dev/null", "--s3-provider", "Other", "--s3-region", s3_servers.REGION),
    *("--s3-access-key-id", s3_servers.ACCESS_KEY, "--s3-secret-access-key", s3_servers.SECRET_KEY),
)
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
async def daemon_on(folder: Path, more: str) -> AsyncIterator[RunningDaemon]:
    """A daemon whose builds reach this machine's stores."""
    daemon = RunningDaemon(folder, executor='sandbox = "off"', tables=more, builds="output_mib = 1024\n")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        await daemon.start()
        yield daemon
        await end_all(daemon)
    finally:
        daemon.kill_all()


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def measure(folder: Path, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """On disk, then in a bucket beside rclone with the same bucket and the same bytes.

    Raises:
        PeerError: rclone fails.
    """
    disk = await _on(folder / "disk", "", rounds, lambda text: say(f"disk {text}"))
    server = s3_servers.fresh("weed")
    bucket = await _on(folder / "bucket", tables(server.url), rounds, lambda text: say(f"bucket {text}"))
    peer = [_by_rclone(folder / "rclone", server.url, number, say) for number in range(rounds)]
    server.end()
    peer_first, peer_again = [one for one, _ in peer], [two for _, two in peer]
    return [
        _figure("disk: first publish of 10,000 files", "s", disk.first),
        _figure(f"disk: {CHANGED} of 10,000 changed", "s", disk.again, at_most=2.0),
        _figure("bucket: first publish of 10,000 files", "s", bucket.first),
        _figure("rclone: first sync of them", "s", peer_first),
        _figure("bucket: first, against rclone", "x", _ratios(bucket.first, peer_first), at_most=1.0),
        _figure(f"bucket: {CHANGED} of 10,000 changed", "s", bucket.again),
        _figure("rclone: sync of the same change", "s", peer_again),
        _figure("bucket: change, against rclone", "x", _ratios(bucket.again, peer_again), at_most=0.2),
    ]


@dataclass(frozen=True, slots=True)
class Took:
    first: list[float]
    again: list[float]


async def _on(folder: Path, more: str, rounds: int, say: Callable[[str], None]) -> Took:
    took = Took([], [])
    async with daemon_on(folder, more) as daemon:
        for number in range(rounds):
            took.first.append(await published(daemon, f"many-{number}", 2 * number))
            took.again.append(await published(daemon, f"many-{number}", 2 * number + 1))
            say(f"round {number + 1}: {took.first[-1]:.2f} s, again {took.again[-1]:.2f} s, load {load_average():.1f}")
    return took


def _by_rclone(folder: Path, url: str, number: int, say: Callable[[str], None]) -> tuple[float, float]:
    """The first sync and the one after the change, of a folder that a build left."""
    folder.mkdir(exist_ok=True)
    took = []
    for version in (2 * number, 2 * number + 1):
        for name, content in source(version).items():
            (folder / name).write_bytes(content)
        subprocess.run([sys.executable, "build.py"], cwd=folder, check=True)
        words = [*RCLONE, "--s3-endpoint", url, str(folder / "dist"), f":s3:{s3_servers.BUCKET}/rclone-{number}"]
        began = time.monotonic()
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerError(f"rclone: {done.stderr[-500:]}")
        took.append(time.monotonic() - began)
    say(f"rclone round {number + 1}: {took[0]:.2f} s, again {took[1]:.2f} s, load {load_average():.1f}")
    return took[0], took[1]


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def _figure(name: str, unit: Unit, values: Sequence[float], at_most: float | None = None) -> Figure:
    return Figure(bench="stores", name=name, unit=unit, values=values, at_most=at_most)
