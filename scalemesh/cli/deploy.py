"""``deploy``: from a Git URL or a folder to a live site, with its log on the way."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from scalemesh.cli.loglines import printer
from scalemesh.cli.output import FAILED, examples, fail, json_option, say, show_json
from scalemesh.cli.server import client, place_options
from scalemesh.client import Client, part
from scalemesh.errors import NotFoundError, RefusedError, ScaleMeshError
from scalemesh.rules import Dialect

INTERRUPTED: Final = 130
ENDS: Final = {"failed": "failed", "canceled": "was canceled", "superseded": "was superseded by a newer one"}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the options asked for."""

    source: str
    project: str | None
    branch: str | None
    production: bool | None
    root_directory: str | None
    prebuilt: bool
    dialect: str | None
    no_cache: bool


@click.command(
    epilog=examples(
        "scalemesh deploy https://github.com/someone/their-site.git",
        "scalemesh deploy . --project shop --preview",
        "scalemesh deploy dist --prebuilt --project shop",
        "scalemesh deploy dist --prebuilt --dialect cloudflare",
    )
)
@click.argument("source", metavar="GIT_URL|FOLDER")
@click.option("--project", metavar="NAME", help="The project's name. Default: made from the URL or the folder's name.")
@click.option("--branch", metavar="NAME", help="The branch to deploy. Default: the repository's default branch.")
@click.option(
    "--prod/--preview",
    "production",
    default=None,
    help="Deploy to production, or as a preview. Default: production for the production branch and for folders.",
)
@click.option("--root-directory", metavar="PATH", help="The app's folder inside the repository. Default: its top.")
@click.option("--prebuilt", is_flag=True, help="Publish the folder as it is, or its .vercel/output, without a build.")
@click.option(
    "--dialect",
    type=click.Choice([dialect.value for dialect in Dialect]),
    help="How this deployment's rule files are read. Default: the project's setting, else by the files.",
)
@click.option("--no-cache", is_flag=True, help="Build without what earlier builds kept. Default: with it.")
@click.option("--wait/--no-wait", default=True, help="Wait until the site is live, showing the log. Default: wait.")
@json_option
@place_options
@click.pass_context
def deploy(ctx: click.Context, /, *, wait: bool, as_json: bool, **options: Any) -> int:
    """Deploy a Git URL, or a folder, and print the site's URL.

    The same Git URL and root directory find the same project again. A folder is uploaded (what .gitignore names,
    .git and node_modules are left out) and built like a commit. The log shows on standard error; standard output is
    the URL alone, or with --json {"url", "deployment", "project", "state"}.
    Ctrl-C leaves the build running. Exit code 0: the site is live; 1: it failed.
    """
    wish, talk = Wish(**options), client(ctx)
    begun = _begin(talk, wish)
    say(f"Deploying {wish.source} as {begun['id']} of the project {begun['project']}")
    if not wait:
        _answer(begun, begun, as_json=as_json)
        return 0
    try:
        end = follow(talk, begun["id"])
    except KeyboardInterrupt:
        say(f"\nThe build goes on. `scalemesh cancel {begun['id']}` stops it.")
        say(f"`scalemesh logs -f {begun['id']}` shows its log again.")
        return INTERRUPTED
    if end["state"] == "ready" or as_json:
        _answer(begun, end, as_json=as_json)
    return 0 if end["state"] == "ready" else failed(begun["id"], end)


def follow(talk: Client, deployment: str) -> Json:
    """Show the log on standard error until the deployment's end, and return what the end was."""
    lines = printer()
    for row in talk.follow(deployment, on_break=lambda why: say(f"… {why}; trying again")):
        if "end" in row:
            end: Json = row["end"]
            return end
        lines.show(row)
    raise NotFoundError(f"{deployment} is not there any more")


