"""``logs``: a deployment's log, from its first line to its last or as it comes."""

import json
import sys
from collections.abc import Iterator
from typing import Any, Final

import click

from scalemesh.cli.loglines import printer
from scalemesh.cli.output import examples, json_option, say
from scalemesh.cli.server import client, place_options
from scalemesh.client import Client, part
from scalemesh.errors import NotFoundError

PAGE: Final = 1000


@click.command(epilog=examples("scalemesh logs -f their-site", "scalemesh logs dpl_… --search error"))
@click.argument("which", metavar="DEPLOYMENT|PROJECT")
@click.option("-f", "--follow", is_flag=True, help="Go on until the deployment's end. Default: stop at what is there.")
@click.option("--after", default=0, metavar="N", help="Only lines numbered above N. Default: 0, all.")
@click.option("--search", metavar="TEXT", help="Only lines that contain TEXT, whatever its letter case; the first 100.")
@json_option
@place_options
@click.pass_context
def logs(ctx: click.Context, /, *, which: str, follow: bool, after: int, search: str | None, as_json: bool) -> None:
    """Print a log: a deployment's, or that of a project's newest.

    With --json each line is an object: {"number", "at", "step", "stream", "text"}.
    """
    if follow and search is not None:
        raise click.UsageError("--search looks at what is there; leave --follow out")
    talk = client(ctx)
    deployment, lines = newest(talk, which), printer(sys.stdout)
    if follow:
        rows = talk.follow(deployment, after, on_break=lambda why: say(f"… {why}; trying again"))
    else:
        rows = _found(talk, deployment, search) if search is not None else _kept(talk, deployment, after)
    for row in rows:
        if as_json:
            click.echo(json.dumps(row))
        elif "end" not in row:
            lines.show(row)


def _kept(talk: Client, deployment: str, after: int) -> Iterator[dict[str, Any]]:
    while rows := talk.get(f"/api/v1/deployments/{part(deployment)}/logs", after=after, limit=PAGE)["lines"]:
        yield from rows
        after = rows[-1]["number"]


def _found(talk: Client, deployment: str, text: str) -> Iterator[dict[str, Any]]:
    yield from talk.get(f"/api/v1/deployments/{part(deployment)}/logs/search", q=text)["lines"]


def newest(talk: Client, which: str) -> str:
    """*which* itself if it is a deployment's id, else the newest deployment of that project."""
    if which.startswith("dpl_"):
        return which
    found = talk.get(f"/api/v1/projects/{part(which)}/deployments", limit=1)["deployments"]
    if not found:
        raise NotFoundError(f"the project {which} has no deployment yet")
    return str(found[0]["id"])
