"""A thousand promotions and rollbacks under full load: each answer is one version or the other, none waits long."""

import asyncio
import json
import random
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench.measure import Figure, percentile
from tests.bench.serving import asked, sites
from tests.bench.serving.bench import Bench, not_measured
from tests.bench.serving.load import CONNECTIONS
from tests.bench.serving.ours import Api, our_daemon, publish, publish_again
from tests.whole.daemon import RunningDaemon

ROW: Final = "promotion"
SWAPS: Final = 200  #: in each round: a thousand, unless told otherwise
PROJECT: Final = "swapped-page"
MARKS: Final = ("First version", "Second version")
MOST_RATIO: Final = 2.0
WITHIN_S: Final = 900.0
NS: Final = 1_000_000  #: in a millisecond

Span = tuple[int, int]  #: begin and end, nanoseconds


async def measure(bench: Bench) -> list[Figure]:
    """One site, two versions, SWAPS swaps a round."""
    versions = [{sites.PAGE: sites.page(mark, random.Random(mark))} for mark in MARKS]
    folder = bench.folder / "swaps"
    folder.mkdir()
    async with our_daemon(bench, bench.folder / "promoted") as daemon:
        first = (await publish(daemon, {PROJECT: lambda: versions[0]}))[PROJECT]
        async with daemon.session() as session:
            second = await publish_again(Api(session), PROJECT, versions[1])
        _write_requests(folder, first, second)
        status, said = await _watch(bench, daemon, folder, [first, MARKS[0], second, MARKS[1]])
    if status != 0:
        return [not_measured(ROW, "swaps", said[-500:])]
    return _figures(json.loads(said), spans(folder / "visits"), spans(folder / "swaps"))


def _write_requests(folder: Path, first: str, second: str) -> None:
    (folder / "visit").write_bytes(asked.PAGE.request(f"{PROJECT}.{sites.BASE}"))
    back = json.dumps({"to": first}).encode()
    head = f"POST /api/v1/projects/{PROJECT}/rollback HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    (folder / "swap-0").write_bytes(head.encode() + f"Content-Length: {len(back)}\r\n\r\n".encode() + back)
    head = f"POST /api/v1/deployments/{second}/promote HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    (folder / "swap-1").write_bytes(head.encode())


async def _watch(bench: Bench, daemon: RunningDaemon, folder: Path, versions: Sequence[str]) -> tuple[int, str]:
    """(exit code, what it printed)."""
    process = await asyncio.create_subprocess_exec(
        *bench.cores.asking(), str(bench.programs.watcher), str(daemon.port), str(CONNECTIONS), str(daemon.socket),
        str(SWAPS * bench.rounds), str(folder), *versions,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(WITHIN_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, said.decode(errors="replace")


def _figures(counted: dict[str, Any], visits: Sequence[Span], swaps: Sequence[Span]) -> list[Figure]:
    before = [ended - began for began, ended in visits if ended < swaps[0][0]]
    during = during_any(visits, swaps)
    p99 = [percentile(times, 0.99) / NS for times in (before, during)]
    calls = [(ended - began) / NS for began, ended in swaps]
    whole_s = (visits[-1][1] - visits[0][0]) / 1e9
    note = f"{len(visits):,} visits, {len(visits) / whole_s:,.0f}/s, {counted['first']:,} of the first version"
    return [
        Figure(
            bench=ROW, name="answers that failed", unit="", values=[counted["failed"]], at_most=0, note=counted["why"]
        ),
        Figure(bench=ROW, name="answers of mixed versions", unit="", values=[counted["mixed"]], at_most=0, note=note),
        Figure(bench=ROW, name="stale after the call returned", unit="", values=[counted["stale"]], at_most=0),
        Figure(bench=ROW, name="p99 of visits before", unit="ms", values=p99[:1], note=f"{len(before):,} visits"),
        Figure(
            bench=ROW, name="p99 of visits during a swap", unit="ms", values=p99[1:], note=f"{len(during):,} visits"
        ),
        Figure(bench=ROW, name="during / before", unit="x", values=[p99[1] / p99[0]], at_most=MOST_RATIO),
        Figure(
            bench=ROW,
            name="one swap by the API, p50",
            unit="ms",
            values=[percentile(calls, 0.5)],
            note=f"{len(calls):,} swaps",
        ),
        Figure(bench=ROW, name="one swap by the API, p99", unit="ms", values=[percentile(calls, 0.99)]),
    ]


def during_any(visits: Sequence[Span], swaps: Sequence[Span]) -> list[int]:
    """How long those of *visits* took that overlap one of *swaps*, which follow each other."""
    ends = [ended for _, ended in swaps]
    found = []
    for began, ended in visits:
        next_swap = bisect_left(ends, began)  # the first that had not ended yet
        if next_swap < len(swaps) and swaps[next_swap][0] <= ended:
            found.append(ended - began)
    return found


def spans(path: Path) -> list[Span]:
    """What the watcher wrote down, in order of its ends."""
    numbers = array("q", path.read_bytes())
    return list(zip(numbers[::2], numbers[1::2], strict=True))
