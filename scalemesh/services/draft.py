"""A blob on its way from the store into the local cache: it counts only once all of it has proven right."""

import hashlib
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

from scalemesh.errors import DamagedError
from scalemesh.services.cache_files import NO_ROOM, CacheFiles
from scalemesh.values import Digest

log = logging.getLogger(__name__)


class Draft:
    """A file that is hashed while it is written; all of it blocks.

    ``discard`` leaves nothing but what was ``taken``, whenever it is called.
    """

    def __init__(self, files: CacheFiles, sha256: Digest) -> None:
        self._files, self._sha256 = files, sha256
        self._lock = threading.Lock()  # discard may come while a cancelled caller's write is still under way
        self._hash, self._size = hashlib.sha256(), 0
        self._path: Path | None = None
        self._file: int | None = None
        self._over = False

    def write(self, data: bytes) -> None:
        """Append *data*.

        Raises:
            UnreachableError: it is large, and there is no room for it among others.
            OSError: there is no room, and none could be made.
        """
        with self._lock:
            self._hash.update(data)
            self._append(data)

    def finish(self, data: bytes) -> None:
        """Append the last bytes; if all of them are the blob, it is there for ``take``, and kept if that is possible.

        What was given in one piece is there also where the disk takes nothing.

        Raises:
            DamagedError: they are not the blob; nothing is kept.
            OSError: as ``write``.
        """
        with self._lock:
            self._hash.update(data)
            if self._hash.hexdigest() != self._sha256:
                raise DamagedError(
                    f"the store's bytes of blob {self._sha256} are damaged",
                    why=f"{self._size + len(data)} bytes came, and their SHA-256 is another",
                    fix="run `scalemesh store verify --mend`, then deploy again the projects that it names",
                )
            is_all = self._file is None
            try:
                self._append(data)
                self._keep()
            except OSError as error:
                if not is_all or self._over:
                    raise
                log.warning("a blob cannot be cached", extra={"blob": self._sha256, "error": str(error)})
                self._put_into_memory(data)

    def take(self) -> int:
        """The descriptor of the whole blob, the caller's from now on."""
        with self._lock:
            file, self._file = self._file, None
            if file is None:
                raise RuntimeError("the draft is not finished")
            return file

    def discard(self) -> None:
        with self._lock:
            self._over = True
            self._drop()

    def _append(self, data: bytes) -> None:
        if self._over:
            raise OSError("the draft was discarded")
        if self._size:
            self._files.need_room(self._size, len(data))
        if self._file is None:
            self._path = self._files.fresh()
            self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._file, rest) :]
            except OSError as error:
                if error.errno not in NO_ROOM or not self._files.make_room(len(rest)):
                    raise
        self._size += len(data)

    def _keep(self) -> None:
        """Give it its name, unless it is larger than the whole cache. Durable before that: no name of torn bytes."""
        if self._path is None or self._file is None:
            return
        if self._size > self._files.capacity_bytes:
            self._path.unlink()
        else:
            os.fdatasync(self._file)
            self._files.place(self._path, self._sha256, self._size)
        self._path = None

    def _put_into_memory(self, data: bytes) -> None:
        self._drop()
        self._file = os.memfd_create("blob", os.MFD_CLOEXEC)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def _drop(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            self._path = None
