"""Keeps the program that runs inside jobs where running jobs can go on reading it while we are upgraded."""

import compileall
import hashlib
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Final

from builder.packing import STAMP, fingerprint_of

#: What is imported stays: looking through it again and again for garbage would take a quarter of the start.
_MAIN: Final = "import gc, sys\ngc.disable()\nfrom builder.__main__ import main\ngc.enable()\nsys.exit(main())\n"


def stage_builder(package: Path, state: Path) -> Path:
    """Copy *package* (the folder ``builder``) into *state*, compiled; return a folder that Python can run.

    The copy is named after its content, so two versions can be in use at the same time.
    """
    files = sorted(path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    digest = hashlib.sha256((sys.version + _MAIN).encode())
    for path in files:
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    place = state / digest.hexdigest()[:16]
    if place.is_dir():
        return place
    state.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = state / f".{place.name}.{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(package, fresh / "builder", ignore=shutil.ignore_patterns("__pycache__"))
    (fresh / "builder" / STAMP).write_text(fingerprint_of(package))
    (fresh / "__main__.py").write_text(_MAIN)
    compileall.compile_dir(fresh, quiet=1, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH, stripdir=str(fresh))
    for path in (fresh, *fresh.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with suppress(OSError):  # another daemon was faster
        fresh.rename(place)
    return place


def forget_others(state: Path, keep: Path) -> None:
    """Delete the copies that are not *keep*; only while no job runs."""
    for path in state.iterdir() if state.is_dir() else ():
        if path != keep:
            shutil.rmtree(path, ignore_errors=True)
