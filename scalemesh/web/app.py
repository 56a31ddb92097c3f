"""Puts the control host together: which routes, behind which middlewares, with which headers."""

import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from aiohttp import web

from scalemesh.assembly import Services
from scalemesh.ports import Checks
from scalemesh.services.build_caches import BuildCacheCalls
from scalemesh.services.builds import BuildCalls
from scalemesh.services.caches import Caches
from scalemesh.services.disk_room import DiskRoom
from scalemesh.services.explaining import Explainer
from scalemesh.web.api.caches import CacheRoutes
from scalemesh.web.api.chores import ChoreRoutes
from scalemesh.web.api.deployments import DeploymentRoutes
from scalemesh.web.api.explain import ExplainRoutes
from scalemesh.web.api.health import HealthRoutes
from scalemesh.web.api.logs import LogRoutes
from scalemesh.web.api.projects import ProjectRoutes
from scalemesh.web.api.session import SessionRoutes
from scalemesh.web.api.storage import StorageRoutes
from scalemesh.web.api.tokens import TokenRoutes
from scalemesh.web.api.uploads import UploadRoutes
from scalemesh.web.api.variables import VariableRoutes
from scalemesh.web.api.views import Views
from scalemesh.web.auth import Gate
from scalemesh.web.build_caches import BuildCacheRoutes
from scalemesh.web.builds import BuildRoutes
from scalemesh.web.errors import BEGUN, REQUEST_ID, Errors
from scalemesh.web.follow import Followers
from scalemesh.web.live import LiveRoutes
from scalemesh.web.metrics import Metrics, MetricsRoutes
from scalemesh.web.read_only import ReadOnly
from scalemesh.web.ui.pages import add_pages

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FOLLOWERS: Final = web.AppKey("followers", Followers)


def make_control_app(
    services: Services,
    explainer: Explainer,
    checks: Mapping[str, Checks],
    metrics: Metrics,
    *,
    trusted: bool,
    builders: bool = False,
) -> web.Application:
    """API and pages. *explainer* knows what the edge knows; *checks* are the plug-ins by their plug point.

    *trusted* is for the admin socket: whoever reaches it is the owner; no browser does, so it has no pages. *builders*:
    those elsewhere come here too, as one public address for all; else they have places of their own alone.
    """
    gate = Gate(services.accounts, services.links, services.callers, trusted=trusted)
    followers = Followers(services.logs, services.deployer)
    app = _bare_app()
    if not trusted:
        _add_pages(app, gate, services, explainer)
    app.middlewares.append(gate.middleware)  # inside of the pages', which draw its refusals too
    app.middlewares.append(ReadOnly(services.storage.disk).middleware)
    for table in _api(services, gate, followers, trusted=trusted):
        app.add_routes(table)
    app.add_routes(ExplainRoutes(explainer).table())
    checks = {**checks, "disk": services.storage.disk}
    app.add_routes(HealthRoutes(services.deployer, checks, version=own_version(), clock=time.monotonic).table())
    app.add_routes(MetricsRoutes(metrics, services.deployer).table())
    if builders:
        _add_build_calls(app, services.builds, services.storage.caches)
    app[FOLLOWERS] = followers
    app.on_shutdown.append(_let_go)
    return app


def make_builds_app(calls: BuildCalls, caches: Caches, disk: DiskRoom) -> web.Application:
    """Only what builders talk to, for the socket in their sandboxes and the address of those elsewhere."""
    app = _bare_app()
    app.middlewares.append(ReadOnly(disk).middleware)
    _add_build_calls(app, calls, caches)
    return app


def _add_build_calls(app: web.Application, calls: BuildCalls, caches: Caches) -> None:
    app.add_routes(BuildRoutes(calls).table())
    app.add_routes(BuildCacheRoutes(calls, BuildCacheCalls(calls, caches)).table())


def _api(services: Services, gate: Gate, followers: Followers, *, trusted: bool) -> list[list[web.RouteDef]]:
    deployer, projects, releases, logs = services.deployer, services.projects, services.releases, services.logs
    views, storage, upkeep = Views(services.routes, services.links), services.storage, services.upkeep
    return [
        SessionRoutes(services.accounts, gate, services.links, trusted=trusted).table(),
        TokenRoutes(services.accounts).table(),
        ProjectRoutes(projects, deployer, releases, services.storage.windows, views).table(),
        CacheRoutes(storage.caches, projects).table(),
        VariableRoutes(projects).table(),
        DeploymentRoutes(deployer, projects, releases, views).table(),
        UploadRoutes(services.uploads, deployer).table(),
        LogRoutes(logs, deployer, followers, views, gate).table(),
        StorageRoutes(storage.disk, upkeep.usages, upkeep.janitor, upkeep.expiry).table(),
        ChoreRoutes(services.storage.chores, services.storage.moving).table(),
        LiveRoutes(deployer, followers, views, gate).table(),
    ]


def _add_pages(app: web.Application, gate: Gate, services: Services, explainer: Explainer) -> None:
    add_pages(
        app,
        gate,
        accounts=services.accounts,
        projects=services.projects,
        storage=services.storage,
        deployer=services.deployer,
        releases=services.releases,
        logs=services.logs,
        links=services.links,
        explainer=explainer,
        upkeep=services.upkeep,
        now=utc_now,
    )


async def _let_go(app: web.Application) -> None:
    app[FOLLOWERS].stop()


def _bare_app() -> web.Application:
    errors = Errors(new_id=lambda: secrets.token_hex(8))
    app = web.Application(middlewares=[errors.middleware])
    app.on_response_prepare.append(_add_headers)
    return app


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Streams too: hence not in a middleware, which sees them when they are over."""
    if REQUEST_ID not in request:
        return  # a visit of a site, which passed by our middlewares
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "Scale Mesh"  # not which versions of what
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    request[BEGUN] = response


def own_version() -> str:
    """Of the installed package; a source tree that runs by itself has none."""
    try:
        return version("scalemesh")
    except PackageNotFoundError:
        return "unknown"


def utc_now() -> datetime:
    return datetime.now(UTC)
