"""Makes, loads and pushes the image that builds run in, by the program ``docker``."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Final

from builder.packing import fingerprint, write_zipapp
from scalemesh.errors import InvalidError, NotFoundError, RefusedError, UnreachableError

LABEL: Final = "scalemesh.builder"
NAME: Final = re.compile(r"[a-z0-9][a-zA-Z0-9._/:@-]{0,254}")
TOLD_LINES: Final = 12
BASES: Final = ("NODE22_IMAGE", "NODE24_IMAGE", "DEBIAN_IMAGE")  #: variables that name other images to begin with
Say = Callable[[str], None]  #: one line of what the program prints


def build_image(tag: str, base: str | None, say: Say) -> str:
    """Make the image and name it *tag*; returns the fingerprint of the builder inside.

    *base*: an image to put the builder on, instead of making all of it (which pulls public images).

    Raises:
        InvalidError: a name is none.
        NotFoundError: *base* is not here.
        UnreachableError: no docker program, or its engine does not answer.
        RefusedError: it could not be made; the last lines say why.
    """
    for name in (tag, *([base] if base else [])):
        check_name(name)
    ask_engine()
    if base and not label_of(base):
        run(["image", "inspect", base], lambda _: None, f"there is no image {base} here", NotFoundError)
    with _context(base) as (folder, found):
        others = [] if base else [f"--build-arg={name}" for name in BASES]  # of our environment, where they are there
        words = ["build", "--force-rm", "--tag", tag, "--build-arg", f"FINGERPRINT={found}", *others, "."]
        run(words, say, f"the image {tag} could not be made", RefusedError, folder)
    return found


def load_image(path: Path, say: Say) -> tuple[str, str]:
    """Load what ``docker save`` wrote into *path*; returns the image's name and the fingerprint of its builder.

    Raises:
        UnreachableError: no docker program, or its engine does not answer.
        RefusedError: it is no such file, or no builder's image, or another builder's than this daemon needs.
    """
    ask_engine()
    said = run(["load", "--input", str(path)], say, f"{path} could not be loaded", RefusedError)
    found = re.search(r"^Loaded image(?: ID)?: (\S+)$", said, re.MULTILINE)
    if found is None:
        raise RefusedError(f"{path} holds no image", fix="make it with: docker save IMAGE -o FILE")
    name = found[1]
    inside = label_of(name)
    if inside != fingerprint():
        what = (
            f"{name} holds builder {inside}, this daemon needs {fingerprint()}" if inside else f"{name} has no builder"
        )
        raise RefusedError(what, fix="save the image that `scalemesh builder image build` of this release makes")
    return name, inside


def push_image(tag: str, say: Say) -> None:
    """Push *tag* to the registry that its name begins with.

    Raises:
        NotFoundError: there is no such image here.
        UnreachableError, RefusedError: as above; the registry's own words are told.
    """
    check_name(tag)
    ask_engine()
    run(["image", "inspect", tag], lambda _: None, f"there is no image {tag} here", NotFoundError)
    run(["push", tag], say, f"{tag} could not be pushed", RefusedError)


def check_name(name: str) -> None:
    """Raise InvalidError unless *name* may be an image's."""
    if not NAME.fullmatch(name):
        raise InvalidError(f"{name[:80]!r} is no name of an image", fix="like registry.example/scalemesh-builder:1")


def label_of(image: str) -> str:
    """The fingerprint that the image carries; empty where there is none, or no such image."""
    words = [*_docker(), "image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', image]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def ask_engine() -> None:
    """Raise UnreachableError unless an engine answers."""
    done = subprocess.run(
        [*_docker(), "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        why = done.stderr.strip().splitlines()
        raise UnreachableError(
            "the docker engine does not answer",
            why=why[-1] if why else "",
            fix="start it (systemctl start docker), or name another by DOCKER_HOST",
        )


def run(
    words: Sequence[str], say: Say, what: str, error: type[RefusedError | NotFoundError], folder: Path | None = None
) -> str:
    """Run docker with *words*, say each line as it comes, return all of them; raise *error* of *what* if it fails."""
    environ = {"DOCKER_BUILDKIT": "0" if _lacks_buildx() else "1", **os.environ}
    lines: list[str] = []
    with subprocess.Popen(
        [*_docker(), *words],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            say(lines[-1])
    if process.returncode != 0:
        raise error(what, why="\n".join(lines[-TOLD_LINES:]), fix="see the lines above" if len(lines) > 1 else "")
    return "\n".join(lines)


@contextmanager
def _context(base: str | None) -> Iterator[tuple[Path, str]]:
    """A folder to build from, and the fingerprint of the builder in it."""
    source = resources.files("builder")
    with tempfile.TemporaryDirectory(prefix="scalemesh-image-") as made, resources.as_file(source) as package:
        folder = Path(made)
        found = write_zipapp(package, folder / "builder.pyz")
        recipe = (package / "Dockerfile").read_text()
        (folder / "Dockerfile").write_text(last_stage(recipe, base) if base else recipe)
        (folder / "hugo.txt").write_bytes((package / "hugo.txt").read_bytes())
        yield folder, found


def last_stage(recipe: str, base: str) -> str:
    """The last stage of a Dockerfile, put on *base*."""
    _, _, rest = recipe.rpartition("\nFROM ")
    return f"FROM {base}\n{rest.partition(chr(10))[2]}"


def _docker() -> list[str]:
    found = shutil.which("docker")
    if found is None:
        raise UnreachableError("there is no program `docker` here", fix="install it (apt-get install docker.io)")
    return [found]


def _lacks_buildx() -> bool:
    return subprocess.run([*_docker(), "buildx", "version"], capture_output=True, check=False).returncode != 0
