"""Measures how sites are served: ``python -m tests.bench.serving [row…] [--rounds N] [--seconds S] [--json]``.

nginx, Caddy and a bare epoll loop in C serve the same sites in the same run, in turns, on one core; wrk asks from
another one. Exit code 1: something that we are compared with cannot be had or does not run here; 130: interrupted.
"""

import argparse
import asyncio
import shlex
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench import report
from tests.bench.measure import Figure, Outcome, PeerError, load_average, machine
from tests.bench.serving import floor, idle, many_hosts, plain, promotion, workers
from tests.bench.serving.bench import Bench
from tests.bench.serving.cores import Cores
from tests.bench.serving.peers import Programs, programs

OTHERS: Final[Mapping[str, Callable[[Bench], Awaitable[list[Figure]]]]] = {
    floor.ROW: floor.measure,
    many_hosts.ROW: many_hosts.measure,
    idle.ROW: idle.measure,
    promotion.ROW: promotion.measure,
    workers.ROW: workers.measure,
}
ROWS: Final = (*plain.ROWS, *OTHERS)
UNUSED: Final = frozenset({"node", "npm", "bubblewrap"})


def main(arguments: Sequence[str]) -> int:
    """Measure the rows that are named (all, if none is), show them, return the exit code."""
    wanted = _parsed(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # whatever was started is stopped either way
    before = load_average()
    try:
        found, figures = _measured(wanted)
    except PeerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    load = before, load_average()
    facts = _machine(found, arguments)
    outcomes = {name: Outcome(figures=each) for name, each in figures.items()}
    if wanted.json:
        print(report.as_json(facts, load, outcomes))
    else:
        report.show(facts, load, outcomes)
    return 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=3, help="of each in each round (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    wanted = parser.parse_args(arguments)
    if unknown := set(wanted.rows).difference(ROWS):
        parser.error(f"there is no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    if wanted.rounds < 1 or wanted.seconds < 1:
        parser.error("--rounds and --seconds are at least 1")
    return wanted


def _measured(wanted: argparse.Namespace) -> tuple[Programs, dict[str, list[Figure]]]:
    found, cores = programs(_say), Cores.settle()
    with tempfile.TemporaryDirectory(prefix="scalemesh-serving-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        folder.chmod(0o755)
        bench = Bench(
            programs=found, cores=cores, rounds=wanted.rounds, seconds=wanted.seconds, folder=folder, say=_say
        )
        return found, asyncio.run(_rows(bench, wanted.rows or ROWS))


async def _rows(bench: Bench, names: Sequence[str]) -> dict[str, list[Figure]]:
    figures: dict[str, list[Figure]] = {}
    if together := [name for name in plain.ROWS if name in names]:
        figures |= await plain.measure(bench, together)
    for name, measure in OTHERS.items():
        if name in names:
            figures[name] = await measure(bench)
    return figures


def _machine(found: Programs, arguments: Sequence[str]) -> dict[str, Any]:
    known = {name: value for name, value in machine().items() if name not in UNUSED}
    return {**known, **found.versions(), "command": shlex.join(["python", "-m", "tests.bench.serving", *arguments])}


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
