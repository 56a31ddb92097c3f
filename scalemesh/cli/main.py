"""The command ``scalemesh``: its verbs, found by name, and its exit codes."""

import importlib
import os
import sys
from collections import UserDict
from collections.abc import Iterator, Sequence
from typing import Final

import click

from scalemesh.cli.output import FAILED, examples, fail
from scalemesh.cli.server import Place, place_options
from scalemesh.errors import ScaleMeshError

INTERRUPTED: Final = 130

#: verb -> where it is
VERBS: Final = {
    "deploy": "scalemesh.cli.deploy:deploy",
    "logs": "scalemesh.cli.logs:logs",
    "status": "scalemesh.cli.status:status",
    "project": "scalemesh.cli.project:project",
    "deployment": "scalemesh.cli.deployment:deployment",
    "promote": "scalemesh.cli.deployment:promote",
    "rollback": "scalemesh.cli.project:rollback",
    "cancel": "scalemesh.cli.deployment:cancel",
    "explain": "scalemesh.cli.explain:explain",
    "disk": "scalemesh.cli.storage:disk",
    "gc": "scalemesh.cli.storage:gc",
    "cache": "scalemesh.cli.cache:cache",
    "env": "scalemesh.cli.env:env",
    "token": "scalemesh.cli.token:token",
    "welcome": "scalemesh.cli.status:welcome",
    "detect": "scalemesh.cli.detect:detect",
    "rules": "scalemesh.cli.rules:rules",
    "builder": "scalemesh.cli.builder:builder",
    "store": "scalemesh.cli.store:store",
    "serve": "scalemesh.cli.daemon:serve",
    "check": "scalemesh.cli.daemon:check",
    "plugins": "scalemesh.cli.daemon:plugins",
    "version": "scalemesh.cli.daemon:version",
}


class Verbs(UserDict[str, click.Command]):
    """Commands by name; each is imported when it is asked for."""

    def __getitem__(self, name: str) -> click.Command:
        if name not in self.data:
            module, _, attribute = VERBS[name].partition(":")
            self.data[name] = getattr(importlib.import_module(module), attribute)
        return self.data[name]

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)

    def __contains__(self, name: object) -> bool:
        return name in VERBS


class Scalemesh(click.Group):
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        return self.commands.get(cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(VERBS)


@click.group(
    cls=Scalemesh,
    commands=Verbs(),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("scalemesh deploy https://github.com/someone/their-site.git", "scalemesh logs -f their-site"),
)
@place_options
@click.pass_context
def scalemesh(ctx: click.Context) -> None:
    """Scale Mesh: from a Git URL to a live site, on a machine of your own.

    On the daemon's machine it talks through the admin socket of the config (--config, SCALEMESH_CONFIG,
    ./.scalemesh/config.toml or /etc/scalemesh/config.toml). From elsewhere set SCALEMESH_URL and SCALEMESH_TOKEN.

    Standard output is the answer alone; progress, logs and errors go to standard error. Exit codes: 0 done, 1 failed,
    2 wrong usage, 3 no daemon answers, 4 not allowed or not found, 5 stopped, 130 interrupted.
    """
    ctx.ensure_object(Place)


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a log may hold what the terminal cannot show
    try:
        status = scalemesh.main(args=list(arguments), prog_name="scalemesh", standalone_mode=False)
        sys.stdout.flush()
    except ScaleMeshError as error:
        return fail(error)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
        return FAILED  # as click has it where the pipe breaks earlier
    return status if isinstance(status, int) else 0
