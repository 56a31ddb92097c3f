"""``builder image``: the image that builds run in, where they run in containers."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from scalemesh.cli.image import Say, build_image, load_image, push_image
from scalemesh.cli.output import examples, is_colourful, json_option, say, show_json


def _default_tag() -> str:
    from builder.packing import default_image  # noqa: PLC0415 -- reads the builder's source

    return default_image()


tag_option = click.option(
    "--tag", help="The image's name, with a registry where it is to be pushed. Default: scalemesh-builder:FINGERPRINT."
)


@click.group()
def builder() -> None:
    """The builder: the program inside a build, and its image."""


@builder.group()
def image() -> None:
    """The image that builds run in on Docker, Kubernetes and ECS."""


@image.command(
    epilog=examples(
        "scalemesh builder image build", "scalemesh builder image build --tag registry.example/scalemesh-builder:1"
    )
)
@tag_option
@click.option("--base", metavar="IMAGE", help="Put the builder on this image (Python 3.11, git, Node); pull nothing.")
@json_option
def build(*, tag: str | None, base: str | None, as_json: bool) -> None:
    """Make the image with the docker program."""
    name = tag or _default_tag()
    with _shown(f"Making {name}") as line:
        found = build_image(name, base, line)
    _answer(name, found, as_json=as_json)


@image.command(
    epilog=examples("docker save scalemesh-builder:1 -o builder.tar", "scalemesh builder image load builder.tar")
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def load(*, file: Path, as_json: bool) -> None:
    """Load an image that was saved elsewhere, and check that it is this release's."""
    with _shown(f"Loading {file}") as line:
        name, found = load_image(file, line)
    _answer(name, found, as_json=as_json)


@image.command(epilog=examples("scalemesh builder image push --tag registry.example/scalemesh-builder:1"))
@tag_option
@json_option
def push(*, tag: str | None, as_json: bool) -> None:
    """Push the image to the registry that its name begins with."""
    name = tag or _default_tag()
    with _shown(f"Pushing {name}") as line:
        push_image(name, line)
    _answer(name, None, as_json=as_json)


def _answer(name: str, found: str | None, *, as_json: bool) -> None:
    if as_json:
        show_json({"image": name, "builder": found})
    else:
        click.echo(name)


@contextmanager
def _shown(title: str) -> Iterator[Say]:
    """Each line of a long work on standard error: the newest beside a spinner on a terminal, all of them elsewhere."""
    if not is_colourful(sys.stderr):
        say(title)
        yield say
        return
    from rich.console import Console  # noqa: PLC0415 -- slow to import

    console = Console(stderr=True)
    with console.status(title) as status:

        def line(text: str) -> None:
            status.update(f"{title}  [dim]{text[:100]}[/dim]" if "[" not in text else title)

        yield line
