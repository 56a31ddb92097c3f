"""A folder's files, and their way to the daemon: only what it does not have yet."""

import hashlib
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Final, TypeVar

from scalemesh.cli.output import is_colourful, say
from scalemesh.client import Client, Json
from scalemesh.errors import InvalidError, RefusedError, UnreachableError

NEVER: Final = frozenset({".git"})
NOT_SOURCE: Final = frozenset({".git", "node_modules"})
CONNECTIONS: Final = 4
RETRY_S: Final = (0.1, 0.4, 1.0, 2.0)  #: pauses between tries; the last one again and again
AWAY_S: Final = 120.0
MAX_DIGESTS: Final = 1000  #: in one call

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    path: str  #: under which it is deployed, "/" between its parts
    held_at: str  #: relative to the folder
    sha256: str
    size_bytes: int
    is_executable: bool


def source_files(folder: Path) -> list[str]:
    """What of *folder* belongs to the source: what Git would keep, else all but .git and node_modules."""
    if (listed := _git_files(folder)) is not None:
        return [path for path in listed if not NOT_SOURCE & set(path.split("/"))]
    return _walked(folder, NOT_SOURCE)


def built_files(folder: Path) -> list[str]:
    """All files of a finished site."""
    return _walked(folder, NEVER)


class Upload:
    """Sends the files of one deployment that waits for them."""

    def __init__(self, talk: Client, deployment: str) -> None:
        self._talk, self._base = talk, f"/api/v1/deployments/{deployment}"
        self._is_told = False  #: that something is waited for

    def send(self, folder: Path, paths: Mapping[str, str]) -> None:
        """Upload what is missing, then tell that all is there. *paths*: as they are deployed -> in the folder.

        Raises:
            InvalidError: there is no file at all.
            ScaleMeshError: what the daemon answered.
        """
        files = [found for path, held in paths.items() if (found := _file(folder, held, path)) is not None]
        if not files:
            raise InvalidError(f"{folder} has no files to deploy")
        by_digest = {file.sha256: file for file in files}
        missing = [by_digest[digest] for digest in self._missing(list(by_digest.values()))]
        size = sum(file.size_bytes for file in missing)
        shown = f"{size / 1e6:.1f} MB" if size >= 950_000 else f"{size / 1e3:.1f} kB"
        say(f"Files: {len(files)}, to upload: {len(missing)} ({shown})")
        self._send_all(folder, missing)
        listed = [[file.path, file.sha256, file.size_bytes, file.is_executable] for file in files]
        self._until_taken(lambda: self._talk.post(f"{self._base}/finish", {"files": listed}))

    def _missing(self, files: Sequence[File]) -> Iterator[str]:
        for start in range(0, len(files), MAX_DIGESTS):
            digests = [{"sha256": file.sha256, "size": file.size_bytes} for file in files[start : start + MAX_DIGESTS]]
            yield from self._asked(digests)["missing"]

    def _asked(self, digests: Sequence[Mapping[str, object]]) -> Json:
        return self._until_taken(lambda: self._talk.post(f"{self._base}/blobs", {"digests": digests}))

    def _send_all(self, folder: Path, files: Sequence[File]) -> None:
        if not files:
            return
        lanes = [files[lane::CONNECTIONS] for lane in range(min(CONNECTIONS, len(files)))]
        with _progress(len(files)) as step, ThreadPoolExecutor(len(lanes)) as pool:
            for sent in [pool.submit(self._send_lane, folder, lane, step) for lane in lanes]:
                sent.result()

    def _send_lane(self, folder: Path, files: Sequence[File], step: Callable[[], None]) -> None:
        talk = self._talk.another()
        try:
            for file in files:
                self._send_one(talk, folder, file)
                step()
        finally:
            talk.close()

    def _send_one(self, talk: Client, folder: Path, file: File) -> None:
        def send() -> None:
            with (folder / file.held_at).open("rb") as opened:
                talk.upload(f"{self._base}/blobs/{file.sha256}", opened, file.size_bytes)

        try:
            self._until_taken(send)
        except RefusedError as error:
            raise RefusedError(
                f"{file.held_at} was not taken", why=error.what, fix="deploy again, while nothing writes to it"
            ) from error

    def _until_taken(self, call: Callable[[], T]) -> T:
        """What *call*, which may be repeated, comes to; a daemon or a store that is away is waited for, AWAY_S long."""
        gives_up_at = time.monotonic() + AWAY_S
        pauses = chain(RETRY_S, repeat(RETRY_S[-1]))
        while True:
            try:
                return call()
            except UnreachableError as error:
                if time.monotonic() > gives_up_at:
                    raise
                if not self._is_told:
                    self._is_told = True
                    say(f"Waiting: {error.what}")
            time.sleep(next(pauses))


def _git_files(folder: Path) -> list[str] | None:
    """Tracked and new files below *folder* that .gitignore does not name; None where Git knows nothing of it."""
    command = ["git", "-C", str(folder), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    paths = {os.fsdecode(path) for path in done.stdout.split(b"\0") if path}
    return sorted(path for path in paths if os.path.lexists(folder / path))  # deleted ones are still in the index


def _walked(folder: Path, left_out: frozenset[str]) -> list[str]:
    found: list[str] = []
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in left_out)
        found += [(Path(top) / name).relative_to(folder).as_posix() for name in names]
    return sorted(found)


def _file(folder: Path, held_at: str, path: str) -> File | None:
    """One file with its digest; None for what is no plain file, which is told."""
    held = folder / held_at
    try:
        descriptor = os.open(held, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        say(f"left out: {held_at} ({'a link' if held.is_symlink() else error.strerror})")
        return None
    with os.fdopen(descriptor, "rb") as opened:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            say(f"left out: {held_at} (no plain file)")
            return None
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        size_bytes = opened.tell()
    is_executable = bool(found.st_mode & stat.S_IXUSR)
    return File(path=path, held_at=held_at, sha256=digest, size_bytes=size_bytes, is_executable=is_executable)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal; yields what is called for each file."""
    if not is_colourful(sys.stderr):
        yield lambda: None
        return
    from rich.console import Console  # noqa: PLC0415 -- rich takes longer to import than all the rest
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Uploading", total=total)
        yield lambda: bar.advance(task)
