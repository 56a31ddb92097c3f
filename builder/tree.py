"""Read a folder that hostile code has written: by descriptor, one name at a time, never through a link."""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

MAX_CONFIG_BYTES: Final = 4 * 1024 * 1024
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # nonblocking: a FIFO must not hold us


class Tree:
    """A root folder. Paths are relative, with ``/``; one that leaves the root or meets a link does not exist."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def directory(self, path: str) -> Iterator[int]:
        """A descriptor of the folder *path*.

        Raises:
            OSError: it is not there, or not reached by plain folders alone.
        """
        opened = os.open(self.root, _DIRECTORY)
        try:
            for name in names(path):
                inner = os.open(name, _DIRECTORY, dir_fd=opened)
                os.close(opened)
                opened = inner
            yield opened
        finally:
            os.close(opened)

    @contextmanager
    def file(self, path: str) -> Iterator[int]:
        """A descriptor of the regular file *path*.

        Raises:
            OSError: it is not there, not regular, or not reached by plain folders alone.
        """
        above, _, name = "/".join(names(path)).rpartition("/")
        with self.directory(above) as folder:
            opened = open_file(folder, name)
        try:
            yield opened
        finally:
            os.close(opened)

    def size(self, path: str) -> int:
        """Bytes of a file; 0 where there is none."""
        with suppress(OSError), self.file(path) as opened:
            return os.fstat(opened).st_size
        return 0

    @contextmanager
    def reader(self) -> Iterator["Reader"]:
        """Opens many files, one after another."""
        with ExitStack() as held:
            yield Reader(self, held)

    def text(self, path: str) -> str | None:
        """The text of a file, of a large one the first MAX_CONFIG_BYTES; None where there is none."""
        with suppress(OSError), self.file(path) as opened, os.fdopen(os.dup(opened), "rb") as file:
            return file.read(MAX_CONFIG_BYTES).decode("utf-8-sig", "replace")
        return None

    def has_file(self, path: str) -> bool:
        with suppress(OSError), self.file(path):
            return True
        return False

    def has_folder(self, path: str) -> bool:
        with suppress(OSError), self.directory(path):
            return True
        return False

    def folders(self, path: str = "") -> list[str]:
        """The names of the folders in *path*, sorted; links are none."""
        with suppress(OSError), self.directory(path) as opened, os.scandir(opened) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        return []

    def below(self, path: str) -> "Tree":
        return Tree(self.root.joinpath(*names(path)))


class Reader:
    """Opens files of a tree. The folder of the last one stays open: it need not be found again for its neighbour."""

    def __init__(self, tree: Tree, held: ExitStack) -> None:
        self._tree, self._held = tree, held
        self._above: list[str] | None = None
        self._folder = -1

    def open(self, path: str) -> int:
        """A descriptor of the regular file *path*, the caller's to close.

        Raises:
            OSError: as ``Tree.file``.
        """
        *above, name = names(path) or [""]
        if above != self._above:
            self._held.close()
            self._above = None
            self._folder = self._held.enter_context(self._tree.directory("/".join(above)))
            self._above = above
        return open_file(self._folder, name)


def names(path: str) -> list[str]:
    """The steps of a relative path.

    Raises:
        OSError: the path is absolute or steps upwards.
    """
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise OSError(f"a path outside its root: {path!r}")
    return parts


def open_file(folder: int, name: str) -> int:
    """Open the regular file *name* of the folder descriptor *folder*.

    Raises:
        OSError: it is something else (a link, a FIFO, a device), or not there.
    """
    opened = os.open(name, _FILE, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(f"not a regular file: {name!r}")
    return opened


def open_folder(folder: int, name: str) -> int:
    """Open the folder *name* inside the folder descriptor *folder*; raises OSError for anything else."""
    return os.open(name, _DIRECTORY, dir_fd=folder)
