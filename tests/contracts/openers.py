"""Opens each kind of plug-in for the contract suites. A new kind adds one line to one table."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from plugins.logbus.memory import MemoryBus, MemoryConfig
from plugins.logstores.sqlite import SqliteConfig, SqliteLogStore
from plugins.stores.disk import DiskConfig, DiskStore
from scalemesh.ports import LogBus, LogStore, Store

#: kind -> how to open one whose state lives under a path (or is named after it), again and again
STORES: Final[Mapping[str, Callable[[Path], AbstractAsyncContextManager[Store]]]] = {
    "disk": lambda where: DiskStore.open(DiskConfig(path=where / "store")),
}
LOG_STORES: Final[Mapping[str, Callable[[Path], AbstractAsyncContextManager[LogStore]]]] = {
    "sqlite": lambda where: SqliteLogStore.open(SqliteConfig(path=where / "logs.sqlite3")),
}
#: kind -> how to open one that holds so many blocks for a slow subscriber
BUSES: Final[Mapping[str, Callable[[int], AbstractAsyncContextManager[LogBus]]]] = {
    "memory": lambda blocks: MemoryBus.open(MemoryConfig(queue_blocks=blocks)),
}
