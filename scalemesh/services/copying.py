"""A blob from one store into another, told apart what became of it."""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from enum import Enum, auto

from scalemesh.errors import NotFoundError, RefusedError, UnreachableError
from scalemesh.ports import BlobStore
from scalemesh.services.hashing import Hashing
from scalemesh.values import Blob


class Copied(Enum):
    DONE = auto()  #: it is in the target, or was before
    GONE = auto()  #: the source has it no more
    DAMAGED = auto()  #: its bytes in the source are not those that its name says; the target has nothing of it


async def copy(source: BlobStore, target: BlobStore, blob: Blob, hashing: Hashing | None = None) -> Copied:
    """Copy *blob*, hashed while it is read, in threads of *hashing*, and once more by the target before it counts.

    Raises:
        UnreachableError: one of the two does not answer, or does not take what was right when it was read.
    """
    reading = Reading(source, blob, hashing)
    try:
        async with aclosing(reading.chunks()) as chunks:
            await target.put(blob, chunks)
    except NotFoundError:
        return Copied.GONE
    except RefusedError as error:
        if reading.is_damaged:
            return Copied.DAMAGED
        raise UnreachableError(
            f"blob {blob.sha256} did not arrive as it was sent",
            why=error.what,
            fix="look at the target and its network",
        ) from error
    return Copied.DONE


async def is_damaged(store: BlobStore, blob: Blob, hashing: Hashing) -> bool:
    """Whether *store* gives other bytes than the blob's. Errors as ``BlobStore.read``."""
    reading = Reading(store, blob, hashing)
    async with aclosing(reading.chunks()) as chunks:
        async for _ in chunks:
            pass
    return reading.is_damaged


class Reading:
    """Reads a blob whole and hashes it on the way."""

    def __init__(self, source: BlobStore, blob: Blob, hashing: Hashing | None = None) -> None:
        self._source, self._blob, self._hashing = source, blob, hashing
        self._hash, self._size, self._is_whole = hashlib.sha256(), 0, False

    @property
    def is_damaged(self) -> bool:
        """Whether what was read so far cannot be the blob."""
        if self._is_whole:
            return (self._size, self._hash.hexdigest()) != (self._blob.size_bytes, self._blob.sha256)
        return self._size > self._blob.size_bytes

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The blob's bytes. Errors as ``BlobStore.read``."""
        async with aclosing(self._source.read(self._blob.sha256)) as chunks:
            async for chunk in chunks:
                if self._hashing is None:
                    self._hash.update(chunk)
                else:
                    await self._hashing.feed(self._hash.update, chunk)
                self._size += len(chunk)
                yield chunk
        self._is_whole = True
