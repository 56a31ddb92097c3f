"""Joins the rules of the product over opened plug-ins; nothing starts to run by it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from builder.frameworks import immutable_patterns
from scalemesh.config import MIB, Config, Hosts
from scalemesh.db.database import Database
from scalemesh.ports import Checks, Executor, LocalFiles, LogBus, LogStore, Store
from scalemesh.services import upkeep
from scalemesh.services.accounts import Accounts
from scalemesh.services.asset_windows import AssetWindows
from scalemesh.services.builds import BuildCalls
from scalemesh.services.cached_store import CachedStore
from scalemesh.services.caches import Caches
from scalemesh.services.callers import Callers
from scalemesh.services.chores import Chores
from scalemesh.services.collector import GRACE, Collector
from scalemesh.services.deployer import Deployer
from scalemesh.services.disk_room import DiskRoom
from scalemesh.services.encoder import Encoder
from scalemesh.services.endings import Endings
from scalemesh.services.executors import Executors
from scalemesh.services.holdings import Holdings
from scalemesh.services.home_store import HomeStore
from scalemesh.services.janitor import Janitor
from scalemesh.services.ledger import Ledger
from scalemesh.services.left_caches import LeftCaches
from scalemesh.services.leftovers import Leftovers
from scalemesh.services.links import Links
from scalemesh.services.listings import Listings
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.services.moving import Moving
from scalemesh.services.openings import Openings
from scalemesh.services.projects import Projects
from scalemesh.services.publisher import Publisher, Stored
from scalemesh.services.receiving import Receiving
from scalemesh.services.releases import Releases
from scalemesh.services.retention import Expiry
from scalemesh.services.room import Room
from scalemesh.services.routing import Followers, Nobody, RouteTable
from scalemesh.services.scheduler import Scheduler
from scalemesh.services.standings import Standings
from scalemesh.services.uploads import Uploads
from scalemesh.services.usage import Measure, Usages, size_of
from scalemesh.services.vault import BuildTokens, Vault, load_key
from scalemesh.services.verifying import Verifying
from scalemesh.values import Digest

DAY_S: Final = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugins:
    """The four plug points, opened."""

    executors: Mapping[str, Executor]  #: by kind; the first is the default
    store: HomeStore
    stores: Openings
    logs: LogStore
    bus: LogBus

    def of_sites(self) -> dict[str, Checks]:
        """Those that sites need, by plug point."""
        return {"store": self.store, "logs": self.logs, "bus": self.bus}

    def of_builds(self) -> dict[str, Checks]:
        return {f"executor.{kind}": executor for kind, executor in self.executors.items()}

    def all(self) -> dict[str, Checks]:
        return self.of_builds() | self.of_sites()


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What keeps blobs, and throws them away."""

    caches: Caches
    chores: Chores
    collector: Collector
    disk: DiskRoom
    encoder: Encoder
    holdings: Holdings
    moving: Moving
    standings: Standings
    stored: Stored
    windows: AssetWindows


def store_services(config: Config, ledger: Ledger, plugins: Plugins, followers: Followers) -> Storage:
    """Join what works on the store."""
    database, store, now = ledger.database, plugins.store, utc_now
    disk = disk_room(config, store.home.raw)
    moving = Moving(
        database, store, plugins.stores,
        configured=config.kinds("store")[0], others=[name for name in config.store if name != "kind"],
        tell=followers.move, lacks=disk.lacks, now=now,
    )  # fmt: skip
    works = {"migrate": moving.run, "verify": Verifying(database, store).run}
    chores = Chores(works, moving.unfinished, now=now)
    holdings = Holdings(database, store)
    receiving = Receiving(database, store, holdings, config.builds.limits())
    return Storage(
        caches=Caches(
            database,
            store,
            holdings,
            far=lambda: store.home.raw,
            project_bytes=config.builds.cache_mib * MIB,
            days=config.builds.cache_days,
            now=now,
        ),
        chores=chores,
        collector=Collector(database, store, holdings, grace=GRACE, now=now),
        disk=disk,
        encoder=Encoder(ledger, store, holdings, most_bytes=config.serving.encoded_file_mib * MIB),
        holdings=holdings,
        moving=moving,
        standings=Standings(store, moving, chores),
        stored=Stored(store, holdings, Listings(store), receiving),
        windows=AssetWindows(ledger, store, holdings, days=config.serving.asset_window_days, now=now),
    )


def disk_room(config: Config, store: Store) -> DiskRoom:
    """The disks that hold the data, the local cache, the jobs of builds and, where its blobs lie here, the store."""
    executors = (config.plugin("executor", kind).settings for kind in config.kinds("executor"))
    jobs = [config.data_dir / str(settings["work_dir"]) for settings in executors if "work_dir" in settings]
    places = [config.data_dir]
    if isinstance(store, LocalFiles):
        places.append(store.path(Digest("0" * 64)).parent)
    return DiskRoom(places, config.disk, ballast=config.data_dir / "ballast", beside=[config.data_dir / "cache", *jobs])


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """What keeps the disk roomy, and tells what is on it."""

    expiry: Expiry
    janitor: Janitor
    usages: Usages


