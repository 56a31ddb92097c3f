"""A store that lies elsewhere, read through a cache on this machine: whole blobs, each fetched once and verified.

With the store away, what is cached is served, also after a restart.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from scalemesh.amounts import size
from scalemesh.errors import DamagedError, InvalidError, ScaleMeshError, UnreachableError
from scalemesh.ports import Direct, Finding, LocalFiles, Store
from scalemesh.services.cache_files import SPARE, CacheFiles, clear_leftovers
from scalemesh.services.draft import Draft
from scalemesh.services.fetches import Fetches
from scalemesh.values import Blob, DeploymentId, Digest, Kept, SignedRequest

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 256 * 1024
PIECE_BYTES: Final = 1024 * 1024  #: goes to the disk in one step; a blob that is no larger lies in memory until then
READERS: Final = 4
WRITERS: Final = 4
STALL_S: Final = 10.0  #: the store may keep one chunk waiting so long
POLL_S: Final = 0.05  #: between looks at whether another process has fetched a blob
TEND_S: Final = 1.0
TOUCH_S: Final = 600.0  #: how exactly it is known what was used last
MOST_NOTED: Final = 200_000  #: blobs used between two touches


class CachedStore:
    """Implements Store over *far*, and LocalFiles: what is in the cache lies on this machine."""

    def __init__(self, far: Store, files: CacheFiles, readers: ThreadPoolExecutor, writers: ThreadPoolExecutor) -> None:
        self.far = far
        self._files, self._readers, self._writers = files, readers, writers
        self._fetches = Fetches(self._fetched)
        self._used: set[Digest] = set()
        self._in_memory: Callable[[], Iterable[Digest]] = tuple

    # BlobStore

    async def put(self, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        if blob.size_bytes > PIECE_BYTES:
            await self.far.put(blob, chunks)
            return
        sent = bytearray()
        async with aclosing(_copied(chunks, sent, PIECE_BYTES)) as copied:
            await self.far.put(blob, copied)
        await self._keep(blob, bytes(sent))

    async def read(self, sha256: Digest, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        """As the contract says.

        Raises:
            NotFoundError: no such blob.
            DamagedError: the store gives other bytes than the blob's, again and again.
            UnreachableError: it is not in the cache, and the store does not give it.
        """
        if start < 0:
            raise InvalidError(f"a blob cannot be read from byte {start}")
        descriptor = self._open(sha256)
        self._note(sha256)
        if descriptor is None:
            descriptor = await self._fetches.descriptor(sha256)
        try:
            size_bytes = os.fstat(descriptor).st_size
            end = size_bytes if stop is None else min(size_bytes, stop)
            async with aclosing(self._chunks(descriptor, start, end)) as chunks:
                async for data in chunks:
                    yield data
        finally:
            os.close(descriptor)

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        return await self.far.missing(digests)

    async def delete(self, digests: Collection[Digest]) -> None:
        await self.far.delete(digests)
        await self._in(self._writers, self._files.remove, digests)

    # LocalFiles

    def path(self, sha256: Digest) -> Path:
        path = self._files.path(sha256)
        self._note(sha256)
        return path

    # Staging

    async def receive(self, deployment: DeploymentId, attempt: int, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        await self.far.receive(deployment, attempt, blob, chunks)

    async def received(self, deployment: DeploymentId, attempt: int) -> dict[Digest, int]:
        return await self.far.received(deployment, attempt)

    async def adopt(self, deployment: DeploymentId, attempt: int, digests: Collection[Digest]) -> None:
        await self.far.adopt(deployment, attempt, digests)

    async def clear(self, deployment: DeploymentId) -> None:
        await self.far.clear(deployment)

    # Inventory

    def blobs(self, after: Digest | None = None) -> AsyncGenerator[Sequence[Kept]]:
        return self.far.blobs(after)

    async def staged(self) -> Sequence[DeploymentId]:
        return await self.far.staged()

    # Checks

    async def check(self) -> Sequence[Finding]:
        """Of the store, and of the cache's room where the store works: else that would look like half of it did."""
        found = list(await self.far.check())
        if not any(finding.ok for finding in found):
            return found
        return [*found, await self._room()]

    async def _room(self) -> Finding:
        try:
            lacking_bytes = await self._in(self._readers, self._files.lacking_bytes)
        except UnreachableError as error:
            return Finding(ok=False, what=error.what, fix=error.fix)
        what = f"blobs are cached in {self._files.root}, up to {size(self._files.capacity_bytes)}"
        return Finding(ok=True, what=what, fix="free room on its disk: until then it shrinks" if lacking_bytes else "")

    def used_bytes(self) -> int:
        """What the cache takes of this machine's disk, about."""
        return self._files.used_bytes()

    async def forget(self, sha256: Digest) -> bool:
        """Remove what the cache has of a blob, which has rotted there; false where it has nothing of it."""
        is_here = self._files.path(sha256).exists()
        await self._in(self._writers, self._files.remove, [sha256])
        return is_here

    async def restore(self, sha256: Digest) -> bool:
        """Put what the cache has of a blob in the place of what the store has; false where it has not got it whole."""
        try:
            descriptor = self._files.open(sha256)
        except OSError:
            return False
        if descriptor is None:
            return False
        try:
            if not await self._in(self._readers, _is_whole, descriptor, sha256):
                return False
            blob = Blob(sha256=sha256, size_bytes=os.fstat(descriptor).st_size)
            await self.far.delete([sha256])
            async with aclosing(self._chunks(descriptor, 0, blob.size_bytes)) as chunks:
                await self.far.put(blob, chunks)
        finally:
            os.close(descriptor)
        return True

    # What is in use

    def ask(self, in_memory: Callable[[], Iterable[Digest]]) -> None:
        """Let *in_memory* say from now on which blobs are read from memory: they are in use too."""
        self._in_memory = in_memory

    async def touch(self) -> None:
        """Note on the files what was used since the last time."""
        used, self._used = self._used | set(self._in_memory()), set()
        await self._in(self._writers, self._files.touch, used)

    async def tend(self) -> None:
        """Keep the cache to its cap, and leave others some room on its disk."""
        await self._in(self._writers, self._files.tend)

    async def close(self) -> None:
        """End what is being fetched."""
        await self._fetches.close()

    def _note(self, sha256: Digest) -> None:
        if len(self._used) < MOST_NOTED:
            self._used.add(sha256)

    # How

    async def _chunks(self, descriptor: int, position: int, end: int) -> AsyncGenerator[bytes]:
        while position < end:
            data = await self._in(self._readers, os.pread, descriptor, min(CHUNK_BYTES, end - position), position)
            if not data:
                raise UnreachableError("a cached blob has become shorter")
            yield data
            position += len(data)

    def _open(self, sha256: Digest) -> int | None:
        try:
            return self._files.open(sha256)
        except OSError as error:
            raise self._unusable(error) from error

    async def _fetched(self, sha256: Digest) -> int:
        """A descriptor of the blob, fetched by whichever process of this machine comes first."""
        while not self._files.lock(sha256):
            if (found := self._open(sha256)) is not None:
                return found
            await asyncio.sleep(POLL_S)
        try:
            if (found := self._open(sha256)) is not None:
                return found
            try:
                return await self._got(sha256)
            except DamagedError as error:
                log.warning("a blob came damaged and is fetched again", extra={"blob": sha256, "error": str(error)})
                return await self._got(sha256)
        finally:
            self._files.unlock(sha256)

    async def _got(self, sha256: Digest) -> int:
        draft, waiting = Draft(self._files, sha256), bytearray()
        try:
            async with aclosing(self.far.read(sha256)) as chunks:
                while (chunk := await _next(chunks)) is not None:
                    waiting += chunk
                    if len(waiting) > PIECE_BYTES:
                        await self._in(self._writers, draft.write, bytes(waiting))
                        waiting.clear()
            await self._in(self._writers, draft.finish, bytes(waiting))
            return draft.take()
        finally:
            # Shielded: a fetch that is cancelled twice must leave no file either.
            await asyncio.shield(asyncio.wrap_future(self._writers.submit(draft.discard)))

    async def _keep(self, blob: Blob, data: bytes) -> None:
        """Cache what was just stored: it is what visitors will ask for. One that is not whole is left to a fetch."""
        draft = Draft(self._files, blob.sha256)
        try:
            if len(data) == blob.size_bytes:
                await self._in(self._writers, draft.finish, data)
        except ScaleMeshError as error:
            log.info("a blob is not cached", extra={"blob": blob.sha256, "error": error.what})
        finally:
            await asyncio.shield(asyncio.wrap_future(self._writers.submit(draft.discard)))

    async def _in(self, pool: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.wrap_future(pool.submit(function, *args, **kwargs))
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> UnreachableError:
        root = self._files.root
        return UnreachableError(
            f"the cache in {root} cannot be used", why=str(error), fix=f"look at the rights and the disk of {root}"
        )


class CachedDirectStore(CachedStore):
    """The same over a store that builders may speak to themselves: implements Direct too."""

    def __init__(
        self, far: Store, direct: Direct, files: CacheFiles, readers: ThreadPoolExecutor, writers: ThreadPoolExecutor
    ) -> None:
        """*direct* is *far*, by its other port."""
        super().__init__(far, files, readers, writers)
        self._direct = direct

    async def upload_urls(
        self, deployment: DeploymentId, attempt: int, blobs: Sequence[Blob]
    ) -> Sequence[SignedRequest | None]:
        return await self._direct.upload_urls(deployment, attempt, blobs)

    async def download_url(self, sha256: Digest) -> SignedRequest:
        return await self._direct.download_url(sha256)


@asynccontextmanager
async def open_near(
    store: Store, root: Path, capacity_bytes: int, *, is_keeper: bool, spare: float = SPARE, reserve_bytes: int = 0
) -> AsyncIterator[Store]:
    """*store* itself if its blobs lie on this machine; else through the cache in *root*.

    *is_keeper*: this process keeps the cache to *capacity_bytes*, leaves the part *spare* of its disk to others, and
    removes what dead ones left; one of those that share the folder should. Large blobs leave its disk *reserve_bytes*.

    Raises:
        UnreachableError: the folder cannot be used.
    """
    if isinstance(store, LocalFiles):
        yield store
        return
    readers, writers = ThreadPoolExecutor(READERS, "cache-read"), ThreadPoolExecutor(WRITERS, "cache-write")
    try:
        files = await asyncio.to_thread(_opened, root, capacity_bytes, spare, reserve_bytes, is_keeper=is_keeper)
    except OSError as error:
        fix = f"look at the rights and the disk of {root}"
        raise UnreachableError(f"the cache in {root} cannot be used", why=str(error), fix=fix) from error
    near = (
        CachedDirectStore(store, store, files, readers, writers)
        if isinstance(store, Direct)
        else CachedStore(store, files, readers, writers)
    )
    chores = [_every(TOUCH_S, near.touch), *([_every(TEND_S, near.tend)] if is_keeper else [])]
    tasks = [asyncio.create_task(chore) for chore in chores]
    try:
        yield near
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await near.close()
        with suppress(UnreachableError):
            await near.touch()
        for pool in (readers, writers):
            await asyncio.to_thread(pool.shutdown)
        await asyncio.to_thread(files.close)


def _opened(root: Path, capacity_bytes: int, spare: float, reserve_bytes: int, *, is_keeper: bool) -> CacheFiles:
    if is_keeper:
        clear_leftovers(root)
    return CacheFiles(root, capacity_bytes, is_keeper=is_keeper, spare=spare, reserve_bytes=reserve_bytes)


def _is_whole(descriptor: int, sha256: Digest) -> bool:
    try:
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


async def _every(pause_s: float, work: Callable[[], Coroutine[None, None, None]]) -> None:
    while True:
        try:
            await work()
        except UnreachableError as error:
            log.warning("the local cache is not kept in order", extra={"error": str(error)})
        except Exception:
            log.exception("a bug: the local cache is not kept in order")
        await asyncio.sleep(pause_s)


async def _next(chunks: AsyncGenerator[bytes]) -> bytes | None:
    try:
        async with asyncio.timeout(STALL_S):
            return await anext(chunks, None)
    except TimeoutError as cause:
        raise UnreachableError(f"the store gave no bytes within {STALL_S:.0f} s") from cause


async def _copied(chunks: AsyncIterable[bytes], into: bytearray, most_bytes: int) -> AsyncGenerator[bytes]:
    """*chunks*, and what went by, up to *most_bytes*, in *into*."""
    async for chunk in chunks:
        into += chunk[: max(0, most_bytes - len(into))]
        yield chunk


if TYPE_CHECKING:
    _fits: type[Store] = CachedStore
    _reads_here: type[LocalFiles] = CachedStore
    _is_direct: type[Direct] = CachedDirectStore
