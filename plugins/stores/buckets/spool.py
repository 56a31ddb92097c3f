"""Bytes on their way into a bucket, hashed while they come, kept until all of them have proven right."""

import hashlib
import tempfile
import threading
from typing import IO, Final

from scalemesh.errors import RefusedError, UnreachableError
from scalemesh.values import Blob

MEMORY_BYTES: Final = 1024 * 1024  #: more than this lies in an unnamed temporary file


class Checked:
    """Counts and hashes what comes, and knows whether it is the blob."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._hash, self._size = hashlib.sha256(), 0

    def add(self, data: bytes) -> None:
        """Raises RefusedError as soon as there is too much."""
        self._size += len(data)
        if self._size > self._blob.size_bytes:
            raise self.refused()
        self._hash.update(data)

    def prove(self) -> None:
        """Raises RefusedError if it is not the blob."""
        if self._size != self._blob.size_bytes or self._hash.hexdigest() != self._blob.sha256:
            raise self.refused()

    def refused(self) -> RefusedError:
        return RefusedError(
            f"the bytes sent are not blob {self._blob.sha256} of {self._blob.size_bytes} bytes",
            why="they were cut, changed on the way, or named wrongly",
            fix="send the whole file again, named by its own SHA-256",
        )


class Spool:
    """Holds one blob until it is whole. ``discard`` leaves nothing, whenever it is called."""

    def __init__(self, blob: Blob) -> None:
        self._checked = Checked(blob)
        self._lock = threading.Lock()  # discard may come while a cancelled caller's write is still under way
        self._small = bytearray()
        self._file: IO[bytes] | None = None
        self._over = False

    def write(self, data: bytes) -> None:
        with self._lock:
            if self._over:
                raise self._checked.refused()
            self._checked.add(data)
            if self._file is None and len(self._small) + len(data) <= MEMORY_BYTES:
                self._small += data
                return
            try:
                self._to_file(data)
            except OSError as error:
                fix = "free space in the folder for temporary files, or set TMPDIR to a larger one"
                raise UnreachableError("an upload cannot be kept while it comes", why=str(error), fix=fix) from error

    def finish(self, data: bytes) -> bytes | IO[bytes]:
        """Take the last bytes and return all, if they are the blob."""
        self.write(data)
        with self._lock:
            self._checked.prove()
            if self._file is None:
                return bytes(self._small)
            self._file.seek(0)
            return self._file

    def _to_file(self, data: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 -- discard closes it
            data = bytes(self._small) + data
            self._small.clear()
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def discard(self) -> None:
        with self._lock:
            self._over = True
            self._small.clear()
            if self._file is not None:
                self._file.close()
