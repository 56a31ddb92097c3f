"""What visits read again and again, kept in memory: small blobs and decoded manifests, each fetched once."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final, Generic, TypeVar

from scalemesh.errors import InvalidError, UnreachableError
from scalemesh.ports import BlobStore
from scalemesh.services import manifests
from scalemesh.values import Digest, Manifest

SMALL_BYTES: Final = 256 * 1024
BLOB_CACHE_BYTES: Final = 64 * 1024 * 1024
MANIFEST_CACHE_BYTES: Final = 32 * 1024 * 1024
FETCH_TIMEOUT_S: Final = 10.0

_EACH: Final = 200  #: what a key, its value's head and their places in two tables weigh, about
_ENTRY: Final = 500  #: an entry of a manifest in memory, about
_BLOCKING_BYTES: Final = 256 * 1024  #: longer manifests are decoded beside the event loop

K = TypeVar("K")
V = TypeVar("V")


class Shared(Generic[K, V]):
    """A least-recently-used store of bounded weight, filled by one fetch per key however many wait for it.

    A failed fetch fails for all who waited, and is not remembered. If the one who fetches is cancelled,
    another of those who wait takes over: no fetch runs for nobody, and none dies with a stranger.
    """

    def __init__(self, fetch: Callable[[K], Awaitable[V]], weigh: Callable[[V], int], capacity_bytes: int) -> None:
        self._fetch, self._weigh, self._capacity = fetch, weigh, capacity_bytes
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._fetching: dict[K, asyncio.Future[V]] = {}
        self.weight_bytes = 0

    def peek(self, key: K) -> V | None:
        """What is kept under *key* now."""
        value = self._kept.get(key)
        if value is not None:
            self._kept.move_to_end(key)
        return value

    async def get(self, key: K) -> V:
        """What belongs under *key*, fetched if need be; raises what the fetch raises."""
        while (value := self.peek(key)) is None:
            running = self._fetching.get(key)
            if running is None:
                return await self._lead(key)
            await asyncio.wait([running])
            if not running.cancelled():
                return running.result()
        return value

    async def _lead(self, key: K) -> V:
        outcome = self._fetching[key] = asyncio.get_running_loop().create_future()
        try:
            value = await self._fetch(key)
            self._keep(key, value)
            outcome.set_result(value)
        except Exception as error:
            outcome.set_exception(error)
            outcome.exception()  # seen: nobody else may be waiting
            raise
        finally:
            outcome.cancel()  # changes nothing where it is done
            del self._fetching[key]
        return value

    def _keep(self, key: K, value: V) -> None:
        weight = self._weigh(value) + _EACH
        if weight > self._capacity:
            return
        self._kept[key] = value
        self.weight_bytes += weight
        while self.weight_bytes > self._capacity:
            _, oldest = self._kept.popitem(last=False)
            self.weight_bytes -= self._weigh(oldest) + _EACH


class BlobCache:
    """Small blobs of *store*. Larger ones are the caller's to stream."""

    def __init__(
        self,
        store: BlobStore,
        *,
        capacity_bytes: int = BLOB_CACHE_BYTES,
        small_bytes: int = SMALL_BYTES,
        timeout_s: float = FETCH_TIMEOUT_S,
    ) -> None:
        self.small_bytes = small_bytes
        self._store, self._timeout_s = store, timeout_s
        self._shared: Shared[Digest, bytes] = Shared(self._fetch, len, capacity_bytes)

    async def read(self, sha256: Digest) -> bytes:
        """All bytes of a blob of at most ``small_bytes``.

        Raises:
            UnreachableError: the store does not answer in time.
            NotFoundError: it has no such blob.
        """
        return await self._shared.get(sha256)

    async def _fetch(self, sha256: Digest) -> bytes:
        return await read_all(self._store, sha256, self.small_bytes, self._timeout_s)


class ManifestCache:
    """Decoded manifests of *store*."""

    def __init__(
        self,
        store: BlobStore,
        *,
        capacity_bytes: int = MANIFEST_CACHE_BYTES,
        timeout_s: float = FETCH_TIMEOUT_S,
    ) -> None:
        self._store, self._timeout_s = store, timeout_s
        self._shared: Shared[Digest, Manifest] = Shared(self._fetch, _weight_of, capacity_bytes)

    async def read(self, sha256: Digest) -> Manifest:
        """The manifest that is kept as blob *sha256*.

        Raises:
            UnreachableError: the store does not answer in time.
            NotFoundError: it has no such blob.
            InvalidError: the blob is no manifest.
        """
        return await self._shared.get(sha256)

    async def _fetch(self, sha256: Digest) -> Manifest:
        data = await read_all(self._store, sha256, manifests.MAX_BYTES, self._timeout_s)
        if len(data) < _BLOCKING_BYTES:
            return manifests.decode(data)
        return await asyncio.to_thread(manifests.decode, data)


def _weight_of(manifest: Manifest) -> int:
    return sum(len(path) + _ENTRY for path in manifest.entries)


async def read_all(store: BlobStore, sha256: Digest, most_bytes: int, timeout_s: float) -> bytes:
    """All bytes of a blob of at most *most_bytes*.

    Raises:
        InvalidError: it is longer.
        UnreachableError: the store does not answer, or not within *timeout_s*.
        NotFoundError: it has no such blob.
    """
    data = bytearray()
    try:
        async with asyncio.timeout(timeout_s), aclosing(store.read(sha256)) as chunks:
            async for chunk in chunks:
                data += chunk
                if len(data) > most_bytes:
                    raise InvalidError(f"blob {sha256} is longer than {most_bytes} bytes")
    except TimeoutError as cause:
        raise UnreachableError(f"the store gave no blob within {timeout_s} s") from cause
    return bytes(data)
