"""A hundred thousand hosts: does their number cost speed, and what memory does each of them hold?

One site is published as any other. Its rows and its manifest are then multiplied where they lie, with ids, names and
digests of their own: a hundred thousand uploads would take hours. The bodies of the pages are shared.
"""

import hashlib
import os
import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench.measure import Figure
from tests.bench.serving import sites
from tests.bench.serving.asked import PAGE, Ask, Work, by_zipf, spread
from tests.bench.serving.bench import Bench, Served, Target, rate_figure, ratio_figure, take_turns, under_load
from tests.bench.serving.load import visit, write_plan
from tests.bench.serving.ours import our_daemon, publish, served_by
from tests.bench.serving.processes import resident_kib

ROW: Final = "many_hosts"
#: What an operator of so many sites would give them, below 512 MiB in all.
SETTINGS: Final = "[serving]\ncache_mib = 160\nmanifest_cache_mib = 128"
MANY: Final = 100_000
FEW: Final = 200
PAGES: Final = 10  #: of each site: a million entries in all
VISITS: Final = 1_000_003
WARM_S: Final = 5
TO_REACH: Final = 0.8
MOST_MIB: Final = 512.0
TEMPLATE: Final = "pattern-zz"  #: ends in two letters: no other name or id contains it
TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"

Row = tuple[Any, ...]


async def measure(bench: Bench) -> list[Figure]:
    """The rate with many hosts beside that with few, and the memory of both."""
    works = {
        "few": spread(_asks(), [_host(number) for number in range(FEW)], VISITS),
        "many": by_zipf(_asks(), _shuffled([_host(number) for number in range(MANY)]), VISITS),
    }
    homes = {name: bench.folder / f"{name}-hosts" for name in works}
    for name, home in homes.items():
        await _prepare(bench, home, len(works[name].hosts))
    began = time.monotonic()
    async with (
        our_daemon(bench, homes["many"], settings=SETTINGS) as many,
        our_daemon(bench, homes["few"], settings=SETTINGS) as few,
    ):
        started_s = time.monotonic() - began
        servers = {"few": served_by(few), "many": served_by(many)}
        targets = {name: await _target(bench, name, servers[name], work) for name, work in works.items()}
        await under_load(bench, targets["many"], WARM_S)
        rates = await take_turns(bench, ROW, targets)
        resident = {name: resident_kib(served.pid) for name, served in servers.items()}
    each = (resident["many"] - resident["few"]) / (MANY - FEW)
    return [
        rate_figure(ROW, f"{FEW} hosts, evenly", rates["few"]),
        rate_figure(ROW, f"{MANY:,} hosts, by Zipf", rates["many"]),
        ratio_figure(ROW, "many / few", rates["many"], rates["few"], at_least=TO_REACH),
        Figure(bench=ROW, name=f"resident, {FEW} hosts", unit="MiB", values=[resident["few"] / 1024]),
        Figure(
            bench=ROW, name=f"resident, {MANY:,} hosts", unit="MiB", values=[resident["many"] / 1024], at_most=MOST_MIB
        ),
        Figure(bench=ROW, name="memory a site", unit="KiB", values=[each], note="one host to visit, one permalink"),
        Figure(bench=ROW, name="start of both daemons", unit="s", values=[started_s]),
    ]


def _asks() -> list[Ask]:
    return [PAGE, *(Ask(path=f"/page-{number}.html") for number in range(1, PAGES))]


def _host(number: int) -> str:
    return f"{_name(number)}.{sites.BASE}"


def _name(number: int) -> str:
    return f"m{number}-site"


def _shuffled(hosts: Sequence[str]) -> list[str]:
    """Those that are visited most do not lie side by side."""
    return random.Random(MANY).sample(hosts, len(hosts))


async def _target(bench: Bench, name: str, served: Served, work: Work) -> Target:
    for host in (work.hosts[0], work.hosts[-1]):
        for ask in work.asks:
            answer = await visit(served.port, ask.request(host))
            assert answer.fault(ask, None) is None, (host, ask.path, answer)
    plan = bench.folder / "plans" / f"hosts-{name}"
    write_plan(plan, work)
    return Target(served=served, plan=plan)


