"""The builder as one file for images, and the fingerprint by which a daemon knows whether it is its own.

The fingerprint is of the source, so that two daemons of one release agree; it is kept beside the code as ``STAMP``.
"""

import hashlib
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

STAMP: Final = "fingerprint.txt"  #: in the packed folder ``builder``
MAIN: Final = "import sys\nfrom builder.__main__ import start\nsys.exit(start(sys.argv[1:]))\n"
_SUFFIXES: Final = frozenset({".py", ".toml"})
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip knows: the same source gives the same bytes


def default_image() -> str:
    """The image that executors of containers run, where the config names no other."""
    return f"scalemesh-builder:{fingerprint()}"


@cache
def fingerprint() -> str:
    """Of the builder that this is: 12 hex digits. Reads its stamp where it was packed, else its own source.

    Read once: strangers may ask for it, and a daemon whose files are upgraded goes on as what it was until it restarts.
    """
    stamp = resources.files("builder").joinpath(STAMP)
    if stamp.is_file():
        return stamp.read_text().strip()
    return fingerprint_of(Path(__file__).parent)


def fingerprint_of(package: Path) -> str:
    """Of the source in *package*, the folder ``builder``."""
    digest = hashlib.sha256()
    for name, data in _sources(package):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:12]


def write_zipapp(package: Path, target: Path) -> str:
    """Pack *package* into *target*, which Python can run; returns its fingerprint."""
    found = fingerprint_of(package)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        _write(archive, "__main__.py", MAIN.encode())
        for name, data in _sources(package):
            _write(archive, f"builder/{name}", data)
        _write(archive, f"builder/{STAMP}", f"{found}\n".encode())
    return found


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)


def _sources(package: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(package.iterdir()):
        if path.suffix in _SUFFIXES and path.is_file():
            yield path.name, path.read_bytes()
