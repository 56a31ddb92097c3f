"""A far store behind a door, and local caches of it that a test opens again and again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from scalemesh.services.cached_store import CachedStore, open_near
from tests.contracts.test_stores import blob_of
from tests.rigs.far_store import FarStore


class Rig:
    """A far store, and caches of it that are opened again and again."""

    def __init__(self, home: Path, far: FarStore) -> None:
        self.home, self.far, self.door = home, far, far.door

    @asynccontextmanager
    async def near(
        self, capacity_bytes: int = 1 << 30, *, is_keeper: bool = True, spare: float = 0.0
    ) -> AsyncIterator[CachedStore]:
        root = self.home / "cache"
        async with open_near(self.far, root, capacity_bytes, is_keeper=is_keeper, spare=spare) as near:
            assert isinstance(near, CachedStore)
            yield near

    def cached(self) -> set[str]:
        """The blobs in the cache, each proven right."""
        found: dict[str, bytes] = {}
        for path in (self.home / "cache" / "blobs").glob("*/*"):
            with suppress(FileNotFoundError):  # what makes room may be at work
                found[path.name] = path.read_bytes()
        assert all(blob_of(data).sha256 == name for name, data in found.items())
        return set(found)

    def temporary(self) -> list[Path]:
        return list((self.home / "cache" / "tmp").glob("*/*"))

    def temporary_folder(self) -> Path:
        """That of a process whose cache is open."""
        return next((self.home / "cache" / "tmp").iterdir())
