"""Opens the store, for the daemon and for each serving process beside it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from scalemesh import registry
from scalemesh.config import MIB, Config
from scalemesh.keeping import Disk
from scalemesh.ports import Store
from scalemesh.services.cache_files import SPARE
from scalemesh.services.cached_store import open_near
from scalemesh.services.disk_room import BACK_PERCENT
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
    root, capacity_bytes = config.data_dir / "cache", config.cache.blobs_mib * MIB
    async with (
        registry.open_point("store", config, owner) as store,
        open_near(store, root, capacity_bytes, is_keeper=is_keeper, spare=spare(config.disk)) as near,
    ):
        yield near


def spare(limits: Disk) -> float:
    """The part of its disk that the cache leaves free: it gives way before a build has to wait for room."""
    marked = (100 - limits.high_water_percent + BACK_PERCENT + 0.5) / 100 if limits.high_water_percent < 100 else 0.0
    return max(SPARE, marked)
