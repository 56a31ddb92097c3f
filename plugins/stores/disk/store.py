"""Blobs and uploads as plain files of one directory: the default store, nothing to install.

``blobs/ab/<sha256>`` is write-once; ``staging/<deployment>/<attempt>/<sha256>`` is an upload, verified and durable;
the same name with ``.new`` is one that is verified and not yet durable; ``tmp/`` holds what is being written.
"""

import asyncio
import errno
import hashlib
import os
import re
import shutil
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, ParamSpec, Self, TypeVar
from uuid import uuid4

from plugins.stores.disk import files
from plugins.stores.disk.files import DIGEST
from plugins.stores.disk.fresh import Fresh
from scalemesh.errors import InvalidError, ScaleMeshError, UnreachableError
from scalemesh.faults import fault
from scalemesh.ports import Finding, Store
from scalemesh.values import Blob, DeploymentId, Digest, Kept

P = ParamSpec("P")
T = TypeVar("T")

CHUNK_BYTES: Final = 256 * 1024
READERS: Final = 4  # apart from the writers: an adoption of many files must not hold up a visit
WRITERS: Final = 8  # as many fsyncs as the journal of a file system gains from joining
LOW_BYTES: Final = 512 * 1024 * 1024  #: less room than this and the check says so
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
NEW: Final = ".new"
PAGE: Final = 1000
DEPLOYMENT: Final = re.compile(r"dpl_[a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskConfig:
    """Where the files lie."""

    path: Path  #: a directory of the store's own; made if absent


class DiskStore:
    """Implements Store: blobs and the staging area on one file system.

    All file work happens in threads of the store's own. A caller that is cancelled leaves at once; its thread ends
    the step that it is in.
    """

    Config = DiskConfig

    def __init__(self, config: DiskConfig, readers: ThreadPoolExecutor, writers: ThreadPoolExecutor) -> None:
        self._root = config.path
        self._readers, self._writers = readers, writers
        self._written: set[Path] = set()  # the .new files that this process wrote itself

    @classmethod
    @asynccontextmanager
    async def open(cls, config: DiskConfig) -> AsyncIterator[Self]:
        """Lay out the directory, remove what a dead daemon left in tmp/, yield the store."""
        readers = ThreadPoolExecutor(READERS, "disk-read")
        writers = ThreadPoolExecutor(WRITERS, "disk-write")
        store = cls(config, readers, writers)
        try:
            lock = await store._in(writers, files.lay_out, config.path)
            try:
                yield store
            finally:
                os.close(lock)
        finally:
            await asyncio.to_thread(readers.shutdown)
            await asyncio.to_thread(writers.shutdown)

    # BlobStore

    async def put(self, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        target = self.path(blob.sha256)

        def keep(written: Path) -> None:
            files.sync(written)
            files.link(written, target)
            files.sync(target.parent)

        await self._write(blob, chunks, keep)

    async def read(self, sha256: Digest, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        path, position = self.path(sha256), start
        if start < 0:
            raise InvalidError(f"a blob cannot be read from byte {start}")
        while True:
            # Opened anew for each chunk: an abandoned read leaks no descriptor, and a name never changes its bytes.
            data, end = await self._in(self._readers, files.read, path, position, stop, CHUNK_BYTES)
            if data:
                yield data
            position += len(data)
            if not data or position >= end:
                return

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        def look() -> set[Digest]:
            return {digest for digest in digests if not self.path(digest).exists()}

        return await self._in(self._readers, look)

    async def delete(self, digests: Collection[Digest]) -> None:
        def unlink() -> None:
            for digest in digests:
                self.path(digest).unlink(missing_ok=True)

        await self._in(self._writers, unlink)

    def path(self, sha256: Digest) -> Path:
        if not DIGEST.fullmatch(sha256):
            raise InvalidError(f"{sha256!r} is no SHA-256 in 64 lower-case hex digits")
        return self._root / "blobs" / sha256[:2] / sha256

    # Staging

    async def receive(self, deployment: DeploymentId, attempt: int, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        self.path(blob.sha256)  # refuses what is no digest
        target = self._room(deployment, attempt) / f"{blob.sha256}{NEW}"

        def keep(written: Path) -> None:
            for directory in (target.parent.parent, target.parent):
                directory.mkdir(mode=0o700, exist_ok=True)
            files.link(written, target)
            self._written.add(target)
            fault("store.staged_written")

        await self._write(blob, chunks, keep)

    async def received(self, deployment: DeploymentId, attempt: int) -> dict[Digest, int]:
        room = self._room(deployment, attempt)
        await self._settle(room)
        return await self._in(self._readers, files.sizes, room)

    async def adopt(self, deployment: DeploymentId, attempt: int, digests: Collection[Digest]) -> None:
        room = self._room(deployment, attempt)
        await self._settle(room)

        def link_all() -> set[Path]:
            targets = [self.path(digest) for digest in digests]
            for target in targets:
                files.adopt(room / target.name, target)
            return {target.parent for target in targets}

        # Every directory once, also where the name was there already: whoever made it may not have got so far.
        await self._sync_all(await self._in(self._writers, link_all))

    async def clear(self, deployment: DeploymentId) -> None:
        room = self._room(deployment, 0).parent

        def remove() -> None:
            gone = self._root / "tmp" / uuid4().hex
            with suppress(FileNotFoundError):
                room.rename(gone)  # as one: what an upload that ends just now adds, or renames, disturbs nothing
                files.remove_all(gone)

        await self._in(self._writers, remove)
        # A copy, because a thread may add to the set meanwhile.
        self._written.difference_update([path for path in self._written.copy() if room in path.parents])

    # Inventory

    async def blobs(self, after: Digest | None = None) -> AsyncGenerator[Sequence[Kept]]:
        first = after or Digest("")
        for number in range(int(first[:2] or "0", 16), 256):
            shard = self._root / "blobs" / f"{number:02x}"
            names = await self._in(self._readers, files.names_above, shard, first)
            for start in range(0, len(names), PAGE):
                yield await self._in(self._readers, files.kept, shard, names[start : start + PAGE])

    async def staged(self) -> Sequence[DeploymentId]:
        names = await self._in(self._readers, os.listdir, self._root / "staging")
        return [DeploymentId(name) for name in names if DEPLOYMENT.fullmatch(name)]  # not what a file system put there

    # Located, Checks

    @property
    def where(self) -> str:
        return str(self._root)

    async def check(self) -> Sequence[Finding]:
        data = os.urandom(32)
        blob = Blob(sha256=Digest(hashlib.sha256(data).hexdigest()), size_bytes=len(data))
        try:
            await self.put(blob, _once(data))
            async with aclosing(self.read(blob.sha256)) as chunks:
                intact = b"".join([chunk async for chunk in chunks]) == data
            await self.delete([blob.sha256])
            free = (await self._in(self._readers, shutil.disk_usage, self._root)).free
            is_roomy = free > LOW_BYTES
        except ScaleMeshError as error:
            full = isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL
            return [Finding(ok=False, what=f"{error.what} ({error.why})", fix=error.fix, may_pass=full)]
        health, more_room = "" if intact else "look at the disk's health", "" if is_roomy else _more_room(self._root)
        return [
            Finding(ok=intact, what=f"a blob was written to {self._root} and read", fix=health),
            Finding(ok=is_roomy, what=f"{_told(free)} are free for blobs", fix=more_room, may_pass=True),
        ]

    # How

    def _room(self, deployment: DeploymentId, attempt: int) -> Path:
        if not DEPLOYMENT.fullmatch(deployment) or attempt < 0:
            raise InvalidError(f"{deployment!r}, attempt {attempt}: no deployment has such a name")
        return self._root / "staging" / deployment / str(attempt)

    async def _write(self, blob: Blob, chunks: AsyncIterable[bytes], keep: Callable[[Path], None]) -> None:
        """Write *chunks* to a file of their own and, if they are *blob*, let *keep* name it; a small one in one hop."""
        fresh = Fresh(self._root / "tmp" / uuid4().hex, blob)
        waiting = bytearray()
        try:
            async for chunk in chunks:
                waiting += chunk
                if len(waiting) >= CHUNK_BYTES:
                    await self._in(self._writers, fresh.write, bytes(waiting))
                    waiting.clear()
            await self._in(self._writers, fresh.finish, bytes(waiting), keep)
        finally:
            # Shielded: a caller that is cancelled twice must leave no file either.
            await asyncio.shield(asyncio.wrap_future(self._writers.submit(fresh.discard)))

    async def _settle(self, room: Path) -> None:
        """Make the uploads in *room* durable and take away their ``.new``.

        Not done upload by upload: ten thousand small files take a second in eight threads here, and with a wait after
        each one several. Not by syncfs(2), although it is quicker on a quiet machine: it waits for what every other
        build has written to that file system as well, gigabytes of node_modules perhaps.
        """
        fresh = await self._in(self._writers, self._whole, room)
        if not fresh:
            return
        await self._sync_all(fresh)

        def rename() -> None:
            for path in fresh:
                with suppress(FileNotFoundError):  # another call has settled or cleared it meanwhile
                    path.replace(path.with_suffix(""))

        await self._in(self._writers, rename)
        await self._sync_all({room, room.parent, room.parent.parent})
        self._written.difference_update(fresh)

    def _whole(self, room: Path) -> list[Path]:
        """The uploads in *room* that are not durable yet, without those that a power failure has torn."""
        whole = []
        for path in sorted(room.glob(f"*{NEW}")):
            if path in self._written or files.digest(path) == path.stem:
                whole.append(path)
            else:
                path.unlink(missing_ok=True)
        return whole

    async def _sync_all(self, paths: Iterable[Path]) -> None:
        def sync(share: Sequence[Path]) -> None:
            for path in share:
                with suppress(FileNotFoundError):
                    files.sync(path)

        ordered = sorted(paths)
        shares = [ordered[number::WRITERS] for number in range(min(WRITERS, len(ordered)))]
        await asyncio.gather(*(self._in(self._writers, sync, share) for share in shares))

    async def _in(self, pool: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.wrap_future(pool.submit(function, *args, **kwargs))
        except OSError as error:
            full = error.errno in FULL
            raise UnreachableError(
                f"the blob store in {self._root} {'is full' if full else 'cannot be used'}",
                why=str(error),
                fix=_more_room(self._root) if full else "look at the directory's owner, its rights and its disk",
            ) from error


def _told(free_bytes: int) -> str:
    return f"{free_bytes / 1e9:.1f} GB" if free_bytes >= 1e9 else f"{free_bytes / 1e6:.0f} MB"


def _more_room(root: Path) -> str:
    return f"free space on the disk that holds {root}, or set [store.disk] path to a larger one"


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


if TYPE_CHECKING:
    _fits: type[Store] = DiskStore
