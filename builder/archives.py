"""Pack folders of a build into one compressed file, and unpack it again: tar and zstd do it, inside the inner sandbox.

What lies in those folders was written by hostile code, and so are the names in an archive of it. The archive itself
lies in the spool, which no command sees: it goes to the programs, and comes from them, by an open descriptor.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from builder.commands import Commands
from builder.tree import Tree

ZSTD: Final = "zstd -1 -T0 -q"
GZIP: Final = "gzip -1"
_MAGIC: Final = {b"\x28\xb5\x2f\xfd": "zstd -q", b"\x1f\x8b": "gzip"}
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
MOST_FILES: Final = 500_000  #: in one archive
READ_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Archive:
    """A packed file in the spool."""

    path: Path
    sha256: str
    size: int  #: bytes
    unpacked: int  #: bytes that its files have in all

    def open(self) -> IO[bytes]:
        return os.fdopen(os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """What lies in some folders; two of them are equal if nothing was changed in between, as far as times tell."""

    files: int = 0
    size: int = 0  #: bytes, holes included: that is what an archive has to carry
    newest_ns: int = 0


class Archives:
    """Packs what lies in ``src`` and ``home`` of the folder *work*; names are relative to that."""

    def __init__(self, commands: Commands, work: Path, spool: Path) -> None:
        self._commands, self.work, self._spool = commands, work, spool
        self._count = 0

    def new_file(self) -> tuple[Path, IO[bytes]]:
        """An empty file in the spool."""
        self._count += 1
        path = self._spool / f"archive-{self._count}"
        return path, os.fdopen(os.open(path, _NEW, 0o600), "w+b")

    def present(self, names: Sequence[str]) -> list[str]:
        """Those of *names* that are folders, reached through folders alone."""
        tree = Tree(self.work)
        return [name for name in names if tree.has_folder(name)]

    def pack(self, names: Sequence[str], *, most_bytes: int, most_unpacked: int) -> Archive | None:
        """An archive of the folders *names*; None if it is too large, or cannot be made."""
        measured = self.measure(names)
        if measured.size > most_unpacked or measured.files > MOST_FILES:
            return None
        words = ["tar", "--create", "--file=-", "--sort=name"]
        words += [f"--use-compress-program={ZSTD if self._commands.has('zstd') else GZIP}"]
        words += ["--", *names]
        path, file = self.new_file()
        with file:
            sink = _Sink(file, most_bytes)
            made = self._commands.quietly(words, self.work, takes=sink.take)
            file.flush()
        if made and sink.is_whole:
            return Archive(path, sink.sha256, sink.size, measured.size)
        path.unlink()
        return None

    def unpack(self, file: IO[bytes], *, without: Sequence[str] = ()) -> bool:
        """Lay the files of an archive where they were, but not *without*; false if that failed, perhaps midway."""
        head = os.pread(file.fileno(), 4, 0)
        program = next((program for magic, program in _MAGIC.items() if head.startswith(magic)), None)
        if program is None or not self._commands.has(program.split()[0]):
            return False
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        words = ["tar", "--extract", "--file=-", "--no-same-owner", f"--use-compress-program={program}"]
        words += ["--anchored", "--no-wildcards", *(f"--exclude={name}" for name in without)]
        return self._commands.quietly(words, self.work, reads=file.fileno())

    def remove(self, names: Sequence[str]) -> None:
        """Remove those of *names* that are there."""
        if names:
            self._commands.quietly(["rm", "-rf", "--", *names], self.work)

    def mark(self, folder: str, text: str) -> bool:
        """Write *text* into a file of the new *folder*."""
        script = 'rm -rf "$1" && mkdir "$1" && cat >"$1/mark"'
        path, file = self.new_file()
        with file:
            file.write(text.encode())
            file.flush()
            file.seek(0)
            made = self._commands.quietly(["/bin/sh", "-c", script, "sh", folder], self.work, reads=file.fileno())
        path.unlink()
        return made

    def marked(self, folder: str) -> str | None:
        """What ``mark`` wrote there."""
        return Tree(self.work).text(f"{folder}/mark")

    def named(self, top: str, name: str, most: int) -> list[str]:
        """The folders below *top* that are called *name*, but none within another of them; at most *most*."""
        found: list[str] = []
        with suppress(OSError), Tree(self.work).directory(top) as opened:
            for path, folders, _, _ in os.fwalk(".", dir_fd=opened):
                if name in folders:
                    found.append("/".join(part for part in (top, path.removeprefix(".").strip("/"), name) if part))
                folders[:] = [one for one in folders if one not in {name, ".git"}]
                if len(found) >= most:
                    break
        return self.present(found)

    def measure(self, names: Sequence[str]) -> Measured:
        """Count what lies in the folders *names*, following no link."""
        files = size = newest = 0
        for name in self.present(names):
            with Tree(self.work).directory(name) as top:
                for _, _, inside, folder in os.fwalk(".", dir_fd=top):
                    for one in inside:
                        facts = _lstat(one, folder)
                        if facts is not None:
                            files += 1
                            size += facts.st_size
                            newest = max(newest, facts.st_mtime_ns)
        return Measured(files, size, newest)


class _Sink:
    """Takes what is packed, up to a size."""

    def __init__(self, file: IO[bytes], most_bytes: int) -> None:
        self._file, self._most_bytes = file, most_bytes
        self._digest = hashlib.sha256()
        self.size = 0
        self.is_whole = True

    def take(self, data: bytes) -> None:
        if self.size + len(data) > self._most_bytes:
            self.is_whole = False
            return
        self.size += len(data)
        self._digest.update(data)
        self._file.write(data)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def has_digest(file: IO[bytes], sha256: str) -> bool:
    """Whether the bytes of *file* are those."""
    digest = hashlib.sha256()
    file.seek(0)
    while data := file.read(READ_BYTES):
        digest.update(data)
    return digest.hexdigest() == sha256


def _lstat(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
