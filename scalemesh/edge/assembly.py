"""The site hosts, joined: for the daemon, and for each serving process beside it."""

from collections.abc import Callable
from datetime import UTC, datetime

from scalemesh.config import MIB, Config
from scalemesh.edge.cache import BlobCache, Sites
from scalemesh.edge.front import Patience
from scalemesh.edge.listening import Edge
from scalemesh.edge.origins.proxy import Proxy
from scalemesh.edge.quick import Quick
from scalemesh.edge.visit import Visits
from scalemesh.ports import BlobStore, LocalFiles
from scalemesh.services.callers import Callers
from scalemesh.services.home_store import Cached
from scalemesh.services.routing import RouteTable


def make_edge(
    config: Config,
    routes: RouteTable,
    store: BlobStore,
    callers: Callers,
    proxy: Proxy,
    visited: Callable[[int, int, int], None],
) -> Edge:
    """The site hosts, with their memory: half of it for answers, half for the bytes that they are made of."""
    serving, limits = config.serving, config.edge
    half = serving.cache_mib * MIB // 2
    blobs = BlobCache(store, capacity_bytes=half, small_bytes=serving.cached_file_kib * 1024)
    file_of = store.path if isinstance(store, LocalFiles) else None
    sites = Sites(store, capacity_bytes=serving.manifest_cache_mib * MIB, file_of=file_of)
    quick = Quick(routes, sites, blobs, file_of=file_of, capacity_bytes=half, now=_utc_now)
    if isinstance(store, Cached):
        store.ask(quick.in_memory)
    return Edge(
        visits=Visits(routes, store, blobs=blobs, sites=sites, callers=callers, proxy=proxy, now=_utc_now),
        quick=quick,
        callers=callers,
        control=config.hosts.control,
        patience=Patience(
            idle_s=serving.keepalive_timeout_s,
            head_s=limits.head_timeout_s,
            stall_s=limits.stall_timeout_s,
            connections=limits.connections,
            connections_per_address=limits.connections_per_address,
        ),
        visited=visited,
    )


def _utc_now() -> datetime:
    return datetime.now(UTC)
