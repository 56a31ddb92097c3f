"""Projects: create, list, show, change, delete; rollback, unpin and purge."""

from dataclasses import asdict, dataclass, field
from typing import Final

from aiohttp import web

from scalemesh.decode import decode
from scalemesh.services.asset_windows import AssetWindows
from scalemesh.services.deployer import Deployer
from scalemesh.services.projects import Projects
from scalemesh.services.releases import Releases
from scalemesh.values import BuildSettings, OwnRetention
from scalemesh.web.api.views import Views
from scalemesh.web.auth import signed_in
from scalemesh.web.bodies import query_number, read_as, read_json

PAGE: Final = 200
FAR: Final = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProject:
    name: str | None = None
    git_url: str | None = None
    production_branch: str | None = None
    settings: BuildSettings = field(default_factory=BuildSettings)
    executor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectChange:
    git_url: str | None
    production_branch: str | None
    settings: BuildSettings
    executor: str | None
    retention: OwnRetention


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedRollback:
    to: str | None = None  #: a deployment; None: the one before the live one


class ProjectRoutes:
    def __init__(
        self, projects: Projects, deployer: Deployer, releases: Releases, windows: AssetWindows, views: Views
    ) -> None:
        self._projects, self._deployer, self._releases = projects, deployer, releases
        self._windows, self._views = windows, views

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/projects", self.page),
            web.post("/api/v1/projects", self.create),
            web.get("/api/v1/projects/{project}", self.show),
            web.patch("/api/v1/projects/{project}", self.change),
            web.delete("/api/v1/projects/{project}", self.delete),
            web.post("/api/v1/projects/{project}/rollback", self.rollback),
            web.post("/api/v1/projects/{project}/unpin", self.unpin),
            web.post("/api/v1/projects/{project}/purge", self.purge),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """By name: ``?limit=`` (up to 200) and ``?offset=``; ``next`` is the offset to go on with."""
        limit = query_number(request, "limit", PAGE, low=1, high=PAGE)
        offset = query_number(request, "offset", 0, high=FAR)
        found = await self._projects.all(limit=limit, offset=offset)
        following = offset + limit if len(found) == limit else None
        return web.json_response({"projects": [self._views.project(one) for one in found], "next": following})

    async def create(self, request: web.Request) -> web.Response:
        wanted = await read_as(request, NewProject)
        project = await self._projects.create(
            signed_in(request),
            name=wanted.name,
            git_url=wanted.git_url,
            production_branch=wanted.production_branch,
            settings=wanted.settings,
            executor=wanted.executor,
        )
        return web.json_response(self._views.project(project), status=201)

    async def show(self, request: web.Request) -> web.Response:
        return web.json_response(self._views.project(await self._projects.named(request.match_info["project"])))

    async def change(self, request: web.Request) -> web.Response:
        """Change what the body names; null takes a setting back to its default."""
        project = await self._projects.named(request.match_info["project"])
        body = await read_json(request)
        names = ("git_url", "production_branch", "executor")
        now = {name: getattr(project, name) for name in names}
        settings = body.get("settings", {})
        if isinstance(settings, dict):
            given = {
                name: "" if name == "root_directory" and value is None else value for name, value in settings.items()
            }
            settings = asdict(project.settings) | given
        kept = body.get("retention", {})
        if isinstance(kept, dict):
            kept = asdict(project.retention) | kept
        change = decode(ProjectChange, now | body | {"settings": settings, "retention": kept})
        changed = await self._projects.change(
            project.id,
            git_url=change.git_url,
            production_branch=change.production_branch,
            settings=change.settings,
            executor=change.executor,
        )
        if change.retention != changed.retention:
            await self._projects.retain(project.id, change.retention)
            changed = await self._projects.named(project.id)
        return web.json_response(self._views.project(changed))

    async def delete(self, request: web.Request) -> web.Response:
        """Forget the project with all its deployments, hosts, variables and logs."""
        await self._deployer.delete_project(await self._projects.named(request.match_info["project"]))
        return web.Response(status=204)

    async def rollback(self, request: web.Request) -> web.Response:
        """Show an earlier deployment and hold it there; answers which."""
        project = await self._projects.named(request.match_info["project"])
        wanted = await read_as(request, WantedRollback)
        to = await self._deployer.get(wanted.to) if wanted.to else None
        shown = await self._releases.rollback(project, to)
        return web.json_response(self._views.deployment(await self._deployer.get(shown)))

    async def unpin(self, request: web.Request) -> web.Response:
        """Let newer deployments go live by themselves again."""
        project = await self._projects.named(request.match_info["project"])
        await self._releases.unpin(project.id)
        return web.json_response(self._views.project(await self._projects.named(project.id)))

    async def purge(self, request: web.Request) -> web.Response:
        """End at once what former production deployments still answer."""
        project = await self._projects.named(request.match_info["project"])
        await self._windows.purge(project.id)
        return web.json_response(self._views.project(project))
