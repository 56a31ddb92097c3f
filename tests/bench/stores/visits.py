"""Visits with a bucket as the store, beside the same daemon with the disk: what is cached, and what is cold."""

import asyncio
import hashlib
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp

from tests.bench.measure import Figure
from tests.bench.serving import asked, sites
from tests.bench.serving.asked import Ask
from tests.bench.serving.bench import Bench, Target, rate_figure, ratio_figure, take_turns
from tests.bench.serving.cores import Cores
from tests.bench.serving.load import visit, write_plan
from tests.bench.serving.ours import our_daemon, publish, served_by
from tests.bench.serving.peers import programs
from tests.bench.stores.bucket import tables
from tests.rigs import s3_servers
from tests.rigs.s3_relay import Relay
from tests.whole.daemon import RunningDaemon

SITES: Final = 10
SECONDS: Final = 3
VISITORS: Final = 1000
NEAR: Final = 0.95
FILM: Final = random.Random(0).randbytes(1 << 20)
FILM_DIGEST: Final = hashlib.sha256(FILM).hexdigest()
ROWS: Final = {"page": asked.PAGE, "asset": asked.ASSET, "film": asked.FILM}


async def cached(folder: Path, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """The rates of cached visits, in turns.

    Raises:
        PeerError: wrk cannot be had, or there is one core alone.
    """
    bench = Bench(programs=programs(say), cores=Cores.settle(), rounds=rounds, seconds=SECONDS, folder=folder, say=say)
    async with AsyncExitStack() as opened:
        server = s3_servers.fresh("weed")
        opened.callback(server.end)
        settings = {"disk": "", "bucket": tables(server.url)}
        daemons = {
            name: await opened.enter_async_context(our_daemon(bench, folder / name, settings=more))
            for name, more in settings.items()
        }
        for daemon in daemons.values():
            await publish(daemon, {sites.project(number): partial(sites.site, number) for number in range(SITES)})
        figures = []
        for row, ask in ROWS.items():
            targets = {name: await _target(bench, row, name, ask, daemon) for name, daemon in daemons.items()}
            rates = await take_turns(bench, row, targets)
            figures += [rate_figure("stores", f"{row}: {name}", found) for name, found in rates.items()]
            figures.append(
                ratio_figure("stores", f"{row}: bucket / disk", rates["bucket"], rates["disk"], at_least=NEAR)
            )
    return figures


async def _target(bench: Bench, row: str, name: str, ask: Ask, daemon: RunningDaemon) -> Target:
    work = asked.evenly(ask, [sites.host(number) for number in range(SITES)])
    for number, host in enumerate(work.hosts):
        fault = (await visit(daemon.port, ask.request(host))).fault(ask, sites.site(number)[ask.file or ""])
        assert fault is None, (row, name, host, fault)
    plan = bench.folder / "plans" / f"{row}-{name}"
    write_plan(plan, work)
    return Target(served=served_by(daemon), plan=plan)


async def cold(folder: Path) -> list[Figure]:
    """How often one blob is fetched that a thousand visitors ask for at once, and that is nowhere on this machine."""
    server = s3_servers.fresh("weed")
    try:
        async with Relay.open(server.url) as wire:
            daemon = RunningDaemon(folder / "cold", tables=tables(wire.url))
            daemon.home.mkdir(parents=True)
            try:
                await daemon.start()
                await daemon.until(await daemon.upload("cold", "prebuilt", {"index.html": b"x", "film": FILM}), "ready")
                await daemon.stop()
                for path in (daemon.data / "cache").rglob("*"):
                    if path.name == FILM_DIGEST:
                        path.unlink()
                await daemon.start()
                wire.asked.clear()
                slowest = max(await _all_at_once(daemon.port))
                fetches = sum(request.method == "GET" and FILM_DIGEST in request.path for request in wire.asked)
                await daemon.stop()
            finally:
                daemon.kill_all()
    finally:
        server.end()
    return [
        Figure(
            bench="stores",
            name=f"fetches of one cold blob by {VISITORS} visitors",
            unit="",
            values=[fetches],
            at_most=1,
        ),
        Figure(bench="stores", name="the slowest of them (1 MiB each)", unit="s", values=[slowest]),
    ]


async def _all_at_once(port: int) -> list[float]:
    """Seconds until each has its answer, all of it."""
    loop = asyncio.get_running_loop()

    async def one(session: aiohttp.ClientSession) -> float:
        began = loop.time()
        async with session.get(f"http://127.0.0.1:{port}/film", headers={"Host": "cold.localhost"}) as answer:
            assert answer.status == 200
            assert hashlib.sha256(await answer.read()).hexdigest() == FILM_DIGEST
        return loop.time() - began

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=VISITORS)) as session:
        return await asyncio.gather(*(one(session) for _ in range(VISITORS)))
