"""Opens stores as near as they can be had, for the daemon and for each serving process beside it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from scalemesh import registry
from scalemesh.config import MIB, Config
from scalemesh.keeping import Disk
from scalemesh.services.cache_files import SPARE
from scalemesh.services.cached_store import open_near
from scalemesh.services.disk_room import BACK_PERCENT
from scalemesh.services.home_store import Place
from scalemesh.services.openings import Open
from scalemesh.services.vault import load_key, owner_of


def places(config: Config, *, is_keeper: bool) -> Open:
    """Opens stores by their tables of the config: that of the kind which fills the plug point, and any other.

    One that lies elsewhere is read through a cache of this machine, which each kind has for itself. *is_keeper*: as
    ``open_near`` and ``registry.open_point``. What is opened raises ConfigError for settings that have mistakes,
    UnreachableError for a folder that cannot be used.
    """
    owner = owner_of(load_key(config.data_dir / "key"))
    capacity_bytes, left_free = config.cache.blobs_mib * MIB, spare(config.disk)
    reserve_bytes = config.disk.reserve_mib * MIB

    @asynccontextmanager
    async def open_place(kind: str) -> AsyncIterator[Place]:
        root = config.data_dir / "cache" / kind
        async with (
            registry.open_point("store", config, owner, kind=kind, is_keeper=is_keeper) as raw,
            open_near(
                raw, root, capacity_bytes, is_keeper=is_keeper, spare=left_free, reserve_bytes=reserve_bytes
            ) as near,
        ):
            yield Place(kind, near, raw)

    return open_place


def spare(limits: Disk) -> float:
    """The part of its disk that the cache leaves free: it gives way before a build has to wait for room."""
    marked = (100 - limits.high_water_percent + BACK_PERCENT + 0.5) / 100 if limits.high_water_percent < 100 else 0.0
    return max(SPARE, marked)
