"""Proves from inside that builds could run here: what the executors of containers run for their ``check``.

Prints one JSON object as its last line (Proof), also to the file by which Kubernetes hands on last words. The exit code
is one of protocol's: EXIT_OK, EXIT_UNREACHED, EXIT_OTHER_BUILDER, EXIT_LACKING.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from builder.api import hello
from builder.container import Container, is_container
from builder.nodes import installed
from builder.packing import fingerprint
from builder.protocol import EXIT_LACKING, EXIT_OK, EXIT_OTHER_BUILDER, EXIT_UNREACHED
from builder.trust import trusting

LAST_WORDS: Final = Path("/dev/termination-log")
TIMEOUT_S: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the job saw. ``why`` says what is wrong, where ``ok`` is false."""

    ok: bool
    reached: bool
    builder: str
    daemon_builder: str | None
    uid: int
    node: list[str]
    git: bool
    why: str


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Look, say, and return the exit code."""
    if list(words) != ["proof"]:
        sys.stderr.write(f"builder: {' '.join(words)[:200]!r}: only `proof` can be asked for\n")
        return EXIT_LACKING
    os.environ.update(trusting(environ.get("SCALEMESH_CA", "")))
    said, why = hello(environ.get("SCALEMESH_URL", ""), TIMEOUT_S)
    code, more = _judged(said, environ)
    proof = Proof(
        ok=code == EXIT_OK,
        reached=said is not None,
        builder=fingerprint(),
        daemon_builder=said,
        uid=os.getuid(),
        node=[str(node) for node in installed(_folders(environ))],
        git=_has_git(),
        why=why or more,
    )
    line = json.dumps(asdict(proof))
    sys.stdout.write(f"{line}\n")
    with suppress(OSError):  # a container has it in Kubernetes alone
        if LAST_WORDS.exists():
            LAST_WORDS.write_text(line)
    return code


def _judged(said: str | None, environ: Mapping[str, str]) -> tuple[int, str]:
    if said is None:
        return EXIT_UNREACHED, ""
    if said != fingerprint():
        return EXIT_OTHER_BUILDER, f"the image holds builder {fingerprint()}, the daemon needs {said}"
    lacking = _lacking(environ)
    return (EXIT_LACKING, lacking) if lacking else (EXIT_OK, "")


def _lacking(environ: Mapping[str, str]) -> str:
    """What a build would miss here; empty where nothing is missing."""
    work = Path(environ.get("SCALEMESH_WORK", "/work"))
    if not os.access(work, os.W_OK):
        return f"{work} cannot be written"
    if not _has_git():
        return "git does not run"
    if not installed(_folders(environ)):
        return f"no Node runs from SCALEMESH_NODES ({environ.get('SCALEMESH_NODES', '')!r})"
    if is_container(environ):
        return _of_commands(Container(work))
    return ""


def _of_commands(held: Container) -> str:
    """Why user commands cannot run as the user that they should; empty where they can."""
    words = held.command(["true"], cwd="/")
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return f"user commands cannot run: {error}"
    return f"user commands cannot run as their own user: {done.stderr.strip()[-300:]}" if done.returncode else ""


def _folders(environ: Mapping[str, str]) -> list[str]:
    return [folder for folder in environ.get("SCALEMESH_NODES", "").split(":") if folder]


def _has_git() -> bool:
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run(["git", "--version"], capture_output=True, timeout=TIMEOUT_S, check=True)
        return True
    return False
