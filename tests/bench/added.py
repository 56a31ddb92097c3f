"""Time that we add to a build: ``scalemesh deploy`` to the answering site, less npm by hand in a plain clone.

Each round makes a fresh project and gives both sides an empty npm cache of their own; the sides take turns at going
first.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.handbook import write_chapters
from tests.bench.measure import Figure, Outcome, PeerError
from tests.bench.phases import Moments, phases_of
from tests.whole.daemon import RunningDaemon, git, repository, running_daemon

ROOT: Final = Path(__file__).parents[2]
SITES: Final = Path(__file__).parent / "sites"
CHAPTERS: Final = 150
ANSWER_S: Final = 10.0
NOT_SOURCE: Final = frozenset({"node_modules", "dist", ".astro"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is built, and what we may add to it."""

    name: str
    write: Callable[[Path], None]  #: puts the sources into an empty folder
    added_s: float | None = None
    ratio: float | None = None


def write_hello(folder: Path) -> None:
    """The example that the demo deploys."""
    _copy(ROOT / "examples" / "hello", folder)


def write_handbook(folder: Path) -> None:
    """An Astro site of CHAPTERS chapters with coloured code."""
    _copy(SITES / "handbook", folder)
    write_chapters(folder / "src" / "content" / "chapters", CHAPTERS)


HELLO: Final = Site(name="hello", write=write_hello, added_s=1.0)
HANDBOOK: Final = Site(name="handbook", write=write_handbook, ratio=1.15)


async def measure(site: Site, folder: Path, rounds: int, say: Callable[[str], None]) -> Outcome:
    """*rounds* pairs of a build by hand and a deployment.

    Raises:
        PeerError: npm by hand does not work here.
    """
    by_hand: list[float] = []
    ours: list[Moments] = []
    site.write(folder / "source")
    files = {str(path.relative_to(folder / "source")): path.read_bytes() for path in _files(folder / "source")}
    async with running_daemon(folder / "daemon") as daemon:
        for number in range(rounds):
            url = repository(daemon.home, f"{site.name}-{number}", files)
            sides = [
                lambda url=url: by_hand.append(_by_hand(folder / "hand", url)),
                lambda url=url, number=number: ours.append(_deployed(daemon, f"{site.name}-{number}", url)),
            ]
            for side in sides if number % 2 else reversed(sides):
                await asyncio.to_thread(side)
            say(f"{site.name} round {number + 1}: by hand {by_hand[-1]:.2f} s, deployed {ours[-1].total_s:.2f} s")
        found = [await phases_of(daemon, moments) for moments in ours]
    phases = {name: [each[name] for each in found] for name in found[0]}
    return Outcome(figures=_figures(site, by_hand, [each.total_s for each in ours], phases), phases=phases)


def _figures(site: Site, by_hand: list[float], ours: list[float], phases: dict[str, list[float]]) -> list[Figure]:
    added = [our - their for our, their in zip(ours, by_hand, strict=True)]
    ratios = [our / their for our, their in zip(ours, by_hand, strict=True)]
    commands = [install + build for install, build in zip(phases["install"], phases["build"], strict=True)]
    around = [our - command for our, command in zip(ours, commands, strict=True)]
    name = site.name
    return [
        Figure(bench=name, name="npm ci && npm run build by hand", unit="s", values=by_hand),
        Figure(bench=name, name="deploy to the site answering", unit="s", values=ours),
        Figure(bench=name, name="added time", unit="s", values=added, at_most=site.added_s, note="of the same round"),
        Figure(bench=name, name="ratio", unit="x", values=ratios, at_most=site.ratio, note="of the same round"),
        Figure(bench=name, name="all but the two commands", unit="s", values=around, note="our own part alone"),
    ]


def _by_hand(folder: Path, url: str) -> float:
    """Seconds for npm in a plain clone."""
    shutil.rmtree(folder, ignore_errors=True)
    clone, home = folder / "clone", folder / "home"
    git("clone", "-q", url, str(clone))
    home.mkdir()
    environ = {**os.environ, "HOME": str(home), "npm_config_cache": str(folder / "cache")}
    began = time.time()
    status, said = _run(["sh", "-c", "npm ci && npm run build"], clone, environ)
    took = time.time() - began
    if status != 0 or not (clone / "dist" / "index.html").is_file():
        raise PeerError(f"npm by hand ended with {status}:\n{said[-2000:]}")
    return took


def _deployed(daemon: RunningDaemon, project: str, url: str) -> Moments:
    """Deploy as a person does, with the command, and wait for the site."""
    command = [sys.executable, "-m", "scalemesh", "deploy", url, "--project", project, "--socket", str(daemon.socket)]
    began = time.time()
    status, said = _run(command, daemon.home, dict(os.environ))
    ended = time.time()
    assert status == 0, said[-3000:]
    deadline = time.monotonic() + ANSWER_S
    while asyncio.run(daemon.visit(f"{project}.localhost"))[0] != 200:
        assert time.monotonic() < deadline, "the site does not answer"
    return Moments(project=project, began=began, ended=ended, answered=time.time())


def _run(command: list[str], folder: Path, environ: dict[str, str]) -> tuple[int, str]:
    """(exit code, all that it printed)."""
    done = subprocess.run(
        command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def _copy(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder, ignore=lambda _, names: NOT_SOURCE.intersection(names))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
