"""``status`` and ``welcome``: how the daemon is, and the way in for its owner."""

import click

from scalemesh.cli.output import FAILED, facts, json_option, show_json
from scalemesh.cli.server import client, place_options


@click.command()
@json_option
@place_options
@click.pass_context
def status(ctx: click.Context, /, *, as_json: bool) -> int:
    """Show the daemon's health, queue and deployments.

    Exit code 1: something is not well.
    """
    found = client(ctx).get("/api/v1/status")
    is_well = all(check["ok"] for check in found["checks"])
    if as_json:
        show_json(found)
        return 0 if is_well else FAILED
    facts([("version", found["version"]), *((state, count) for state, count in found["deployments"].items() if count)])
    for one in found["executors"]:
        click.echo(f"{one['kind']}: builds {one['building']} of {one['parallel']} at once, {one['queued']} waiting")
    for check in found["checks"]:
        click.echo(f"{'ok' if check['ok'] else 'FAILED':<6}  {check['part']}: {check['what']}")
        if not check["ok"] and check["fix"]:
            click.echo(f"        fix: {check['fix']}")
    return 0 if is_well else FAILED


@click.command()
@place_options
@click.pass_context
def welcome(ctx: click.Context, /) -> None:
    """Print a fresh one-time sign-in link for the owner.

    Only on the daemon's machine; earlier links end.
    """
    click.echo(client(ctx).post("/api/v1/welcome")["url"])
