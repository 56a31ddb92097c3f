"""Twenty deployments queued at once, two at a time, under a steady load on API and sites."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tests.bench.load import Load, steady_load
from tests.bench.measure import Figure, Outcome, memory_mib, percentile
from tests.whole.daemon import RunningDaemon, repository, running_daemon

DEPLOYMENTS: Final = 20
LIMIT: Final = 2
SAMPLE_S: Final = 0.02
WITHIN_S: Final = 300.0
FINAL: Final = frozenset({"ready", "failed", "canceled", "superseded"})
PACKAGE: Final = json.dumps({"name": "busy", "private": True, "scripts": {"build": "node build.mjs"}})
BUILD: Final = """import { mkdirSync, writeFileSync } from "node:fs";
const until = Date.now() + 1000;
let number = 0;
while (Date.now() < until) number += Math.sqrt(number);
mkdirSync("dist", { recursive: true });
for (let page = 0; page < 50; page++) {
  writeFileSync(`dist/page-${page}.html`, `<p>${page}</p>`.repeat(200));
  console.log(`wrote page ${page}`);
}
writeFileSync("dist/index.html", "<h1>busy NAME</h1>");
"""


async def measure(folder: Path, say: Callable[[str], None]) -> Outcome:
    """Queue them, watch them, and ask all the while."""
    async with running_daemon(folder / "daemon", builds=f"parallel = {LIMIT}") as daemon:
        urls = [_repository(daemon, number) for number in range(DEPLOYMENTS)]
        await daemon.until(await daemon.deploy(_repository(daemon, "steady"), project="steady"))
        site = Load(port=daemon.port, host="steady.localhost", path="/")
        api = Load(port=0, socket=daemon.socket, host="localhost", path="/api/v1/deployments?limit=50")
        async with steady_load(site), steady_load(api):
            began = time.monotonic()
            queued = await asyncio.gather(*(daemon.deploy(url) for url in urls))
            most, jobs, states = await _watch(daemon, set(queued))
            took = time.monotonic() - began
        assert daemon.process is not None
        resident, _ = memory_mib(daemon.process.pid)
        say(f"crowd: {len(queued)} deployments in {took:.1f} s")
    memory = Figure(bench="crowd", name="resident at the end", unit="MiB", values=[resident])
    builds = _builds(most, jobs, states, took)
    return Outcome(figures=[*builds, *_answers("sites", site), *_answers("API", api), memory])


def _repository(daemon: RunningDaemon, name: object) -> str:
    files: dict[str, str | bytes] = {"package.json": PACKAGE, "build.mjs": BUILD.replace("NAME", str(name))}
    return repository(daemon.home, f"busy-{name}", files)


async def _watch(daemon: RunningDaemon, queued: set[str]) -> tuple[int, int, list[str]]:
    """Until all have ended: the most that were building by the API, the most jobs that lived, the states at the end."""
    most = jobs = 0
    async with asyncio.timeout(WITHIN_S):
        while True:
            found: list[dict[str, Any]] = (await daemon.call("GET", "/deployments?limit=100"))["deployments"]
            states = [one["state"] for one in found if one["id"] in queued]
            most = max(most, states.count("building"))
            jobs = max(jobs, _living_jobs(daemon.home / "data" / "jobs"))
            if FINAL.issuperset(states):
                return most, jobs, states
            await asyncio.sleep(SAMPLE_S)


def _living_jobs(folder: Path) -> int:
    """Jobs of the executor that have begun and not yet come to their end."""
    living = 0
    for path in folder.glob("dpl_*"):
        with suppress(OSError, ValueError):
            pid = json.loads((path / "job.json").read_text())["pid"]
            living += Path(f"/proc/{pid}").exists() and not (path / "end.json").exists()
    return living


def _builds(most: int, jobs: int, states: list[str], took: float) -> list[Figure]:
    return [
        Figure(bench="crowd", name="most builds at once, by the API", unit="", values=[most], at_most=LIMIT),
        Figure(bench="crowd", name="most jobs at once, by their processes", unit="", values=[jobs], at_most=LIMIT),
        Figure(
            bench="crowd", name="not ready at the end", unit="", values=[DEPLOYMENTS - states.count("ready")], at_most=0
        ),
        Figure(bench="crowd", name="20 deployments, all in all", unit="s", values=[took]),
    ]


def _answers(what: str, load: Load) -> list[Figure]:
    times = [value * 1000 for value in load.took_s]
    note = f"{len(times)} requests, {load.per_s:.0f} a second"
    return [
        Figure(bench="crowd", name=f"{what}: requests that failed", unit="", values=[load.failed], at_most=0),
        Figure(bench="crowd", name=f"{what}: p50", unit="ms", values=[percentile(times, 0.5)], note=note),
        Figure(bench="crowd", name=f"{what}: p99", unit="ms", values=[percentile(times, 0.99)], note=note),
        Figure(bench="crowd", name=f"{what}: longest stall", unit="ms", values=[max(times)]),
    ]
