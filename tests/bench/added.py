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
from tests.bench.measure import Figure, Outcome, PeerError, load_average
from tests.bench.phases import Moments, phases_of
from tests.whole.daemon import RunningDaemon, git, repository, running_daemon

ROOT: Final = Path(__file__).parents[2]
SITES: Final = Path(__file__).parent / "sites"
CHAPTERS: Final = 200
ANSWER_S: Final = 10.0
FAIR: Final = "cpu_weight = 100"  #: what others do on the machine shall slow both sides alike
NOT_SOURCE: Final = frozenset({"node_modules", "dist", ".astro"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is built, and what we may add to it."""

    name: str
    write: Callable[[Path], None]  #: puts the sources into an empty folder
    added_s: float | None = None
    ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    install_s: float
    build_s: float

    @property
    def total_s(self) -> float:
        return self.install_s + self.build_s


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
    by_hand: list[ByHand] = []
    ours: list[Moments] = []
    site.write(folder / "source")
    files = {str(path.relative_to(folder / "source")): path.read_bytes() for path in _files(folder / "source")}
    async with running_daemon(folder / "daemon", builds=FAIR) as daemon:
        for number in range(rounds):
            url = repository(daemon.home, f"{site.name}-{number}", files)
            for is_ours in (True, False) if number % 2 else (False, True):
                if is_ours:
                    ours.append(await asyncio.to_thread(_deployed, daemon, f"{site.name}-{number}", url))
                else:
                    by_hand.append(await asyncio.to_thread(_by_hand, folder / "hand", url))
            took = f"by hand {by_hand[-1].total_s:.2f} s, deployed {ours[-1].total_s:.2f} s"
            say(f"{site.name} round {number + 1}: {took}, load average {load_average():.1f}")
        found = [await phases_of(daemon, moments) for moments in ours]
    phases = {name: [each[name] for each in found] for name in found[0]}
    figures = _figures(site, [each.total_s for each in by_hand], [each.total_s for each in ours], phases)
    phases["(by hand: npm ci)"] = [each.install_s for each in by_hand]
    phases["(by hand: npm run build)"] = [each.build_s for each in by_hand]
    return Outcome(figures=figures, phases=phases)


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


def _by_hand(folder: Path, url: str) -> ByHand:
    """npm in a plain clone."""
    shutil.rmtree(folder, ignore_errors=True)
    clone, home = folder / "clone", folder / "home"
    git("clone", "-q", url, str(clone))
    home.mkdir()
    # CI=1 as in our builds: without it npm also asks the registry for a newer npm.
    environ = {**os.environ, "CI": "1", "HOME": str(home), "npm_config_cache": str(folder / "cache")}
    times = [time.monotonic()]
    for command in (["npm", "ci"], ["npm", "run", "build"]):
        try:
            status, said = _run(command, clone, environ)
        except OSError as error:
            raise PeerError(f"`{' '.join(command)}` by hand does not start: {error}") from error
        times.append(time.monotonic())
        if status != 0:
            raise PeerError(f"`{' '.join(command)}` by hand ended with {status}:\n{said[-2000:]}")
    return ByHand(install_s=times[1] - times[0], build_s=times[2] - times[1])


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
