"""A build with what the one before kept, against the first one of the same commit: a Vite app and a Docusaurus site."""

import asyncio
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from tests.bench.measure import Figure, PeerError, load_average
from tests.whole.daemon import RunningDaemon, repository, running_daemon

ROOT: Final = Path(__file__).parents[3]
VITE: Final = ROOT / "tests" / "fixtures" / "sites" / "vite-react"
WITHIN_S: Final = 600.0
FAIR: Final = "cpu_weight = 100\ncache_mib = 2048\n"
CREATE: Final = (
    "npm",
    "exec",
    "--yes",
    "--",
    "create-docusaurus@latest",
    "site",
    "classic",
    "--javascript",
    "--skip-install",
)
LOCK: Final = ("npm", "install", "--package-lock-only", "--no-audit", "--no-fund")


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of one pair of builds, from their start to ready."""

    cold_s: float
    warm_s: float


async def measure(folder: Path, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """*rounds* pairs of builds of each site, every pair in a project of its own.

    Raises:
        PeerError: npm does not make the Docusaurus site.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    sites = {"vite": VITE, "docusaurus": await asyncio.to_thread(docusaurus, folder)}
    figures: list[Figure] = []
    async with running_daemon(folder / "daemon", builds=FAIR) as daemon:
        for name, source in sites.items():
            pairs = [await _pair(daemon, f"{name}-{number}", source, say) for number in range(rounds)]
            figures += _figures(name, pairs)
    return figures


def docusaurus(folder: Path) -> Path:
    """A fresh site of Docusaurus's own template, with a lock file. Some of its packages have not all their platforms
    in every registry, which `npm ci` refuses: it is installed by `npm install`.
    """
    for command, where in ((CREATE, folder), (LOCK, folder / "site")):
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerError(f"{' '.join(command)}: {done.stderr[-500:]}")
    (folder / "site" / "vercel.json").write_text('{"installCommand": "npm install"}')
    return folder / "site"


async def _pair(daemon: RunningDaemon, name: str, source: Path, say: Callable[[str], None]) -> Took:
    files = {
        str(path.relative_to(source)): path.read_bytes()
        for path in source.rglob("*")
        if path.is_file() and "node_modules" not in path.parts and ".git" not in path.parts
    }
    url = repository(daemon.home, name, files)
    cold_s = await _build(daemon, url)
    warm_s = await _build(daemon, url, say)
    say(f"{name}: {cold_s:.2f} s, again {warm_s:.2f} s, load {load_average():.1f}")
    return Took(cold_s, warm_s)


async def _build(daemon: RunningDaemon, url: str, say: Callable[[str], None] | None = None) -> float:
    found = await daemon.until(await daemon.deploy(url), "ready", within_s=WITHIN_S)
    for line in await daemon.lines(found["id"]) if say else ():
        if say and line["step"] in ("restore", "save") and line["stream"] == "system":
            say(f"  {line['text']}")
    began, ended = (datetime.fromisoformat(found[name]) for name in ("started_at", "finished_at"))
    return (ended - began).total_seconds()


def _figures(name: str, pairs: Sequence[Took]) -> list[Figure]:
    cold, warm = [pair.cold_s for pair in pairs], [pair.warm_s for pair in pairs]
    ratios = [pair.warm_s / pair.cold_s for pair in pairs]
    return [
        Figure(bench="stores", name=f"{name}: first build", unit="s", values=cold),
        Figure(bench="stores", name=f"{name}: second build", unit="s", values=warm),
        Figure(bench="stores", name=f"{name}: second, against the first", unit="x", values=ratios, at_most=0.5),
    ]
