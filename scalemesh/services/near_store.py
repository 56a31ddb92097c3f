"""Opens the store, for the daemon and for each serving process beside it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from scalemesh import registry
from scalemesh.config import MIB, Config
from scalemesh.ports import Store
from scalemesh.services.cached_store import open_near
from scalemesh.services.vault import load_key, owner_of


@asynccontextmanager
async def open_store(config: Config, *, is_keeper: bool) -> AsyncIterator[Store]:
    """The store, as near as it can be had: one that lies elsewhere is read through the cache of this machine.

    *is_keeper*: as ``open_near``.

    Raises:
        ConfigError: no such kind, its package does not import, or wrong settings.
        UnreachableError: its folder, or that of the cache, cannot be used.
    """
    owner = owner_of(load_key(config.data_dir / "key"))
    capacity_bytes = config.cache.blobs_mib * MIB
    async with (
        registry.open_point("store", config, owner) as store,
        open_near(store, config.data_dir / "cache", capacity_bytes, is_keeper=is_keeper) as near,
    ):
        yield near
