"""``store``: moves the blobs to another store, and reads all of them to prove that they are whole."""

from typing import Any

import click

from scalemesh.amounts import size
from scalemesh.cli import chores
from scalemesh.cli.output import examples, json_option, say, show_json
from scalemesh.cli.server import client, place_options
from scalemesh.client import Client

MIGRATE = "store migrate"
VERIFY = "store verify"


@click.group()
def store() -> None:
    """Where blobs lie: move them, verify them."""


@store.command(epilog=examples("scalemesh store migrate --to s3", "scalemesh store migrate --stop"))
@click.option("--to", metavar="KIND", help="The store to move to; its settings are its table, such as [store.s3].")
@click.option("--despite-damage", is_flag=True, help="Leave damaged blobs behind. Default: they keep it from moving.")
@click.option("--stop", is_flag=True, help="Stop it; the same command with --to goes on where it was.")
@json_option
@place_options
@click.pass_context
def migrate(ctx: click.Context, /, *, to: str | None, despite_damage: bool, stop: bool, as_json: bool) -> int:
    """Move all blobs to another store, while sites are served and published.

    The daemon does it; the command shows how far it is, and may be left and run again. Without --to it shows a move
    that is under way, or how the last one ended. The old store is left as it is. Exit code 1: it did not move, or
    damaged blobs stayed behind; 5: it was stopped.
    """
    talk = client(ctx)
    if stop:
        stopped = chores.stop(talk, MIGRATE, "migrate")
        say("stopped; `scalemesh store migrate --to KIND` goes on where it was")
        return _shown(stopped, as_json=as_json)
    if to is not None:
        begun = talk.post("/api/v1/chores", {"kind": "migrate", "to": to, "despite_damage": despite_damage})
    else:
        begun = _known(talk, "migrate", "name the store to move to: --to KIND")
    chore = chores.watch(talk, begun, MIGRATE)
    if as_json:
        show_json(chore)
    elif chore["result"]:
        _tell_move(chore["result"])
    return chores.exit_code(chore)


@store.command(epilog=examples("scalemesh store verify", "scalemesh store verify --json | jq .result.missing"))
@click.option("--mend", is_flag=True, help="Put damaged and missing blobs back from the local cache, or remove them.")
@click.option("--stop", is_flag=True, help="Stop it.")
@json_option
@place_options
@click.pass_context
def verify(ctx: click.Context, /, *, mend: bool, stop: bool, as_json: bool) -> int:
    """Read every blob of the store, and tell what is damaged, what is missing, and what nobody knows.

    The daemon does it, behind visits and builds; the command may be left and run again. Exit code 1: something is
    damaged or missing; 5: it was stopped.
    """
    talk = client(ctx)
    if stop:
        stopped = chores.stop(talk, VERIFY, "verify")
        say("stopped")
        return _shown(stopped, as_json=as_json)
    begun = talk.post("/api/v1/chores", {"kind": "verify", "mend": mend})
    chore = chores.watch(talk, begun, VERIFY)
    if as_json:
        show_json(chore)
    elif chore["result"]:
        _tell_found(chore["result"])
    return chores.exit_code(chore)


def _shown(stopped: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        show_json(stopped)
    return 0


def _known(talk: Client, kind: str, otherwise: str) -> dict[str, Any]:
    found = chores.current(talk)
    if found is None or found["kind"] != kind:
        raise click.UsageError(otherwise)
    return found


def _tell_move(result: dict[str, Any]) -> None:
    damaged, former, to = result["damaged"], result["from"], result["to"]
    for one in damaged["first"]:
        click.echo(f"damaged  {one['sha256']}  {size(one['size_bytes'])}")
    if not result["is_moved"]:
        say(f"{damaged['count']} blobs are damaged in {former}: nothing has moved")
        say("  fix: `scalemesh store verify` tells who needs them, and --mend takes them away; then run this again,")
        say("       or leave them behind by --despite-damage")
        return
    click.echo(f"moved  {result['blobs']} blobs, {size(result['size_bytes'])}, from {former} to {to}")
    say(f'  next: set store.kind = "{to}" in the config')
    say(f"  {former} is left as it is. Once `scalemesh store verify` finds all well and no build from before goes on,")
    say("  its blobs may be removed by hand: see docs/stores.md")


def _tell_found(result: dict[str, Any]) -> None:
    for sort in ("damaged", "missing"):
        for one in result[sort]["first"]:
            holders = ", ".join(held["deployment"] or held["project"] for held in one["held_by"])
            back = "  (put back from the local cache)" if one.get("restored") else ""
            click.echo(f"{sort:<7}  {one['sha256']}  {holders}".rstrip() + back)
    for one in result["unknown"]["first"]:
        click.echo(f"unknown  {one['sha256']}  {size(one['size_bytes'])}")
    counts = ", ".join(f"{result[sort]['count']} {sort}" for sort in ("damaged", "missing", "unknown"))
    restored = f"; {result['restored']} put back" if result["restored"] else ""
    click.echo(f"{result['blobs']} blobs, {size(result['size_bytes'])} in {result['store']}: {counts}{restored}")
    if result["well"]:
        return
    if not result["is_mended"]:
        say("  fix: `scalemesh store verify --mend` puts back what the local cache has, and takes away what else is")
        say("       damaged; deploy those projects again then:")
    else:
        say("  what else was damaged is taken away; deploy those projects again:")
    found = [*result["damaged"]["first"], *result["missing"]["first"]]
    for project in sorted({held["project"] for one in found if not one.get("restored") for held in one["held_by"]}):
        say(f"       {project}")
