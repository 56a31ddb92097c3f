"""``env``: environment variables of a project's builds. Values go in and never come out."""

import sys
from typing import Final

import click

from scalemesh.cli.output import examples, json_option, minute, say, show_json, table
from scalemesh.cli.server import client, place_options
from scalemesh.client import part

BOTH: Final = ("production", "preview")

environment_option = click.option(
    "--environment", type=click.Choice(BOTH), help="For production's builds or for previews'. Default: for both."
)


@click.group()
def env() -> None:
    """Environment variables of builds; write-only."""


@env.command("list")
@click.argument("project")
@json_option
@place_options
@click.pass_context
def list_variables(ctx: click.Context, /, *, project: str, as_json: bool) -> None:
    """List names; values are never shown."""
    found = client(ctx).get(f"/api/v1/projects/{part(project)}/env")["variables"]
    if as_json:
        show_json(found)
        return
    table(["NAME", "ENVIRONMENT", "CHANGED (UTC)"], [_row(one) for one in found])


@env.command("set", epilog=examples("scalemesh env set shop API_KEY < key.txt"))
@click.argument("project")
@click.argument("name")
@environment_option
@place_options
@click.pass_context
def set_variable(ctx: click.Context, /, *, project: str, name: str, environment: str | None) -> None:
    """Set a variable. Its value is asked for or read from standard input: others see command lines."""
    value = _value(name)
    body = {"value": value, "environments": [environment] if environment else list(BOTH)}
    done = client(ctx).put(f"/api/v1/projects/{part(project)}/env/{part(name)}", body)
    say(f"{name} is set for {' and '.join(done['environments'])}, for builds from now on")
    if not done["is_masked"]:
        say("note: so short a value is not masked in logs (6 characters and more are)")


@env.command("unset")
@click.argument("project")
@click.argument("name")
@environment_option
@place_options
@click.pass_context
def unset_variable(ctx: click.Context, /, *, project: str, name: str, environment: str | None) -> None:
    """Remove a variable."""
    query = {"environment": environment} if environment else {}
    client(ctx).delete(f"/api/v1/projects/{part(project)}/env/{part(name)}", **query)
    say(f"{name} is removed")


def _row(one: dict[str, str]) -> list[str]:
    return [one["name"], one["environment"], minute(one["updated_at"])]


def _value(name: str) -> str:
    """From a prompt that shows nothing, or all of standard input but its last line end."""
    if sys.stdin.isatty():
        typed: str = click.prompt(f"Value of {name}", hide_input=True, err=True, default="", show_default=False)
        return typed
    return sys.stdin.read().removesuffix("\n").removesuffix("\r")
