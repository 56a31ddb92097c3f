"""``detect``: what a build would do with a folder, and why. Talks to no daemon."""

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from scalemesh.cli.output import examples, facts, json_option, say, show_json
from scalemesh.errors import RefusedError


@click.command(epilog=examples("scalemesh detect . --json"))
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--root-directory", default="", metavar="PATH", help="The app's folder inside of it. Default: its top.")
@json_option
def detect(*, folder: Path, root_directory: str, as_json: bool) -> None:
    """Print what a build would do with FOLDER, and why.

    Framework, commands, output. Nothing of it is run, and no daemon is asked.
    """
    from builder.detect import plan  # noqa: PLC0415 -- only this verb needs the builder
    from builder.errors import BuildFailed  # noqa: PLC0415
    from builder.nodes import installed  # noqa: PLC0415
    from scalemesh.values import BuildSettings  # noqa: PLC0415

    node = shutil.which("node")
    nodes = installed([str(Path(node).parent)]) if node else ()
    try:
        found = plan(folder, BuildSettings(root_directory=root_directory), nodes).as_json()
    except BuildFailed as error:
        raise RefusedError("that cannot be built", why=str(error)) from error
    if as_json:
        show_json(found)
        return
    _show(found)
    sys.stdout.flush()
    for warning in found["warnings"]:
        say(f"warning: {warning}")


def _show(found: dict[str, Any]) -> None:
    why = found["why"]

    def told(name: str, text: object) -> str:
        return f"{text}  ({why[name]})" if text and why.get(name) else str(text or "")

    facts(
        [
            ("framework", told("framework", found["name"])),
            ("root directory", found["root_directory"]),
            ("package manager", found["package_manager"]),
            ("install", told("install", found["install_command"])),
            ("build", told("build", found["build_command"])),
            ("output", told("output", found["output_directory"])),
            ("node", told("node", found["node"])),
            ("ignore command", found["ignore_command"]),
        ]
    )
