"""Shows what was measured: tables for people, one JSON object for programs."""

import json
from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.bench.measure import Figure, Outcome

FILE_WIDTH: Final = 140
VERDICTS: Final = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}


def as_json(machine: Mapping[str, Any], load: tuple[float, float], outcomes: Mapping[str, Outcome]) -> str:
    """All of it, also the value of each round."""
    found = {
        "machine": machine,
        "load_average": {"before": load[0], "after": load[1]},
        "figures": [figure.as_json() for outcome in outcomes.values() for figure in outcome.figures],
        "phases": {name: {k: list(v) for k, v in each.phases.items()} for name, each in outcomes.items()},
    }
    return json.dumps(found, indent=2)


def show(machine: Mapping[str, Any], load: tuple[float, float], outcomes: Mapping[str, Outcome]) -> None:
    """The same for people."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=FILE_WIDTH)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)
    console.print(f"load average {load[0]:.1f} before, {load[1]:.1f} after", highlight=False)
    console.print(_figures([figure for outcome in outcomes.values() for figure in outcome.figures]))
    for name, outcome in outcomes.items():
        if outcome.phases:
            console.print(_phases(name, outcome))


def _figures(figures: list[Figure]) -> Table:
    table = Table(title="Figures: the median of the rounds")
    for head in ("bench", "figure", "median", "min to max", "aim", "", "note"):
        table.add_column(head, overflow="fold")
    for figure in figures:
        lowest, highest = min(figure.values, default=0.0), max(figure.values, default=0.0)
        spread = f"{figure.shown(lowest)} to {figure.shown(highest)}" if len(figure.values) > 1 else ""
        verdict = VERDICTS[figure.is_met]
        table.add_row(figure.bench, figure.name, figure.shown(figure.median), spread, figure.aim, verdict, figure.note)
    return table


def _phases(name: str, outcome: Outcome) -> Table:
    table = Table(title=f"{name}: where the time of one deployment goes")
    for head in ("phase", "median", "min to max"):
        table.add_column(head)
    for phase, values in outcome.phases.items():
        figure = Figure(bench=name, name=phase, unit="ms", values=[value * 1000 for value in values])
        spread = f"{figure.shown(min(figure.values))} to {figure.shown(max(figure.values))}"
        table.add_row(phase, figure.shown(figure.median), spread)
    return table
