"""``token``: API tokens, for the command and for programs on other machines."""

import click

from scalemesh.cli.output import examples, json_option, minute, say, show_json, table
from scalemesh.cli.server import client, place_options
from scalemesh.client import part


@click.group()
def token() -> None:
    """API tokens, for programs and other machines."""


@token.command(epilog=examples("export SCALEMESH_TOKEN=$(scalemesh token create laptop)"))
@click.argument("name")
@json_option
@place_options
@click.pass_context
def create(ctx: click.Context, /, *, name: str, as_json: bool) -> None:
    """Make a token called NAME and print its secret, which is shown this once."""
    made = client(ctx).post("/api/v1/tokens", {"name": name})
    if as_json:
        show_json(made)
        return
    say(f"{made['id']}; keep the secret, it is not shown again")
    click.echo(made["secret"])


@token.command("list")
@json_option
@place_options
@click.pass_context
def list_tokens(ctx: click.Context, /, *, as_json: bool) -> None:
    """List tokens; their secrets are not kept."""
    found = client(ctx).get("/api/v1/tokens")["tokens"]
    if as_json:
        show_json(found)
        return
    table(["ID", "NAME", "CREATED (UTC)"], [[one["id"], one["name"], minute(one["created_at"])] for one in found])


@token.command()
@click.argument("token_id", metavar="ID")
@place_options
@click.pass_context
def delete(ctx: click.Context, /, *, token_id: str) -> None:
    """End a token: whoever uses it is refused from now on."""
    client(ctx).delete(f"/api/v1/tokens/{part(token_id)}")
    say(f"{token_id} is deleted")
