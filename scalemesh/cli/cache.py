"""``cache``: what the builds of a project keep for later ones."""

from typing import Final

import click

from scalemesh.cli.output import examples, json_option, minute, say, show_json, table
from scalemesh.cli.server import client, place_options
from scalemesh.cli.storage import size
from scalemesh.client import part

KINDS: Final = {"modules": "packages", "dependencies": "downloads", "framework": "build cache"}


@click.group()
def cache() -> None:
    """Caches: what the builds of a project keep for later ones."""


@cache.command("list")
@click.argument("project")
@json_option
@place_options
@click.pass_context
def list_entries(ctx: click.Context, /, *, project: str, as_json: bool) -> None:
    """List what is kept, the last used first, and what the work took that each of it spares."""
    found = client(ctx).get(_path(project))
    if as_json:
        show_json(found)
        return
    rows = [
        [KINDS[one["kind"]], one["scope"], size(one["size_bytes"]), f"{one['seconds']:.1f} s", minute(one["used_at"])]
        for one in found["entries"]
    ]
    table(["WHAT", "OF", "SIZE", "TOOK", "LAST USED (UTC)"], rows)


@cache.command(epilog=examples("scalemesh cache clear shop"))
@click.argument("project")
@place_options
@click.pass_context
def clear(ctx: click.Context, /, *, project: str) -> None:
    """Throw away all that a project's builds kept: the next build of each branch begins as the first one did."""
    found = client(ctx).delete(_path(project))
    say(f"{project}: nothing is kept now; it was {size(found['size_bytes'])}")


def _path(project: str) -> str:
    return f"/api/v1/projects/{part(project)}/cache"
