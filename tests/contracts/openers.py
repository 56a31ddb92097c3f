"""Opens each kind of plug-in for the contract suites. A new kind adds one line to one table."""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from plugins.logbus.memory import MemoryBus, MemoryConfig
from plugins.logstores.sqlite import SqliteConfig, SqliteLogStore
from plugins.stores.buckets.sending import Sizes
from plugins.stores.disk import DiskConfig, DiskStore
from plugins.stores.minio import MinioConfig, MinioStore
from plugins.stores.s3 import S3Config, S3Store
from scalemesh.ports import LogBus, LogStore, Store
from scalemesh.services.cached_store import open_near
from scalemesh.values import Secret
from tests.rigs import s3_servers
from tests.rigs.far_store import FarConfig, FarStore

OWNER: Final = "an installation of the tests"


@asynccontextmanager
async def cached(where: Path) -> AsyncIterator[Store]:
    """A store elsewhere, read through a local cache."""
    async with (
        FarStore.open(FarConfig(path=where / "far")) as far,
        open_near(far, where / "cache", 1 << 30, is_keeper=True) as near,
    ):
        yield near


def in_bucket(server: str, where: Path, **more: Any) -> dict[str, Any]:
    """Settings of a store in a place of its own, named after *where*, on one of the servers."""
    return {
        "bucket": s3_servers.BUCKET,
        "prefix": hashlib.sha256(str(where).encode()).hexdigest()[:16],
        "endpoint": s3_servers.url_of(server),
        "region": s3_servers.REGION,
        "access_key": s3_servers.ACCESS_KEY,
        "secret_key": Secret(s3_servers.SECRET_KEY),
        "owner": OWNER,
        **more,
    }


def _s3(server: str, where: Path, sizes: Sizes | None = None, **more: Any) -> AbstractAsyncContextManager[S3Store]:
    return S3Store.open(S3Config(**in_bucket(server, where, **more)), sizes)


def _minio(
    server: str, where: Path, sizes: Sizes | None = None, **more: Any
) -> AbstractAsyncContextManager[MinioStore]:
    return MinioStore.open(MinioConfig(**in_bucket(server, where, **more)), sizes)


#: (kind, server) -> how to open one in a bucket
BUCKETS: Final[Mapping[str, Callable[..., AbstractAsyncContextManager[S3Store | MinioStore]]]] = {
    "s3-weed": partial(_s3, "weed"),
    "minio-weed": partial(_minio, "weed"),
    "s3-ministack": partial(_s3, "ministack"),
    "minio-ministack": partial(_minio, "ministack"),
    "s3-moto": partial(_s3, "moto"),
}
#: the same, where every adoption is a list at first, and is copied only when somebody needs that
LATE: Final[Mapping[str, Callable[..., AbstractAsyncContextManager[S3Store | MinioStore]]]] = {
    f"{kind}-late": partial(BUCKETS[kind], sizes=Sizes(listed_uploads=1, settled_after_s=600.0))
    for kind in ("s3-weed", "minio-weed", "s3-ministack")
}
#: kind -> how to open one whose state lives under a path (or is named after it), again and again
STORES: Final[Mapping[str, Callable[[Path], AbstractAsyncContextManager[Store]]]] = {
    "cached": cached,
    "disk": lambda where: DiskStore.open(DiskConfig(path=where / "store")),
    **BUCKETS,
    **LATE,
}
LOG_STORES: Final[Mapping[str, Callable[[Path], AbstractAsyncContextManager[LogStore]]]] = {
    "sqlite": lambda where: SqliteLogStore.open(SqliteConfig(path=where / "logs.sqlite3")),
}
#: kind -> how to open one that holds so many blocks for a slow subscriber
BUSES: Final[Mapping[str, Callable[[int], AbstractAsyncContextManager[LogBus]]]] = {
    "memory": lambda blocks: MemoryBus.open(MemoryConfig(queue_blocks=blocks)),
}


def server_of(kind: str) -> str:
    """The server that one of that kind is on."""
    return kind.split("-")[1]


def everything(kind: str, where: Path) -> list[str]:
    """The name of all that a store has under *where*, unfinished things too."""
    if kind in {"disk", "cached"}:
        return sorted(str(path) for path in where.rglob("*"))
    settings = in_bucket(server_of(kind), where)
    client, place = (
        s3_servers.client(settings["endpoint"]),
        {"Bucket": settings["bucket"], "Prefix": settings["prefix"]},
    )
    objects = (
        item["Key"]
        for page in client.get_paginator("list_objects_v2").paginate(**place)
        for item in page.get("Contents", [])
    )
    parts = (item["UploadId"] for item in client.list_multipart_uploads(**place).get("Uploads", []))
    return sorted([*objects, *parts])