def _begin(talk: Client, wish: Wish) -> Json:
    folder = _folder(wish.source)
    if folder is not None:
        return _upload(talk, folder, wish)
    if wish.prebuilt:
        raise click.UsageError("--prebuilt publishes a folder, and that is a Git URL")
    body = {
        "git_url": wish.source,
        "project": wish.project,
        "branch": wish.branch,
        "production": wish.production,
        "root_directory": wish.root_directory,
        "dialect": wish.dialect,
        "no_cache": wish.no_cache or None,
    }
    return talk.post("/api/v1/deployments", {name: value for name, value in body.items() if value is not None})


def _folder(source: str) -> Path | None:
    """The folder that *source* names; None for a Git URL."""
    if not source.strip():  # Path("") is the current folder, which a variable that is not set must not publish
        raise click.UsageError("the source is empty; name a Git URL or a folder, such as .")
    if "://" in source:
        return None
    folder = Path(source)
    if folder.is_dir():
        if (folder / "HEAD").is_file() and (folder / "objects").is_dir():
            raise click.UsageError(f"{source} is a bare Git repository; say file://{folder.resolve()}")
        return folder
    if folder.exists():
        raise click.UsageError(f"{source} is a file; give the folder that it lies in")
    if ":" in source:  # git@host:path
        return None
    raise click.UsageError(f"{source} is neither a folder nor a Git URL")


def _upload(talk: Client, folder: Path, wish: Wish) -> Json:
    from scalemesh.cli.folder import Upload  # noqa: PLC0415 -- a Git URL needs none of it

    files = _files(folder, wish)
    project = _project(talk, folder, wish)
    body: Json = {"upload": "prebuilt" if wish.prebuilt else "source"}
    body |= {"branch": wish.branch} if wish.branch else {}
    body |= {"production": wish.production} if wish.production is not None else {}
    body |= {"dialect": wish.dialect} if wish.dialect else {}
    body |= {"no_cache": True} if wish.no_cache else {}
    begun = talk.post(f"/api/v1/projects/{part(project)}/deployments", body)
    try:
        Upload(talk, begun["id"]).send(folder, files)
    except (ScaleMeshError, OSError, KeyboardInterrupt):
        _give_up(talk.another(), begun["id"])
        raise
    return begun


def _files(folder: Path, wish: Wish) -> Mapping[str, str]:
    """What is uploaded: its path in the deployment -> its path in the folder."""
    if not wish.prebuilt:
        from scalemesh.cli.folder import source_files  # noqa: PLC0415

        return {path: path for path in source_files(folder)}
    from scalemesh.cli.prebuilt import prebuilt_files, tell_functions  # noqa: PLC0415

    found = prebuilt_files(folder)
    tell_functions(found)
    return found.files


def _give_up(talk: Client, deployment: str) -> None:
    """Leave no deployment behind that waits for files; the error that led here is the one to tell."""
    with suppress(ScaleMeshError):
        talk.post(f"/api/v1/deployments/{deployment}/cancel")
    talk.close()


def _project(talk: Client, folder: Path, wish: Wish) -> str:
    """The project's name; it is made where there is none yet."""
    from scalemesh.services.hosts import name_from_git_url  # noqa: PLC0415 -- a Git URL is named by the daemon

    name = wish.project or name_from_git_url(folder.resolve().name)
    try:
        talk.get(f"/api/v1/projects/{part(name)}")
    except NotFoundError:
        settings = {"root_directory": wish.root_directory} if wish.root_directory else {}
        talk.post("/api/v1/projects", {"name": name, "settings": settings})
    return name


def _answer(begun: Mapping[str, Any], end: Mapping[str, Any], *, as_json: bool) -> None:
    if not as_json:
        click.echo(end["url"])
        return
    show_json({"url": end["url"], "deployment": begun["id"], "project": begun["project"], "state": end["state"]})


def failed(deployment: str, end: Mapping[str, Any]) -> int:
    """Say how *deployment* ended without being ready; return the exit code."""
    sys.stdout.flush()
    why = f"{end['message']} ({end['reason']})" if end["reason"] else end["message"]
    fail(RefusedError(f"{deployment} {ENDS.get(end['state'], end['state'])}", why=why, fix=end["fix"]))
    return FAILED
