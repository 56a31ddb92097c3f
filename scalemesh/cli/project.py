"""``project``: list, show, create, change, delete; and ``rollback``."""

from typing import Any, Final

import click

from scalemesh.cli.output import examples, facts, json_option, say, show_json, table
from scalemesh.cli.server import client, place_options
from scalemesh.client import Client, part

PAGE: Final = 200
SETTINGS: Final = (
    "root_directory",
    "framework",
    "install_command",
    "build_command",
    "output_directory",
    "node_version",
    "dialect",
)


KEPT: Final = {
    "keep_production": "production",
    "keep_previews": "preview_days",
    "keep_failed": "failed_days",
    "keep_logs": "log_days",
}


@click.group()
def project() -> None:
    """Projects: a Git source and its settings."""


@project.command("list")
@json_option
@place_options
@click.pass_context
def list_projects(ctx: click.Context, /, *, as_json: bool) -> None:
    """List all projects by name."""
    found = _all(client(ctx))
    if as_json:
        show_json(found)
        return
    table(["NAME", "URL", "SOURCE"], [[one["name"], one["url"], one["git_url"] or "uploads"] for one in found])


@project.command()
@click.argument("name")
@json_option
@place_options
@click.pass_context
def show(ctx: click.Context, /, *, name: str, as_json: bool) -> None:
    """Show a project and its settings."""
    _show(client(ctx).get(f"/api/v1/projects/{part(name)}"), as_json=as_json)


def _settings_options(command: Any) -> Any:
    """The settings of a project's builds. An empty value means: detect."""
    for name, about in (
        ("executor", "The kind of executor that builds run on, such as local. Default: the first of the config."),
        ("dialect", "How rule files are read: vercel, netlify, cloudflare or default. Default: by the files."),
        ("node-version", "Node's version range, such as 22. Default: what the source asks for."),
        ("output-directory", "Where the build leaves the site. Default: detected."),
        ("build-command", "The command that builds. Default: detected."),
        ("install-command", "The command that installs packages. Default: detected by the lock file."),
        ("framework", "The framework, such as vite or astro. Default: detected."),
        ("root-directory", "The app's folder inside the repository. Default: its top."),
        ("production-branch", "The branch that goes to production. Default: the repository's default branch."),
        ("git-url", "The repository. Default: none, fed by uploads."),
    ):
        command = click.option(f"--{name}", metavar="TEXT", help=about)(command)
    return command


def _retention_options(command: Any) -> Any:
    """What is kept of a project. An empty value means: as the config says."""
    for name, metavar, about in (
        ("keep-logs", "DAYS", "How long logs stay; 0: as long as their deployments. Default: the config's."),
        ("keep-failed", "DAYS", "How long failed deployments stay; 0: for ever. Default: the config's."),
        ("keep-previews", "DAYS", "How long previews stay; 0: for ever. Default: the config's."),
        ("keep-production", "N", "How many former production deployments stay; 0: all. Default: the config's."),
    ):
        command = click.option(f"--{name}", metavar=metavar, help=about)(command)
    return command


@project.command(
    epilog=examples(
        "scalemesh project create shop --git-url https://github.com/someone/shop.git --root-directory apps/web"
    )
)
@click.argument("name", required=False)
@_settings_options
@json_option
@place_options
@click.pass_context
def create(ctx: click.Context, /, *, name: str | None, as_json: bool, **options: str | None) -> None:
    """Make a project without deploying it. Without NAME it is named after its Git URL."""
    body = _body(options)
    if name is not None:
        body["name"] = name
    _show(client(ctx).post("/api/v1/projects", body), as_json=as_json)


@project.command(
    epilog=examples(
        'scalemesh project change shop --build-command "npm run build:shop" --output-directory ""',
        "scalemesh project change shop --keep-production 5 --keep-previews 7",
    )
)
@click.argument("name")
@_settings_options
@_retention_options
@json_option
@place_options
@click.pass_context
def change(ctx: click.Context, /, *, name: str, as_json: bool, **options: str | None) -> None:
    """Change a project's source or settings, for deployments from now on. An empty value means: the default."""
    _show(client(ctx).patch(f"/api/v1/projects/{part(name)}", _body(options)), as_json=as_json)


@project.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask. Default: ask.")
@place_options
@click.pass_context
def delete(ctx: click.Context, /, *, name: str, yes: bool) -> None:
    """Delete a project with all its deployments, hosts, variables and logs."""
    if not yes:
        click.confirm(f"Delete the project {name} and everything of it?", abort=True, err=True)
    client(ctx).delete(f"/api/v1/projects/{part(name)}")
    say(f"{name} is deleted")


@project.command()
@click.argument("name")
@place_options
@click.pass_context
def unpin(ctx: click.Context, /, *, name: str) -> None:
    """Let newer deployments go live by themselves again, after a rollback."""
    client(ctx).post(f"/api/v1/projects/{part(name)}/unpin")
    say(f"{name}: the next production deployment goes live by itself")


@project.command(epilog=examples("scalemesh project purge shop"))
@click.argument("name")
@place_options
@click.pass_context
def purge(ctx: click.Context, /, *, name: str) -> None:
    """End at once what former production deployments still answer: hash-named files that the live one has not."""
    client(ctx).post(f"/api/v1/projects/{part(name)}/purge")
    say(f"{name}: only what is live answers now")


@click.command(epilog=examples("scalemesh rollback shop"))
@click.argument("name", metavar="PROJECT")
@click.option("--to", metavar="DEPLOYMENT", help="Where to. Default: the production deployment before the live one.")
@json_option
@place_options
@click.pass_context
def rollback(ctx: click.Context, /, *, name: str, to: str | None, as_json: bool) -> None:
    """Go back to an earlier deployment, at once.

    Production stays there until somebody promotes or unpins. Prints the URL.
    """
    shown = client(ctx).post(f"/api/v1/projects/{part(name)}/rollback", {"to": to} if to else {})
    if as_json:
        show_json(shown)
        return
    say(f"{name} shows {shown['id']}; `scalemesh project unpin {name}` lets newer ones go live again")
    click.echo(shown["url"])


def _all(talk: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    offset: int | None = 0
    while offset is not None:
        page = talk.get("/api/v1/projects", limit=PAGE, offset=offset)
        found += page["projects"]
        offset = page["next"]
    return found


def _body(options: dict[str, str | None]) -> dict[str, Any]:
    given = {name: value or None for name, value in options.items() if value is not None}
    settings = {name: value for name, value in given.items() if name in SETTINGS}
    if "root_directory" in settings:
        settings["root_directory"] = settings["root_directory"] or ""
    kept = {KEPT[name]: _number(name, value) for name, value in given.items() if name in KEPT}
    rest: dict[str, Any] = {name: value for name, value in given.items() if name not in {*SETTINGS, *KEPT}}
    return rest | ({"settings": settings} if settings else {}) | ({"retention": kept} if kept else {})


def _number(name: str, value: str | None) -> int | None:
    if value is not None and not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise click.UsageError(f"--{name.replace('_', '-')} {value[:40]!r}: must be a number from 0, or empty")
    return None if value is None else int(value)


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    names = ("name", "id", "url", "git_url", "production_branch", "executor", "live", "pinned", "created_at")
    settings = [(name, value) for name, value in found["settings"].items() if value]
    kept = [(option, found["retention"][name]) for option, name in KEPT.items()]
    facts([*((name, found[name]) for name in names), *settings, *kept])
