"""Files of this machine, read only where that waits for no disk: the event loop serves everybody else meanwhile."""

import os
from pathlib import Path


def read_now(path: Path, at_most: int) -> bytes | None:
    """All bytes of a file of *at_most* so many, if the system has them in memory; else None."""
    return _read(path, 0, None, at_most)


def read_part_now(path: Path, start: int, stop: int) -> bytes | None:
    """The bytes of a file from *start* up to, not including, *stop*, if the system has them in memory; else None."""
    return _read(path, start, stop, stop - start)


def _read(path: Path, start: int, stop: int | None, at_most: int) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        size_bytes = (os.fstat(descriptor).st_size if stop is None else stop) - start
        if size_bytes > at_most:
            return None
        data = bytearray(size_bytes)
        return bytes(data) if os.preadv(descriptor, [data], start, os.RWF_NOWAIT) == size_bytes else None
    except OSError:
        return None
    finally:
        os.close(descriptor)
