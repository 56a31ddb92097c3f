"""Puts the dashboard's pages onto the control host's application."""

from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from scalemesh.assembly import Storage, Upkeep
from scalemesh.services.accounts import Accounts
from scalemesh.services.deployer import Deployer
from scalemesh.services.explaining import Explainer
from scalemesh.services.links import Links
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.services.projects import Projects
from scalemesh.services.releases import Releases
from scalemesh.web.auth import Gate
from scalemesh.web.ui.account_pages import AccountPages
from scalemesh.web.ui.cache_pages import CachePages
from scalemesh.web.ui.deployment_pages import DeploymentPages
from scalemesh.web.ui.explain_pages import ExplainPages
from scalemesh.web.ui.failures import PageFailures
from scalemesh.web.ui.one_project_pages import OneProjectPages
from scalemesh.web.ui.project_pages import ProjectPages
from scalemesh.web.ui.render import Renderer
from scalemesh.web.ui.sign_in_pages import SignInPages
from scalemesh.web.ui.sites import Sites
from scalemesh.web.ui.static_files import StaticFiles
from scalemesh.web.ui.storage_pages import StoragePages
from scalemesh.web.ui.store_pages import StorePages


def add_pages(
    app: web.Application,
    gate: Gate,
    *,
    accounts: Accounts,
    projects: Projects,
    deployer: Deployer,
    releases: Releases,
    logs: LogPipeline,
    links: Links,
    explainer: Explainer,
    storage: Storage,
    upkeep: Upkeep,
    now: Callable[[], datetime],
) -> None:
    """Add the pages to *app*, and the middleware that draws failures; the gate's own middleware comes after it."""
    static_files, sites = StaticFiles.of_package(), Sites(links.base, links.of_host)
    renderer = Renderer(static_files, storage.disk, now=now)
    app.middlewares.append(PageFailures(renderer).middleware)
    deployment_pages = DeploymentPages(
        renderer, projects=projects, deployer=deployer, releases=releases, logs=logs, sites=sites
    )
    store_pages = StorePages(renderer, storage.standings, storage.chores)
    for pages in (
        static_files,
        SignInPages(renderer, accounts, gate),
        AccountPages(renderer, accounts, gate),
        ProjectPages(renderer, projects, deployer, sites),
        OneProjectPages(renderer, projects, deployer, releases, storage.caches, sites),
        CachePages(storage.caches, projects),
        ExplainPages(renderer, projects, explainer, sites),
        store_pages,
        StoragePages(renderer, store_pages, storage.disk, upkeep),
        deployment_pages,
    ):
        app.add_routes(pages.table())
