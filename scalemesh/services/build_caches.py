"""What the builder may ask of the caches, fenced by its attempt."""

from collections.abc import AsyncGenerator, AsyncIterable

from scalemesh.services.builds import Attempt, BuildCalls
from scalemesh.services.caches import Caches, Place
from scalemesh.values import Blob, CacheEntry, CacheKind, Digest, NewCacheEntry, SignedRequest


class BuildCacheCalls:
    """Every call raises GoneError where the attempt is over, ConflictError where another builder has it."""

    def __init__(self, builds: BuildCalls, caches: Caches) -> None:
        self._builds, self._caches = builds, caches

    async def find(
        self, attempt: Attempt, kind: CacheKind, key: str, prefix: str
    ) -> tuple[CacheEntry, SignedRequest | None] | None:
        """As ``Caches.find``."""
        return await self._caches.find(await self._builds.deployment(attempt), kind, key, prefix)

    async def read(self, attempt: Attempt, sha256: Digest) -> tuple[int, AsyncGenerator[bytes]]:
        """As ``Caches.read``."""
        return await self._caches.read(await self._builds.deployment(attempt), sha256)

    async def place(self, attempt: Attempt, blob: Blob) -> Place:
        """As ``Caches.place``."""
        return await self._caches.place(await self._builds.deployment(attempt), blob)

    async def receive(self, attempt: Attempt, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        """As ``Caches.receive``."""
        await self._caches.receive(await self._builds.deployment(attempt), blob, chunks)

    async def keep(self, attempt: Attempt, new: NewCacheEntry) -> bool:
        """As ``Caches.keep``."""
        return await self._caches.keep(await self._builds.deployment(attempt), new)
