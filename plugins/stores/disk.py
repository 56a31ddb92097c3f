"""Blobs and uploads as plain files of one directory: the default store, nothing to install.

``blobs/ab/<sha256>`` is write-once; ``staging/<deployment>/<attempt>/<sha256>`` is an upload, verified and durable;
the same name with ``.new`` is one that is verified and not yet durable; ``tmp/`` holds what is being written.
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import re
import shutil
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, ParamSpec, Self, TypeVar
from uuid import uuid4

from scalemesh.errors import InvalidError, NotFoundError, RefusedError, ScaleMeshError, UnreachableError
from scalemesh.faults import fault
from scalemesh.ports import Finding, Store
from scalemesh.values import Blob, DeploymentId, Digest

P = ParamSpec("P")
T = TypeVar("T")

CHUNK_BYTES: Final = 256 * 1024
READERS: Final = 4  # apart from the writers: an adoption of many files must not hold up a visit
WRITERS: Final = 8  # as many fsyncs as the journal of a file system gains from joining
LOW_BYTES: Final = 512 * 1024 * 1024  #: less room than this and the check says so
NEW: Final = ".new"
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
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
            lock = await store._in(writers, _lay_out, config.path)
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
            _sync(written)
            _link(written, target)
            _sync(target.parent)

        await self._write(blob, chunks, keep)

    async def read(self, sha256: Digest, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        path, position = self.path(sha256), start
        if start < 0:
            raise InvalidError(f"a blob cannot be read from byte {start}")
        while True:
            # Opened anew for each chunk: an abandoned read leaks no descriptor, and a name never changes its bytes.
            data, end = await self._in(self._readers, _read, path, position, stop)
            if data:
                yield data
            position += len(data)
            if not data or position >= end:
                return

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        def look() -> set[Digest]:
            return {digest for digest in digests if not self.path(digest).exists()}

        return await self._in(self._readers, look)

    async def delete(self, sha256: Digest) -> None:
        await self._in(self._writers, self.path(sha256).unlink, missing_ok=True)

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
            _link(written, target)
            self._written.add(target)
            fault("store.staged_written")

        await self._write(blob, chunks, keep)

    async def received(self, deployment: DeploymentId, attempt: int) -> dict[Digest, int]:
        room = self._room(deployment, attempt)
        await self._settle(room)
        return await self._in(self._readers, _sizes, room)

    async def adopt(self, deployment: DeploymentId, attempt: int, digests: Collection[Digest]) -> None:
        room = self._room(deployment, attempt)
        await self._settle(room)

        def link_all() -> set[Path]:
            targets = [self.path(digest) for digest in digests]
            for target in targets:
                _adopt(room / target.name, target)
            return {target.parent for target in targets}

        # Every directory once, also where the name was there already: whoever made it may not have got so far.
        await self._sync_all(await self._in(self._writers, link_all))

    async def clear(self, deployment: DeploymentId) -> None:
        room = self._room(deployment, 0).parent

        def remove() -> None:
            gone = self._root / "tmp" / uuid4().hex
            with suppress(FileNotFoundError):
                room.rename(gone)  # as one: what an upload that ends just now adds, or renames, disturbs nothing
                shutil.rmtree(gone)

        await self._in(self._writers, remove)
        # A copy, because a thread may add to the set meanwhile.
        self._written.difference_update([path for path in self._written.copy() if room in path.parents])

    # Checks

    async def check(self) -> Sequence[Finding]:
        data = os.urandom(32)
        blob = Blob(sha256=Digest(hashlib.sha256(data).hexdigest()), size_bytes=len(data))
        try:
            await self.put(blob, _once(data))
            async with aclosing(self.read(blob.sha256)) as chunks:
                intact = b"".join([chunk async for chunk in chunks]) == data
            await self.delete(blob.sha256)
            free = (await self._in(self._readers, shutil.disk_usage, self._root)).free
            is_roomy = free > LOW_BYTES
        except ScaleMeshError as error:
            return [Finding(ok=False, what=f"{error.what} ({error.why})", fix=error.fix)]
        health, more_room = "" if intact else "look at the disk's health", "" if is_roomy else _more_room(self._root)
        return [
            Finding(ok=intact, what=f"a blob was written to {self._root} and read", fix=health),
            Finding(ok=is_roomy, what=f"{free / 1e9:.1f} GB are free for blobs", fix=more_room),
        ]

    # How

    def _room(self, deployment: DeploymentId, attempt: int) -> Path:
        if not DEPLOYMENT.fullmatch(deployment) or attempt < 0:
            raise InvalidError(f"{deployment!r}, attempt {attempt}: no deployment has such a name")
        return self._root / "staging" / deployment / str(attempt)

    async def _write(self, blob: Blob, chunks: AsyncIterable[bytes], keep: Callable[[Path], None]) -> None:
        """Write *chunks* to a file of their own and, if they are *blob*, let *keep* name it; a small one in one hop."""
        fresh = _Fresh(self._root / "tmp" / uuid4().hex, blob)
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
            if path in self._written or _digest(path) == path.stem:
                whole.append(path)
            else:
                path.unlink(missing_ok=True)
        return whole

    async def _sync_all(self, paths: Iterable[Path]) -> None:
        def sync(share: Sequence[Path]) -> None:
            for path in share:
                with suppress(FileNotFoundError):
                    _sync(path)

        ordered = sorted(paths)
        shares = [ordered[number::WRITERS] for number in range(min(WRITERS, len(ordered)))]
        await asyncio.gather(*(self._in(self._writers, sync, share) for share in shares))

    async def _in(self, pool: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.wrap_future(pool.submit(function, *args, **kwargs))
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            raise UnreachableError(
                f"the blob store in {self._root} {'is full' if full else 'cannot be used'}",
                why=str(error),
                fix=_more_room(self._root) if full else "look at the directory's owner, its rights and its disk",
            ) from error


class _Fresh:
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


def _lay_out(root: Path) -> int:
    """Make the directories, clean tmp/ unless another process works there, and return the lock to hold."""
    shards = [root / "blobs" / f"{number:02x}" for number in range(256)]
    root.parent.mkdir(parents=True, exist_ok=True)
    for directory in [root, root / "tmp", root / "staging", root / "blobs", *shards]:  # parents=True ignores the mode
        directory.mkdir(mode=0o700, exist_ok=True)
    for directory in [root / "blobs", root, root.parent]:
        _sync(directory)
    lock = os.open(root / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    with suppress(BlockingIOError):  # `scalemesh check` opens the store beside a living daemon
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for leftover in (root / "tmp").iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def _adopt(staged: Path, target: Path) -> None:
    try:
        _link(staged, target)
    except FileNotFoundError as error:
        if not target.exists():
            raise NotFoundError(f"{target.name} was not uploaded by this attempt") from error


def _link(source: Path, target: Path) -> None:
    """Give *source* a second name; never replaces: a torn or foreign file cannot win."""
    fault("store.before_link")
    with suppress(FileExistsError):
        target.hardlink_to(source)
    fault("store.after_link")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, start: int, stop: int | None) -> tuple[bytes, int]:
    """One chunk from *start* on, and where the reading ends."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no blob {path.name}") from error
    try:
        size = os.fstat(descriptor).st_size
        end = size if stop is None else min(size, stop)
        return os.pread(descriptor, max(0, min(CHUNK_BYTES, end - start)), start), end
    finally:
        os.close(descriptor)


def _sizes(room: Path) -> dict[Digest, int]:
    try:
        with os.scandir(room) as names:
            return {Digest(name.name): name.stat().st_size for name in names if DIGEST.fullmatch(name.name)}
    except FileNotFoundError:  # nothing was uploaded
        return {}


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def _more_room(root: Path) -> str:
    return f"free space on the disk that holds {root}, or set [store.disk] path to a larger one"


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


if TYPE_CHECKING:
    _fits: type[Store] = DiskStore
