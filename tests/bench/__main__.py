"""Measures the figures that the product promises: ``python -m tests.bench [name…] [--rounds N] [--json]``.

How sites are served is measured by a command of its own, ``python -m tests.bench serving``, with its own rows.
Exit code 1: a peer (npm by hand) does not run here, so there is nothing to compare with.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench import added, crowd, executors, report, resting, stores
from tests.bench.measure import Outcome, PeerError, load_average, machine
from tests.bench.serving import __main__ as serving

NAMES: Final = ("hello", "handbook", "rest", "crowd", "executors", "stores")
ROUNDS: Final = 5
SERVING: Final = "serving"


def main(arguments: Sequence[str]) -> int:
    """Measure what is named (all, if nothing is), show it, return the exit code."""
    if arguments[:1] == [SERVING]:
        return serving.main(arguments[1:])
    wanted = _parsed(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # the daemon that was started is stopped either way
    before, outcomes = load_average(), {}
    for name in dict.fromkeys(wanted.names or NAMES):
        try:
            outcomes[name] = _measured(name, wanted.rounds)
        except PeerError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    load = before, load_average()
    if wanted.json:
        print(report.as_json(machine(), load, outcomes))
    else:
        report.show(machine(), load, outcomes)
    return 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}; or {SERVING} and its own rows"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each is measured (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    wanted = parser.parse_args(arguments)
    if unknown := set(wanted.names).difference(NAMES):
        parser.error(f"there is no bench {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return wanted


def _measured(name: str, rounds: int) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="scalemesh-bench-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        folder.chmod(0o755)  # builds may run as another user, and git must reach the repositories
        if name == "rest":
            return asyncio.run(resting.measure(folder, rounds, _say))
        if name == "executors":
            return asyncio.run(executors.measure(folder, rounds, _say))
        if name == "stores":
            return asyncio.run(stores.measure(folder, rounds, _say))
        if name == "crowd":
            return asyncio.run(crowd.measure(folder, _say))
        site = added.HELLO if name == "hello" else added.HANDBOOK
        return asyncio.run(added.measure(site, folder, rounds, _say))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
