"""Gather the output of a build: list it, hold it to its limits, hash it. Runs when no user process lives.

Everything is opened by descriptor, step by step, without following links. A link to a file inside the output
is collected as that file; any other link, and devices, FIFOs and sockets are left out with a warning. So are
names that start with a dot (nothing serves them), except ``.well-known``; and ``node_modules`` at the top.
"""

import errno
import hashlib
import os
import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from builder.errors import BuildFailed
from builder.protocol import MAX_PATH_BYTES
from builder.tree import Reader, Tree, open_folder

READ_BYTES: Final = 1024 * 1024
MAX_COUNTED: Final = 5_000_000  #: counting for the sentence about a limit ends here
MAX_WARNINGS: Final = 20
MAX_DEPTH: Final = 100


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the output: under which path it is published, and the path that holds its bytes."""

    path: str
    held_at: str
    size: int


@dataclass(frozen=True, slots=True)
class Collected:
    path: str
    held_at: str
    sha256: str
    size: int


@dataclass(slots=True)
class Listing:
    files: list[Found] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_out: int = 0

    def refuse(self, path: str, why: str) -> None:
        self.left_out += 1
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(f"Left out {path[:300]!r}: {why}.")


def collect(output: Tree, limits: tuple[int, int], go_on: Callable[[], None]) -> tuple[list[Collected], list[str]]:
    """Return the files of *output* with their digests, and warnings. *limits*: bytes, files.

    Raises:
        BuildFailed: output_too_large, too_many_files (with what was measured), or rejected.
    """
    listing = list_output(output, limits, go_on)
    return hashed(output, listing.files, go_on), listing.warnings


def list_output(output: Tree, limits: tuple[int, int], go_on: Callable[[], None]) -> Listing:
    """List what would be collected, within the limits."""
    listing = Listing()
    size = count = 0
    with output.directory("") as top:
        for found in _walk(output, top, "", listing):
            count, size = count + 1, size + found.size
            if count <= limits[1] and size <= limits[0]:
                listing.files.append(found)
            if count % 1000 == 0:
                go_on()
            if count >= MAX_COUNTED:
                break
    _hold(size, count, limits)
    listing.files.sort(key=lambda found: found.path)
    if listing.left_out > len(listing.warnings):
        listing.warnings.append(f"Left out {listing.left_out - len(listing.warnings)} more such entries.")
    return listing


def _hold(size: int, count: int, limits: tuple[int, int]) -> None:
    peak = {"output_bytes": size, "output_files": count}
    if count > limits[1]:
        raise BuildFailed(
            "too_many_files",
            f"The output has {count:,} files; at most {limits[1]:,} are allowed. Publish fewer files "
            "(is a cache or node_modules among them?), or have the limit output_files raised.",
            peak,
        )
    if size > limits[0]:
        raise BuildFailed(
            "output_too_large",
            f"The output has {size / 1e6:,.1f} MB; at most {limits[0] / 1e6:,.1f} MB are allowed. Publish less "
            "(are videos or source maps among it?), or have the limit output_bytes raised.",
            peak,
        )


def _walk(output: Tree, folder: int, above: str, listing: Listing) -> Iterator[Found]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = above + entry.name
            if _is_skipped(entry.name, above):
                continue
            if why := unusable(path):
                listing.refuse(path, why)
            elif entry.is_dir(follow_symlinks=False):
                if path.count("/") >= MAX_DEPTH:
                    listing.refuse(path, "it is nested too deeply")
                    continue
                inner = open_folder(folder, entry.name)
                try:
                    yield from _walk(output, inner, path + "/", listing)
                finally:
                    os.close(inner)
            else:
                yield from _file(output, folder, path, listing)


def _is_skipped(name: str, above: str) -> bool:
    return (name.startswith(".") and name != ".well-known") or (name == "node_modules" and not above)


def unusable(path: str) -> str:
    """Why no file of a site can have that path; empty where one can."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if size > MAX_PATH_BYTES:
        return f"its path is longer than {MAX_PATH_BYTES} bytes"
    if any(ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 or letter == "\\" for letter in path):
        return "its name has control characters or backslashes"
    return ""


def _file(output: Tree, folder: int, path: str, listing: Listing) -> Iterator[Found]:
    name = path.rpartition("/")[2]
    facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISREG(facts.st_mode):
        yield Found(path, path, facts.st_size)
    elif not stat.S_ISLNK(facts.st_mode):
        listing.refuse(path, f"it is {_kind(facts.st_mode)}, not a file")
    else:
        target = os.readlink(name, dir_fd=folder)
        inside = _inside(path, target)
        try:
            if inside is None:
                raise OSError(errno.EXDEV, "outside")
            with output.file(inside) as opened:
                yield Found(path, inside, os.fstat(opened).st_size)
        except OSError:
            listing.refuse(path, f"it is a link to {target[:200]!r}, which is not a file inside the output")


def _inside(path: str, target: str) -> str | None:
    """Where a link leads, by its words alone; None where that is not inside the output."""
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if target.startswith("/") or joined.split("/")[0] in {"..", "."} or _hidden(joined):
        return None
    return joined


def _hidden(path: str) -> bool:
    first, *_ = parts = path.split("/")
    return first == "node_modules" or any(_is_skipped(part, "/") for part in parts)


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISBLK, "a device"))
    return next((words for test, words in kinds if test(mode)), "a device")


def hashed(output: Tree, files: Iterable[Found], go_on: Callable[[], None]) -> list[Collected]:
    """*files* with the digests of their bytes, of which no more are read than there were.

    Raises:
        BuildFailed: rejected, where one is not what it was when it was found.
    """
    with output.reader() as reader:
        return [_hashed(reader, found, go_on) for found in files]


def _hashed(reader: Reader, found: Found, go_on: Callable[[], None]) -> Collected:
    go_on()
    digest, size = hashlib.sha256(), 0
    try:
        opened = reader.open(found.held_at)
        try:
            while data := os.read(opened, min(READ_BYTES, found.size + 1)):
                digest.update(data)
                size += len(data)
                if size > found.size:
                    raise OSError("it grew")
        finally:
            os.close(opened)
    except OSError as error:
        raise BuildFailed(
            "rejected", f"The output changed while it was collected: {found.path!r} ({error})."
        ) from error
    return Collected(found.path, found.held_at, digest.hexdigest(), size)
