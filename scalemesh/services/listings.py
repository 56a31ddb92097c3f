"""Lists of files (what a build made, what was uploaded), kept as blobs: state first, effect second."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from scalemesh.ports import BlobStore
from scalemesh.services import long_lists
from scalemesh.values import Blob, Digest

MOST_HELD: Final = 8  #: sources that builds ask for at the same time; of others the list is read again


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFile:
    path: str  #: relative, "/" between its parts
    sha256: Digest
    size_bytes: int
    is_executable: bool = False


class Listings:
    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._held: OrderedDict[Digest, frozenset[Digest]] = OrderedDict()  # a source is asked for file by file

    async def read(self, listing: Digest) -> list[OutputFile]:
        """The files of a list.

        Raises:
            NotFoundError: no such list.
        """
        return await asyncio.to_thread(_decoded, await whole(self._store, listing))

    async def holds(self, listing: Digest, sha256: Digest) -> bool:
        """Whether a file of the list has those bytes."""
        held = self._held.get(listing)
        if held is None:
            held = self._held[listing] = frozenset(file.sha256 for file in await self.read(listing))
        self._held.move_to_end(listing)
        while len(self._held) > MOST_HELD:
            self._held.popitem(last=False)
        return sha256 in held


async def whole(store: BlobStore, sha256: Digest) -> bytes:
    """All bytes of a blob that is known to be small."""
    async with aclosing(store.read(sha256)) as chunks:
        return b"".join([chunk async for chunk in chunks])


def distinct(files: Sequence[OutputFile]) -> list[Blob]:
    """What *files* hold, each once."""
    sizes = {file.sha256: file.size_bytes for file in files}
    return [Blob(sha256=sha256, size_bytes=size) for sha256, size in sizes.items()]


def encoded(files: Sequence[OutputFile]) -> bytes:
    """The list as a blob. The same files make the same bytes. It blocks: some microseconds for each of them."""
    rows = sorted([f.path, f.sha256, f.size_bytes, int(f.is_executable)] for f in files)
    return long_lists.written(rows).encode()


def _decoded(data: bytes) -> list[OutputFile]:
    return [
        OutputFile(path=path, sha256=Digest(sha256), size_bytes=size, is_executable=bool(executable))
        for path, sha256, size, executable in long_lists.parsed(data)
    ]


async def put_bytes(store: BlobStore, data: bytes) -> Digest:
    """Store *data* durably and return its digest."""
    blob = Blob(sha256=Digest(hashlib.sha256(data).hexdigest()), size_bytes=len(data))
    await store.put(blob, _once(data))
    return blob.sha256


async def _once(data: bytes) -> AsyncGenerator[bytes]:
    yield data
