"""One kind of request at a time (and the mixed ones): us, nginx, Caddy, and for pages the bare loop."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.measure import Figure, PeerError
from tests.bench.serving import asked, contenders, sites
from tests.bench.serving.asked import Ask, Work
from tests.bench.serving.bench import Bench, Served, Target, not_measured, rate_figure, ratio_figure, take_turns
from tests.bench.serving.load import Answered, visit, write_plan
from tests.bench.serving.ours import our_daemon, publish, served_by
from tests.whole.daemon import RunningDaemon

OURS: Final = "ours"
LOOP: Final = "C loop"
ENCODED_S: Final = 10.0  #: how long variants may take to appear, since the last one did


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is asked, and what our rate must be of each contender's; None: it is shown beside."""

    work: Callable[[Sequence[str]], Work]
    to_reach: Mapping[str, float | None]


def _row(ask: Ask, nginx: float, caddy: float | None = None, loop: float | None = None) -> Row:
    to_reach: dict[str, float | None] = {"nginx": nginx, "Caddy": caddy}
    return Row(work=partial(asked.evenly, ask), to_reach=to_reach if loop is None else {**to_reach, LOOP: loop})


ROWS: Final[Mapping[str, Row]] = {
    "page": _row(asked.PAGE, nginx=1.25, caddy=7.0, loop=0.85),
    "asset": _row(asked.ASSET, nginx=1.05),
    "file": _row(asked.FILM, nginx=1.2),
    "not_modified": _row(asked.NOT_MODIFIED, nginx=1.2),
    "br": _row(asked.STYLE, nginx=1.2),
    "not_found": _row(asked.NOT_FOUND, nginx=1.2),
    "redirect": _row(asked.REDIRECT, nginx=1.2),
    "mixed": Row(work=asked.mixed, to_reach={"nginx": 1.0, "Caddy": None}),
}


async def prepare(bench: Bench) -> Path:
    """The home of a daemon that serves all sites; made once."""
    home = bench.folder / "ours"
    if home.exists():
        return home
    began = time.monotonic()
    async with our_daemon(bench, home) as daemon:
        await publish(daemon, {sites.project(number): partial(sites.site, number) for number in range(sites.HOSTS)})
        await _until_encoded(bench, daemon)
    bench.say(f"{sites.HOSTS} sites published in {time.monotonic() - began:.1f} s")
    return home


async def measure(bench: Bench, names: Sequence[str]) -> dict[str, list[Figure]]:
    """The rows of these *names*, one after the other, in one run of all contenders."""
    home = await prepare(bench)
    hosts = [sites.host(number) for number in range(sites.HOSTS)]
    async with _all_serving(bench, home, hosts) as servers:
        return {name: await _measured(bench, name, ROWS[name], servers, hosts) for name in names}


@asynccontextmanager
async def _all_serving(bench: Bench, home: Path, hosts: Sequence[str]) -> AsyncIterator[dict[str, Served]]:
    folder = bench.folder / "sites"
    sites.write(folder, sites.HOSTS)
    async with AsyncExitStack() as opened:
        daemon = await opened.enter_async_context(our_daemon(bench, home))
        answers = {f"{host} /": (await visit(daemon.port, asked.PAGE.request(host))).raw for host in hosts}
        yield {
            OURS: served_by(daemon),
            "nginx": await opened.enter_async_context(contenders.nginx(bench, folder)),
            "Caddy": await opened.enter_async_context(contenders.caddy(bench, folder)),
            LOOP: await opened.enter_async_context(contenders.loop(bench, answers)),
        }


async def _measured(
    bench: Bench, name: str, row: Row, servers: Mapping[str, Served], hosts: Sequence[str]
) -> list[Figure]:
    targets, figures = {}, []
    for contender in (OURS, *row.to_reach):
        work = await _tagged(row.work(hosts), servers[contender].port)
        if fault := await _fault(work, servers[contender].port):
            figures.append(not_measured(name, contender, f"not answered as asked: {fault}"))
            continue
        plan = bench.folder / "plans" / f"{name}-{contender.replace(' ', '-')}"
        write_plan(plan, work)
        targets[contender] = Target(served=servers[contender], plan=plan)
    rates = await take_turns(bench, name, targets) if OURS in targets else {}
    figures += [rate_figure(name, contender, found) for contender, found in rates.items()]
    for contender, at_least in row.to_reach.items():
        if contender in rates:
            figures.append(
                ratio_figure(name, f"{OURS} / {contender}", rates[OURS], rates[contender], at_least=at_least)
            )
    return figures


async def _tagged(work: Work, port: int) -> Work:
    """*work* with the tags that its requests carry, as this contender gives them."""
    if not any(ask.with_tag for ask in work.asks):
        return work
    answers = {host: await visit(port, asked.PAGE.request(host)) for host in work.hosts}
    tags = {host: answer.headers.get("etag", '"none"') for host, answer in answers.items()}
    return Work(asks=work.asks, hosts=work.hosts, draws=work.draws, tags=tags)


async def _fault(work: Work, port: int) -> str | None:
    """What the first wrong answer of all hosts is wrong in."""
    for number, host in enumerate(work.hosts):
        files = sites.site(number)
        for ask in work.asks:
            try:
                answer = await visit(port, ask.request(host, work.tags.get(host)))
            except PeerError as error:
                return str(error)
            if fault := answer.fault(ask, files[ask.file] if ask.file else None):
                return f"{ask.method} {ask.path}: {fault}"
    return None


async def _until_encoded(bench: Bench, daemon: RunningDaemon) -> None:
    """Wait until every site's style sheet has its variant, or until no more appear."""
    waiting = [sites.host(number) for number in range(sites.HOSTS)]
    deadline = time.monotonic() + ENCODED_S
    while waiting:
        found = {host: await visit(daemon.port, asked.STYLE.request(host)) for host in waiting}
        still = [host for host, answer in found.items() if not _is_encoded(answer)]
        if len(still) < len(waiting):
            deadline = time.monotonic() + ENCODED_S
        waiting = still
        if time.monotonic() > deadline:
            bench.say(f"{len(waiting)} of {sites.HOSTS} style sheets are not encoded yet")
            return
        await asyncio.sleep(0.5)


def _is_encoded(answer: Answered) -> bool:
    return "content-encoding" in answer.headers
