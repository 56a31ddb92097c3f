"""What every row of the bench needs."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.bench.measure import Figure
from tests.bench.serving.cores import Cores
from tests.bench.serving.load import Rate, run
from tests.bench.serving.peers import Programs
from tests.bench.serving.processes import cpu_s

WARM_S: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """How often and how long, where, and with what."""

    programs: Programs
    cores: Cores
    rounds: int
    seconds: int  #: of one contender in one round
    folder: Path  #: for whatever is written; deleted at the end
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that runs: where it answers, and its first process."""

    port: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who is asked, and what: a plan that ``load.write_plan`` has written."""

    served: Served
    plan: Path


async def under_load(bench: Bench, target: Target, seconds: int) -> Rate:
    """What wrk sees of *target* in so many *seconds*, and what that costs the server."""
    before = cpu_s(target.served.pid)
    rate = await run(bench.programs, bench.cores, target.served.port, target.plan, seconds)
    spent_us = (cpu_s(target.served.pid) - before) * 1e6
    return replace(rate, cpu_us=spent_us / max(rate.per_s * seconds, 1.0))


async def take_turns(bench: Bench, row: str, targets: Mapping[str, Target]) -> dict[str, list[Rate]]:
    """Each of *targets* under load, once a round, each round begun by another one; name -> one rate a round."""
    rates: dict[str, list[Rate]] = {name: [] for name in targets}
    for target in targets.values():
        await under_load(bench, target, WARM_S)
    for number in range(bench.rounds):
        names = list(targets)
        first = number % len(names)
        for name in names[first:] + names[:first]:
            rates[name].append(await under_load(bench, targets[name], bench.seconds))
        told = ", ".join(f"{name} {found[-1].per_s:,.0f}/s" for name, found in rates.items())
        bench.say(f"{row} round {number + 1}: {told}")
    return rates


def rate_figure(row: str, name: str, rates: list[Rate]) -> Figure:
    """Requests a second, with what else wrk saw as a note."""
    last, failed = rates[-1], sum(rate.failed for rate in rates)
    cpu_us = statistics.median(rate.cpu_us for rate in rates)
    note = f"{cpu_us:.1f} µs of CPU an answer, {last.answer_bytes:,.0f} bytes, p99 {last.p99_ms:.1f} ms"
    note += f", {failed} FAILED" if failed else ""
    return Figure(bench=row, name=name, unit="/s", values=[rate.per_s for rate in rates], note=note)


def ratio_figure(row: str, name: str, ours: list[Rate], theirs: list[Rate], *, at_least: float | None = None) -> Figure:
    """How *ours* stands to *theirs*, round by round."""
    values = [our.per_s / max(their.per_s, 1e-9) for our, their in zip(ours, theirs, strict=True)]
    return Figure(bench=row, name=name, unit="x", values=values, at_least=at_least)


def not_measured(row: str, name: str, why: str) -> Figure:
    """A figure that there is none of."""
    return Figure(bench=row, name=name, unit="/s", values=[], note=why)
