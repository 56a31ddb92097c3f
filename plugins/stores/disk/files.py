"""What the disk store does with files and folders; all of it blocks."""

import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from scalemesh.errors import NotFoundError
from scalemesh.faults import fault
from scalemesh.values import Digest, Kept

DIGEST: Final = re.compile(r"[0-9a-f]{64}")
REMOVALS: Final = 5  #: tries, where a rename that had found the folder before it was moved ends in it


def lay_out(root: Path) -> int:
    """Make the directories, clean tmp/ unless another process works there, and return the lock to hold."""
    shards = [root / "blobs" / f"{number:02x}" for number in range(256)]
    root.parent.mkdir(parents=True, exist_ok=True)
    for directory in [root, root / "tmp", root / "staging", root / "blobs", *shards]:  # parents=True ignores the mode
        directory.mkdir(mode=0o700, exist_ok=True)
    for directory in [root / "blobs", root, root.parent]:
        sync(directory)
    lock = os.open(root / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    with suppress(BlockingIOError):  # `scalemesh check` opens the store beside a living daemon
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for leftover in (root / "tmp").iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def remove_all(folder: Path) -> None:
    """Remove *folder*; what others still bring into it meanwhile goes with it, or with the next start."""
    for _ in range(REMOVALS):
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
        else:
            return


def adopt(staged: Path, target: Path) -> None:
    try:
        link(staged, target)
    except FileNotFoundError as error:
        if not target.exists():
            raise NotFoundError(f"{target.name} was not uploaded by this attempt") from error


def link(source: Path, target: Path) -> None:
    """Give *source* a second name; never replaces: a torn or foreign file cannot win."""
    fault("store.before_link")
    with suppress(FileExistsError):
        target.hardlink_to(source)
    fault("store.after_link")


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path, start: int, stop: int | None, most_bytes: int) -> tuple[bytes, int]:
    """One chunk from *start* on, and where the reading ends."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no blob {path.name}") from error
    try:
        size = os.fstat(descriptor).st_size
        end = size if stop is None else min(size, stop)
        return os.pread(descriptor, max(0, min(most_bytes, end - start)), start), end
    finally:
        os.close(descriptor)


def sizes(room: Path) -> dict[Digest, int]:
    try:
        with os.scandir(room) as names:
            return {Digest(name.name): name.stat().st_size for name in names if DIGEST.fullmatch(name.name)}
    except FileNotFoundError:  # nothing was uploaded
        return {}


def digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def names_above(shard: Path, after: str) -> list[str]:
    """The blobs of one folder whose digests are above *after*, in order."""
    return sorted(path.name for path in shard.iterdir() if path.name > after and DIGEST.fullmatch(path.name))


def kept(shard: Path, names: Sequence[str]) -> list[Kept]:
    """What is to be told of the blobs of those *names*; one that is gone meanwhile is left out."""
    found = []
    for name in names:
        with suppress(FileNotFoundError):
            facts = (shard / name).stat()
            at = datetime.fromtimestamp(facts.st_mtime, UTC)
            found.append(Kept(sha256=Digest(name), size_bytes=facts.st_size, at=at))
    return found
