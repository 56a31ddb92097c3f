"""Ten thousand connections that say nothing: what each holds in memory, and whether others feel them."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tests.bench.measure import Figure, PeerError
from tests.bench.serving import asked, sites
from tests.bench.serving.bench import WARM_S, Bench, Target, not_measured, rate_figure, ratio_figure, under_load
from tests.bench.serving.load import Rate, write_plan
from tests.bench.serving.ours import many_descriptors, our_daemon, served_by
from tests.bench.serving.plain import prepare
from tests.bench.serving.processes import resident_kib

ROW: Final = "idle"
HELD: Final = 10_000
HOLD_S: Final = 60.0
SETTLE_S: Final = 1.0
MOST_KIB: Final = 8.0
TO_REACH: Final = 0.9
SETTINGS: Final = "[serving]\nkeepalive_timeout_s = 3600"


@dataclass(kw_only=True)
class Found:
    """What the rounds saw."""

    without: list[Rate]
    beside: list[Rate]
    each_kib: list[float]
    still_open: list[float]


async def measure(bench: Bench) -> list[Figure]:
    """Pages asked with and without them, in turns."""
    home, plan, request = await prepare(bench), bench.folder / "plans" / ROW, bench.folder / "idle-request"
    hosts = [sites.host(number) for number in range(sites.HOSTS)]
    write_plan(plan, asked.evenly(asked.PAGE, hosts))
    request.write_bytes(asked.PAGE.request(hosts[0]))
    found = Found(without=[], beside=[], each_kib=[], still_open=[])
    async with our_daemon(bench, home, settings=SETTINGS) as daemon:
        target = Target(served=served_by(daemon), plan=plan)
        await under_load(bench, target, WARM_S)
        for number in range(bench.rounds):
            try:
                await _round(bench, target, found)
            except (PeerError, TimeoutError) as error:
                return [not_measured(ROW, f"{HELD:,} connections", str(error))]
            told = f"{found.without[-1].per_s:,.0f}/s without, {found.beside[-1].per_s:,.0f}/s beside them"
            bench.say(f"{ROW} round {number + 1}: {told}, {found.each_kib[-1]:.1f} KiB each")
    return _figures(found)


async def _round(bench: Bench, target: Target, found: Found) -> None:
    pid = target.served.pid
    found.without.append(await under_load(bench, target, bench.seconds))
    before = resident_kib(pid)
    async with _holding(bench, target.served.port, found.still_open):
        await asyncio.sleep(SETTLE_S)
        found.each_kib.append((resident_kib(pid) - before) / HELD)
        found.beside.append(await under_load(bench, target, bench.seconds))


def _figures(found: Found) -> list[Figure]:
    first = found.each_kib[:1]  # later rounds find memory that the process had already
    return [
        rate_figure(ROW, "pages without them", found.without),
        rate_figure(ROW, f"pages beside {HELD:,}", found.beside),
        ratio_figure(ROW, "beside / without", found.beside, found.without, at_least=TO_REACH),
        Figure(bench=ROW, name="memory a connection", unit="KiB", values=first, at_most=MOST_KIB, note="of round 1"),
        Figure(bench=ROW, name="still open at the end", unit="", values=found.still_open, at_least=HELD),
    ]


@asynccontextmanager
async def _holding(bench: Bench, port: int, still_open: list[float]) -> AsyncIterator[None]:
    request = str(bench.folder / "idle-request")
    process = await asyncio.create_subprocess_exec(
        *many_descriptors(), *bench.cores.asking(),
        sys.executable, "-m", "tests.bench.serving.holder", str(port), str(HELD), request,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        await _said(process, "held")
        yield
        assert process.stdin is not None
        process.stdin.write(b"\n")
        still_open.append(await _said(process, "open"))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _said(process: asyncio.subprocess.Process, word: str) -> int:
    """The number behind *word*, which the process says next."""
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(HOLD_S):
        line = (await process.stdout.readline()).decode().split()
        if line[:1] != [word]:
            said = (await process.stderr.read()).decode(errors="replace")
            raise PeerError(f"the connections were not held: {said.strip().splitlines()[-1:]}")
    return int(line[1])