def upkeep_of(
    config: Config, database: Database, plugins: Plugins, storage: Storage, deployer: Deployer, logs: LogPipeline
) -> Upkeep:
    """Join what throws away."""
    now, days, disk = utc_now, config.serving.asset_window_days, storage.disk
    expiry = Expiry(database, deployer, logs, rules=config.retention, window_days=days, now=now)
    leftovers = Leftovers(database, plugins.store, plugins.logs, now=now)
    parts = [
        upkeep.local_caches(LeftCaches(config.data_dir, database, plugins.stores)),
        upkeep.caches(storage.caches, lambda: isinstance(plugins.store.home.raw, LocalFiles)),
        upkeep.deployments(expiry),
        upkeep.logs(expiry),
        upkeep.uploads(leftovers),
        upkeep.blobs(storage.collector),
    ]
    return Upkeep(
        expiry=expiry,
        janitor=Janitor(parts, is_tight=lambda: not disk.takes_builds, now=now),
        usages=Usages(database, disk, beside_blobs(config, storage, plugins.store), now=now),
    )


def beside_blobs(config: Config, storage: Storage, store: HomeStore) -> dict[str, Measure]:
    """What takes room besides the blob store, and how it is measured."""

    async def uploads() -> int:
        return storage.stored.receiving.in_flight_bytes()

    async def local_cache() -> int:
        near = store.home.store
        return near.used_bytes() if isinstance(near, CachedStore) else 0

    def files(*paths: Path) -> Measure:
        return lambda: size_of(paths)

    def database(path: Path) -> Measure:
        return files(*(path.with_name(path.name + end) for end in ("", "-wal", "-shm")))

    return {
        "uploads": uploads,
        "logs": database(config.data_dir / str(config.plugin("logs").settings.get("path", "logs.db"))),
        "database": database(config.data_dir / "scalemesh.db"),
        "local_cache": local_cache,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The rules of the product, joined."""

    accounts: Accounts
    builds: BuildCalls
    callers: Callers
    deployer: Deployer
    ledger: Ledger
    links: Links
    logs: LogPipeline
    projects: Projects
    publisher: Publisher
    releases: Releases
    routes: RouteTable
    scheduler: Scheduler
    storage: Storage
    upkeep: Upkeep
    tokens: BuildTokens
    uploads: Uploads

    def room_changed(self) -> None:
        """The disk has become fuller or roomier: builds may start or must wait, and room is made where it is short."""
        self.scheduler.wake()
        if not self.storage.disk.takes_builds:
            self.upkeep.janitor.wake()


def assemble(
    config: Config,
    database: Database,
    plugins: Plugins,
    port: int,
    *,
    routes: RouteTable | None = None,
    followers: Followers | None = None,
    counted: Callable[[int], None] = lambda _lines: None,
) -> Services:
    """Join the rules; nothing starts to run by it."""
    now, base, builds, limits = utc_now, config.hosts.base, config.builds, config.builds.limits()
    key = load_key(config.data_dir / "key")
    vault, tokens = Vault(key), BuildTokens(key, lifetime_s=builds.time_limit_s + DAY_S)
    links, routes, executors = Links(config.hosts, port), routes or RouteTable(), Executors(plugins.executors)
    room = Room(executors, builds, memory_for_builds(config))
    ledger = Ledger(database, routes, followers)
    logs = LogPipeline(plugins.logs, plugins.bus, now=now, counted=counted)
    storage = store_services(config, ledger, plugins, followers or Nobody())
    stored, windows, encoder, caches = storage.stored, storage.windows, storage.encoder, storage.caches
    endings = Endings(ledger, stored.receiving, logs, now=now)
    scheduler = Scheduler(
        ledger, executors, room, endings, logs, tokens, storage.disk,
        builds=builds, git=config.git, socket=str(config.builds_socket), now=now,
    )  # fmt: skip
    publisher = Publisher(
        ledger, stored, endings, logs, windows,
        limits=limits, base=base, site_url=links.of_host, immutable=immutable_patterns, is_ready=encoder.wake, now=now,
    )  # fmt: skip
    projects = Projects(
        ledger, vault, git=config.git, base=base, reserved=own_labels(config.hosts), executors=executors.kinds,
        rules=config.retention, now=now,
    )  # fmt: skip
    deployer = Deployer(
        ledger, executors, room, endings, logs, caches, windows,
        builds=builds, base=base, wake=scheduler.wake, now=now,
    )  # fmt: skip
    return Services(
        accounts=Accounts(database, config.accounts, now=now),
        builds=BuildCalls(
            database, stored, logs, publisher, projects, tokens, caches,
            builds=builds, git=config.git, site_url=links.permalink, now=now,
        ),
        callers=Callers(config.hosts.trusted_proxies, config.hosts.public_url),
        deployer=deployer,
        upkeep=upkeep_of(config, database, plugins, storage, deployer, logs),
        ledger=ledger, links=links, logs=logs, projects=projects, publisher=publisher,
        releases=Releases(ledger, windows), routes=routes, scheduler=scheduler, storage=storage, tokens=tokens,
        uploads=Uploads(database, stored, logs, publisher, limits=limits, wake=scheduler.wake),
    )  # fmt: skip


def own_labels(hosts: Hosts) -> set[str]:
    """Labels below the base that the control host has: a project of that name could never be visited."""
    return {hosts.control.removesuffix(f".{hosts.base}")} if hosts.control.endswith(f".{hosts.base}") else set()


def memory_for_builds(config: Config) -> int:
    """What all builds together may use, in bytes: the machine's memory (or the setting) less the reserve."""
    total = config.builds.total_memory_mib * MIB
    if not total:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(0, total - config.builds.reserve_mib * MIB)


def utc_now() -> datetime:
    return datetime.now(UTC)
