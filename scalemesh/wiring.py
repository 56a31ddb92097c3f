"""Builds every object of the daemon, on one screen: top to bottom the order of start, backwards that of stop."""

import asyncio
import logging
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from scalemesh import registry
from scalemesh.assembly import Plugins, Services, assemble, utc_now
from scalemesh.config import Builds, Config, Hosts
from scalemesh.daemon import Daemon, bound_sockets, only_daemon, until_signal
from scalemesh.db.database import open_database
from scalemesh.db.homes import Home
from scalemesh.edge.assembly import make_edge
from scalemesh.edge.origins.proxy import Proxy
from scalemesh.edge.workers import Workers
from scalemesh.errors import ConfigError, RefusedError, ScaleMeshError
from scalemesh.ports import Checks, Finding
from scalemesh.services import homes
from scalemesh.services.build_environment import read_bundle
from scalemesh.services.explaining import Explainer
from scalemesh.services.home_store import HomeStore
from scalemesh.services.near_store import places
from scalemesh.services.openings import openings
from scalemesh.services.outgoing import Outgoing
from scalemesh.services.proofs import PROBE_S, proven
from scalemesh.services.routing import RouteTable
from scalemesh.services.vault import load_key, owner_of
from scalemesh.web.app import make_builds_app, make_control_app
from scalemesh.web.metrics import Metrics
from scalemesh.web.outlet import Outlet
from scalemesh.web.upstream import Upstreams

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_plugins(config: Config, home: Home, *, is_daemon: bool = True) -> AsyncIterator[Plugins]:
    """Open what fills each plug point, blobs living in *home*; closed in the opposite order.

    *is_daemon*: not beside a running one.
    """
    root = config.git.file_root
    if root is not None and not root.is_dir():
        raise ConfigError(f"git.file_root = {str(root)!r}: no such folder", fix="make it, or correct the path")
    owner = owner_of(load_key(config.data_dir / "key"))
    async with AsyncExitStack() as opened:
        use = opened.enter_async_context
        stores = await use(openings(places(config, is_keeper=is_daemon)))
        store = HomeStore(await stores.open(home.kind), await stores.former(home))
        points = {point: await use(registry.open_point(point, config, owner)) for point in ("logs", "bus")}
        kinds = config.kinds("executor")
        executors = {kind: await use(registry.open_point("executor", config, owner, kind=kind)) for kind in kinds}
        yield Plugins(executors=executors, store=store, stores=stores, **points)


@asynccontextmanager
async def build(config: Config) -> AsyncIterator[Daemon]:
    """Everything that `scalemesh serve` runs; tests call this with another config."""
    async with AsyncExitStack() as opened:
        listeners = opened.enter_context(bound_sockets(config.listen, max(1, config.serving_processes)))
        database = await opened.enter_async_context(open_database(config.data_dir / "scalemesh.db"))
        home = await homes.settle(database, config.kinds("store")[0], utc_now)
        plugins = await opened.enter_async_context(open_plugins(config, home))
        await prove(plugins)
        await asyncio.to_thread(shutil.rmtree, config.data_dir / "caches", ignore_errors=True)  # of earlier versions
        proxy = await opened.enter_async_context(Proxy(config.proxy))
        for finding in of_proxies(config.hosts):
            if finding.fix:
                log.warning("hosts: %s", finding.what, extra={"fix": finding.fix})
        metrics = Metrics()
        routes = RouteTable()
        workers = serving_workers(config, home, listeners, routes, metrics.visits)
        services = assemble(
            config,
            database,
            plugins,
            listeners[0].getsockname()[1],
            routes=routes,
            followers=workers,
            counted=metrics.log_lines,
        )
        edge = make_edge(config, services.routes, plugins.store, services.callers, proxy, metrics.visits)
        explainer = Explainer(edge.visits.explain, control=config.hosts.control)
        yield Daemon(
            config,
            listeners,
            load=services.ledger.load,
            control=make_control_app(
                services,
                explainer,
                plugins.all(),
                metrics,
                trusted=False,
                builders=config.builds.public_url is not None,
            ),
            admin=make_control_app(services, explainer, plugins.all(), metrics, trusted=True),
            builds=make_builds_app(services.builds, services.storage.caches, services.storage.disk),
            outlet=make_outlet(services, config.builds),
            workers=workers,
            edge=edge,
            background=background(services, plugins),
        )


def background(services: Services, plugins: Plugins) -> list[Callable[[], Coroutine[None, None, None]]]:
    """What goes on beside answering, for as long as the daemon runs."""
    return [
        services.publisher.serve,
        services.scheduler.serve,
        services.storage.encoder.serve,
        services.storage.collector.serve,
        services.upkeep.janitor.serve,
        partial(services.storage.disk.serve, services.room_changed),
        services.storage.chores.serve,
        services.storage.moving.tidy,
        partial(tell_of_builds, plugins.of_builds()),  # a tiny build: sites do not wait for it
    ]


def make_outlet(services: Services, builds: Builds) -> Outlet:
    """The way out for builds that have no network of their own."""
    return Outlet(Outgoing(services.builds, services.logs, builds), builds.allow_networks, Upstreams(builds.env))


def serving_workers(
    config: Config,
    home: Home,
    listeners: Sequence[socket.socket],
    routes: RouteTable,
    visited: Callable[[int, int, int], None],
) -> Workers | None:
    """The processes that serve sites; None where the daemon does it itself."""
    if not config.serving_processes:
        return None
    setup = replace(config, store={**config.store, "kind": home.kind})
    return Workers([sys.executable, "-m", "scalemesh.worker"], setup, listeners, routes, visited=visited)


