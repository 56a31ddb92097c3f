"""A file that is being written, and counts only once all of it has proven right."""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from scalemesh.errors import RefusedError
from scalemesh.values import Blob


class Fresh:
    """A unique temporary file, hashed while it is written. ``discard`` leaves nothing, whenever it is called."""

    def __init__(self, path: Path, blob: Blob) -> None:
        self._path, self._blob = path, blob
        self._lock = threading.Lock()  # discard may come while a cancelled caller's write is still under way
        self._file: int | None = None
        self._over = False
        self._hash, self._size = hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        with self._lock:
            self._append(data)

    def finish(self, data: bytes, keep: Callable[[Path], None]) -> None:
        """Write the last bytes and, if all of them are the blob, call *keep* with the file's name."""
        with self._lock:
            self._append(data)
            if self._size != self._blob.size_bytes or self._hash.hexdigest() != self._blob.sha256:
                raise self._refused()
            keep(self._path)

    def discard(self) -> None:
        with self._lock:
            self._over = True
            if self._file is not None:
                os.close(self._file)
                self._file = None
                self._path.unlink(missing_ok=True)

    def _append(self, data: bytes) -> None:
        self._size += len(data)
        if self._over or self._size > self._blob.size_bytes:
            raise self._refused()
        if self._file is None:
            self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400)
        self._hash.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def _refused(self) -> RefusedError:
        return RefusedError(
            f"the bytes sent are not blob {self._blob.sha256} of {self._blob.size_bytes} bytes",
            why="they were cut, changed on the way, or named wrongly",
            fix="send the whole file again, named by its own SHA-256",
        )
