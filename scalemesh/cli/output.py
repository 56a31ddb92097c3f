"""What people and programs get to see: answers on standard output, talk and errors on standard error."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, Final, TypeVar

import click

from scalemesh.errors import (
    ForbiddenError,
    NotFoundError,
    ScaleMeshError,
    UnauthorizedError,
    UnreachableError,
)

F = TypeVar("F", bound=Callable[..., Any])

FAILED: Final = 1
UNREACHABLE: Final = 3
NOT_ALLOWED: Final = 4
STATE_COLOURS: Final = {
    "live": "bold green",
    "ready": "green",
    "failed": "red",
    "building": "cyan",
    "publishing": "cyan",
    "queued": "yellow",
}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def examples(*commands: str) -> str:
    """The end of a verb's help: how it is used."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)


def say(text: str) -> None:
    """Talk: on standard error, so that it never mixes with the answer."""
    click.echo(text, err=True)


def show_json(data: object) -> None:
    click.echo(json.dumps(data, indent=2))


def fail(error: ScaleMeshError) -> int:
    """Print what, why and how to fix it; return the exit code."""
    head = click.style("error:", fg="red", bold=True) if is_colourful(sys.stderr) else "error:"
    say(f"{head} {error.what}")
    for name, text in (("why", error.why), ("fix", error.fix)):
        if text:
            say(f"  {name}: {text}")
    if isinstance(error, UnreachableError):
        return UNREACHABLE
    return NOT_ALLOWED if isinstance(error, UnauthorizedError | ForbiddenError | NotFoundError) else FAILED


def is_colourful(stream: IO[str]) -> bool:
    """A terminal whose owner did not say no (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    colours: Mapping[str, str] = STATE_COLOURS,
    folding: str = "",
) -> None:
    """Rows under heads: drawn on a terminal, plain columns for a pipe. Nothing at all where there are no rows.

    *colours* are styles of cells that hold just that word. *folding* is the head of the one column that may be folded
    where the terminal is narrow; empty: all but the first.
    """
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not texts:
        say("nothing to show")
    elif is_colourful(sys.stdout):
        _drawn(heads, texts, colours, folding)
    else:
        widths = [max(len(row[column]) for row in texts) for column in range(len(heads))]
        for row in texts:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo(line.rstrip())


def _drawn(heads: Sequence[str], rows: Sequence[Sequence[str]], colours: Mapping[str, str], folding: str) -> None:
    from rich.console import Console  # noqa: PLC0415 -- rich takes longer to import than all the rest
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for column, head in enumerate(heads):
        is_whole = head != folding if folding else column == 0  # else an id or a name, to be copied
        drawn.add_column(head, overflow="fold", no_wrap=is_whole)
    for row in rows:
        drawn.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in row))
    Console().print(drawn)


def minute(at: str) -> str:
    """A time of the API, for a table: date, hour and minute."""
    return at[:16].replace("T", " ")


def facts(pairs: Sequence[tuple[str, object]]) -> None:
    """Name and value, a line each; those without a value are left out."""
    shown = [(name, str(value)) for name, value in pairs if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        label = name.ljust(width)
        click.echo(f"{click.style(label, dim=True) if is_colourful(sys.stdout) else label}  {value}")