async def serve(config: Config, ready: Callable[[Daemon], None] = lambda _daemon: None) -> None:
    """Run the daemon until a signal; running builds go on, the next start adopts them.

    Raises:
        ConfigError: another daemon runs on the same data, the port is taken, or a plug-in does not work.
    """
    with only_daemon(config.data_dir):
        async with build(config) as daemon:
            await until_signal(lambda: daemon.serve(lambda: ready(daemon)))


async def check(config: Config, executor: str | None = None) -> list[tuple[str, Finding]]:
    """Open everything and prove each plug-in; (plug point or table of the config, finding) for each thing looked at.

    *executor*: the kind of the one that is to be proven alone.

    Raises:
        ConfigError: something cannot be opened, or the config lists no such executor.
    """
    if executor is not None and executor not in config.kinds("executor"):
        raise ConfigError(
            f"{executor!r} is no executor of this config", fix=f"choose one of {', '.join(config.kinds('executor'))}"
        )
    async with AsyncExitStack() as opened:
        database = await opened.enter_async_context(open_database(config.data_dir / "scalemesh.db"))
        configured = config.kinds("store")[0]
        home = await homes.settle(database, configured, utc_now, notes=False)
        plugins = await opened.enter_async_context(open_plugins(config, home, is_daemon=False))
        if executor is not None:
            return await findings({f"executor.{executor}": plugins.executors[executor]})
        found = await findings(plugins.all())
        told = [("hosts", finding) for finding in of_proxies(config.hosts)]
        told += [("store", finding) for finding in homes.finding_of(home, configured)]
        told += [("builds", finding) for finding in (*of_authorities(config.builds), *of_address(config))]
        return [*told, *found]


def of_proxies(hosts: Hosts) -> list[Finding]:
    """Which proxies are believed, where there seem to be any."""
    if hosts.trusted_proxies:
        return [Finding(ok=True, what=f"trusted proxies: {', '.join(hosts.trusted_proxies)}")]
    if hosts.public_url is None:
        return []
    what = "public_url names a proxy, and none is trusted: all its visitors share one count of tries to sign in"
    return [Finding(ok=True, what=what, fix="set trusted_proxies to the address that it comes from")]


def of_authorities(builds: Builds) -> list[Finding]:
    """Whether builds can be told whom to trust, where it is not the system's."""
    if not builds.ca_bundle:
        return []
    try:
        read_bundle(builds.ca_bundle)
    except RefusedError as error:
        return [
            Finding(ok=False, what=": ".join(filter(None, (error.what, error.why))), fix="correct builds.ca_bundle")
        ]
    return [Finding(ok=True, what=f"builds trust the authorities in {builds.ca_bundle}")]


def of_address(config: Config) -> list[Finding]:
    """Whether builders elsewhere come to where they are answered, as far as names tell."""
    url, control = config.builds.public_url, config.hosts.control
    if url is None or config.builds.listen is not None or urlsplit(url).hostname == control:
        return []
    what = f"builds.public_url = {url!r}: builders are answered on {control} alone, and that is another name"
    fix = "name hosts.control in it, set builds.listen, or let the proxy in front ask for hosts.control"
    return [Finding(ok=True, what=what, fix=fix)]


async def prove(plugins: Plugins) -> None:
    """Let the plug-ins that sites need prove themselves.

    What is wrong with one that works all the same (a disk that is nearly full), or that may pass (a store elsewhere
    that is away), is told and lived with: the sites must come up.

    Raises:
        ConfigError: one does not work at all, and will not by itself.
    """
    found = await findings(plugins.of_sites(), PROBE_S)
    working = {point for point, finding in found if finding.ok}
    for point, finding in found:
        if finding.ok:
            continue
        if point not in working and not finding.may_pass:
            raise ConfigError(f"{point}: {finding.what}", fix=finding.fix)
        log.error("%s: %s", point, finding.what, extra={"fix": finding.fix})


async def tell_of_builds(executors: Mapping[str, Checks]) -> None:
    """Let each executor prove itself, and say so where builds cannot run, or not as well as they should (unprotected).

    It is lived with: such an executor refuses builds, and after a reboot the sites must come up all the same.
    """
    async with asyncio.TaskGroup() as group:
        for part, executor in executors.items():
            group.create_task(_tell_of(part, executor))


async def _tell_of(part: str, executor: Checks) -> None:
    try:
        found = await executor.check()
    except (ScaleMeshError, OSError) as error:
        found = [Finding(ok=False, what=str(error))]
    except Exception:  # sites and the other executors go on
        log.exception("a bug: %s cannot say whether it works", part)
        return
    for finding in found:
        if not finding.ok:
            log.error("%s: builds cannot run: %s", part, finding.what, extra={"fix": finding.fix})
        elif finding.fix:
            log.warning("%s: %s", part, finding.what, extra={"fix": finding.fix})


async def findings(points: Mapping[str, Checks], within_s: float | None = None) -> list[tuple[str, Finding]]:
    """What each plug-in finds of itself, all looked at at once; *within_s* as for ``proven``."""
    found = await asyncio.gather(*(proven(plugin, within_s) for plugin in points.values()))
    return [(point, finding) for point, each in zip(points, found, strict=True) for finding in each]
