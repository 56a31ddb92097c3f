"""``deployment``: list, show, redeploy, keep, delete; and ``promote`` and ``cancel``."""

from collections.abc import Iterator
from typing import Any, Final

import click

from scalemesh.cli.deploy import failed, follow
from scalemesh.cli.output import examples, facts, json_option, minute, say, show_json, table
from scalemesh.cli.server import client, place_options
from scalemesh.client import Client, part
from scalemesh.errors import ConflictError

PAGE: Final = 200
OPEN: Final = frozenset({"queued", "building", "publishing"})


@click.group()
def deployment() -> None:
    """Deployments: one immutable attempt each to publish one source."""


@deployment.command("list")
@click.argument("project", required=False)
@click.option("--limit", default=20, metavar="N", help="How many at most, 1 to 200. Default: 20, the newest.")
@json_option
@place_options
@click.pass_context
def list_deployments(ctx: click.Context, /, *, project: str | None, limit: int, as_json: bool) -> None:
    """List deployments, newest first; of one project, or of all."""
    path = f"/api/v1/projects/{part(project)}/deployments" if project else "/api/v1/deployments"
    found = client(ctx).get(path, limit=limit)["deployments"]
    if as_json:
        show_json(found)
        return
    table(["ID", "PROJECT", "STATE", "BRANCH", "CREATED (UTC)", ""], [_row(one) for one in found])


@deployment.command()
@click.argument("deployment_id", metavar="DEPLOYMENT")
@json_option
@place_options
@click.pass_context
def show(ctx: click.Context, /, *, deployment_id: str, as_json: bool) -> None:
    """Show a deployment."""
    found = client(ctx).get(_path(deployment_id))
    if as_json:
        show_json(found)
        return
    names = ("id", "project", "state", "reason", "message", "fix", "environment", "is_live", "kept", "url", "permalink")
    commit = found["commit"] or {}
    facts(
        [
            *((name, found[name]) for name in names),
            ("branch", found["branch"]),
            ("commit", commit.get("sha")),
            ("author", commit.get("author")),
            ("commit message", str(commit.get("message") or "").partition("\n")[0]),
            *((name, found[name]) for name in ("framework", "created_at", "started_at", "finished_at")),
        ]
    )


@deployment.command()
@click.argument("deployment_id", metavar="DEPLOYMENT")
@click.option("--no-cache", is_flag=True, help="Build without what earlier builds kept. Default: with it.")
@click.option("--wait/--no-wait", default=True, help="Wait until the site is live, showing the log. Default: wait.")
@place_options
@click.pass_context
def redeploy(ctx: click.Context, /, *, deployment_id: str, no_cache: bool, wait: bool) -> int:
    """Build the same commit once more, with today's settings and variables; prints the URL."""
    talk = client(ctx)
    again = talk.post(f"{_path(deployment_id)}/redeploy", {"no_cache": True} if no_cache else {})
    say(f"Deploying again as {again['id']}")
    end = follow(talk, again["id"]) if wait else again
    if wait and end["state"] != "ready":
        return failed(again["id"], end)
    click.echo(end["url"])
    return 0


@deployment.command(epilog=examples("scalemesh deployment keep dpl_4ps6wkxeligsuqlitszi"))
@click.argument("deployment_id", metavar="DEPLOYMENT")
@click.option("--undo", is_flag=True, help="Leave it to the rules of retention again.")
@place_options
@click.pass_context
def keep(ctx: click.Context, /, *, deployment_id: str, undo: bool) -> None:
    """Keep a deployment for ever, whatever the rules of retention say."""
    client(ctx).post(f"{_path(deployment_id)}/keep", {"kept": not undo})
    say(f"{deployment_id} {'is left to the rules of retention' if undo else 'is kept until you delete it'}")


@deployment.command()
@click.argument("deployment_id", metavar="DEPLOYMENT")
@place_options
@click.pass_context
def delete(ctx: click.Context, /, *, deployment_id: str) -> None:
    """Delete a deployment that has ended and is not live, with its log."""
    client(ctx).delete(_path(deployment_id))
    say(f"{deployment_id} is deleted")


@click.command()
@click.argument("deployment_id", metavar="DEPLOYMENT")
@place_options
@click.pass_context
def promote(ctx: click.Context, /, *, deployment_id: str) -> None:
    """Make a deployment the production one, at once.

    Nothing is built. Prints the URL.
    """
    click.echo(client(ctx).post(f"{_path(deployment_id)}/promote")["url"])


@click.command()
@click.argument("deployment_id", metavar="DEPLOYMENT", required=False)
@click.option("--all", "all_open", is_flag=True, help="Cancel all that wait or run, of every project.")
@place_options
@click.pass_context
def cancel(ctx: click.Context, /, *, deployment_id: str | None, all_open: bool) -> None:
    """Cancel a deployment that is queued or building.

    Its processes, and no others, end within two seconds.
    """
    if all_open == (deployment_id is not None):
        raise click.UsageError("name one deployment, or say --all")
    talk = client(ctx)
    wanted = [deployment_id] if deployment_id else [one["id"] for one in _unfinished(talk)]
    for one in wanted:
        try:
            talk.post(f"{_path(one)}/cancel")
        except ConflictError:
            if not all_open:
                raise
            continue  # it came to its end meanwhile
        say(f"{one} is canceled")


def _unfinished(talk: Client) -> Iterator[dict[str, Any]]:
    query: dict[str, object] = {"limit": PAGE}
    while True:
        page = talk.get("/api/v1/deployments", **query)
        yield from (one for one in page["deployments"] if one["state"] in OPEN)
        if page["next"] is None:
            return
        query["before"] = page["next"]


def _row(one: dict[str, Any]) -> list[object]:
    state = "live" if one["is_live"] else one["state"]
    kept = "kept" if one["kept"] else ""
    return [one["id"], one["project"], state, one["branch"], minute(one["created_at"]), kept]


def _path(deployment_id: str) -> str:
    return f"/api/v1/deployments/{part(deployment_id)}"