async def _prepare(bench: Bench, home: Path, count: int) -> None:
    began = time.monotonic()
    drawn = random.Random(PAGES)
    files = {sites.PAGE: sites.page("Page 0", drawn)}
    files |= {f"page-{number}.html": sites.page(f"Page {number}", drawn) for number in range(1, PAGES)}
    async with our_daemon(bench, home) as daemon:
        deployment = (await publish(daemon, {TEMPLATE: lambda: files}))[TEMPLATE]
    multiply(home / "data", deployment, count)
    bench.say(f"{count:,} sites of {PAGES} pages laid out in {time.monotonic() - began:.1f} s")


def multiply(data: Path, deployment: str, count: int) -> None:
    """Make *count* sites of the one that is *deployment*, in the folder *data* of a daemon that does not run."""
    database = sqlite3.connect(data / "scalemesh.db")
    try:
        manifest, project, last = database.execute(
            "SELECT manifest, project_id, sequence FROM deployment WHERE id = ?", (deployment,)
        ).fetchone()
        store = data / "store" / "blobs"
        pattern = (store / manifest[:2] / manifest).read_bytes()
        copies = [_Copy(number, pattern, deployment, manifest, project, last) for number in range(count)]
        for copy in copies:
            copy.keep(store)
        database.execute("BEGIN")
        database.execute("PRAGMA defer_foreign_keys = ON")
        for (table,) in database.execute(TABLES).fetchall():
            _multiply_rows(database, table, copies)
        database.execute("COMMIT")
    finally:
        database.close()


class _Copy:
    """One copy of the pattern: what each of its words becomes."""

    def __init__(
        self, number: int, pattern: bytes, deployment: str, manifest: str, project: str, sequence: int
    ) -> None:
        tail = _letters(number)
        own = deployment[: -len(tail)] + tail
        self.content = pattern.replace(deployment.encode(), own.encode())
        self.digest = hashlib.sha256(self.content).hexdigest()
        self.sequence, self.pattern_sequence = sequence + 1 + number, sequence
        self.words = {
            f"{TEMPLATE}-{deployment[-6:]}": f"{_name(number)}-{own[-6:]}",
            TEMPLATE: _name(number),
            deployment: own,
            project: project[: -len(tail)] + tail,
            manifest: self.digest,
        }

    def keep(self, store: Path) -> None:
        """Put the manifest where the store has it; not synced, since nobody needs it after this run."""
        folder = store / self.digest[:2]
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder / self.digest, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(descriptor, self.content)
        os.close(descriptor)

    def row(self, names: Sequence[str], row: Row) -> Row:
        """*row* of the pattern as this copy's; sequence and place in the queue count on."""
        return tuple(self._value(name, value) for name, value in zip(names, row, strict=True))

    def _value(self, name: str, value: Any) -> Any:
        if name in ("sequence", "place") and value == self.pattern_sequence:
            return self.sequence
        if isinstance(value, str):
            for word, own in self.words.items():
                value = value.replace(word, own)
        return value


def _multiply_rows(database: sqlite3.Connection, table: str, copies: Sequence[_Copy]) -> None:
    """Copy those rows of *table* that name the pattern, whatever their columns are."""
    cursor = database.execute(f'SELECT * FROM "{table}"')
    names = [column[0] for column in cursor.description]
    words = copies[0].words
    rows = [row for row in cursor if any(isinstance(value, str) and _has(value, words) for value in row)]
    made: Iterator[Row] = (copy.row(names, row) for copy in copies for row in rows)
    database.executemany(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(names))})', made)


def _has(value: str, words: Any) -> bool:
    return any(word in value for word in words)


def _letters(number: int) -> str:
    """*number* in six of the letters that ids are made of; other numbers have others."""
    alphabet, text = "abcdefghijklmnopqrstuvwxyz234567", ""
    for _ in range(6):
        number, digit = divmod(number, len(alphabet))
        text = alphabet[digit] + text
    return text
