"""Deployments: submit by ref, by Git URL or for an upload; list, show, cancel, promote, redeploy, delete."""

from dataclasses import dataclass, replace
from typing import Final, Literal

from aiohttp import web

from scalemesh.rules import Dialect
from scalemesh.services.deployer import Deployer, Wanted
from scalemesh.services.projects import Projects
from scalemesh.services.releases import Releases
from scalemesh.values import BuildSettings, Deployment, Project, ProjectId, SourceKind, User
from scalemesh.web.api.views import Views
from scalemesh.web.auth import signed_in
from scalemesh.web.bodies import query_number, read_as

PAGE: Final = 50
MAX_PAGE: Final = 200
FAR: Final = 1 << 53
UPLOADS: Final = {"source": SourceKind.UPLOAD, "prebuilt": SourceKind.PREBUILT}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDeployment:
    """A ref of the project's repository, or an upload whose files follow."""

    branch: str | None = None
    commit: str | None = None
    production: bool | None = None
    upload: Literal["source", "prebuilt"] | None = None
    dialect: Dialect | None = None
    no_cache: bool = False  #: take over nothing that earlier builds kept

    def __post_init__(self) -> None:
        if self.upload is not None and self.commit is not None:
            raise ValueError("upload: has no commit")

    def wanted(self) -> Wanted:
        source = UPLOADS[self.upload] if self.upload else SourceKind.GIT
        return Wanted(
            source=source,
            branch=self.branch,
            commit=self.commit,
            production=self.production,
            dialect=self.dialect,
            uses_cache=not self.no_cache,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GitUrl:
    """A Git URL to deploy from: its project is found again, or made."""

    git_url: str
    root_directory: str | None = None
    project: str | None = None
    branch: str | None = None
    commit: str | None = None
    production: bool | None = None
    dialect: Dialect | None = None  #: of this deployment alone
    no_cache: bool = False
    settings: BuildSettings | None = None

    def wanted(self) -> Wanted:
        return Wanted(
            branch=self.branch,
            commit=self.commit,
            production=self.production,
            dialect=self.dialect,
            uses_cache=not self.no_cache,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedRedeployment:
    no_cache: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedKeep:
    kept: bool = True


class DeploymentRoutes:
    def __init__(self, deployer: Deployer, projects: Projects, releases: Releases, views: Views) -> None:
        self._deployer, self._projects, self._releases, self._views = deployer, projects, releases, views

    def table(self) -> list[web.RouteDef]:
        one = "/api/v1/deployments/{deployment}"
        return [
            web.get("/api/v1/deployments", self.page),
            web.post("/api/v1/deployments", self.create_from_url),
            web.get("/api/v1/projects/{project}/deployments", self.page),
            web.post("/api/v1/projects/{project}/deployments", self.create),
            web.get(one, self.show),
            web.delete(one, self.delete),
            web.post(f"{one}/cancel", self.cancel),
            web.post(f"{one}/keep", self.keep),
            web.post(f"{one}/promote", self.promote),
            web.post(f"{one}/redeploy", self.redeploy),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """Newest first: ``?limit=`` (up to 200) and ``?before=``; ``next`` is the ``before`` to go on with."""
        project: ProjectId | None = None
        if name := request.match_info.get("project"):
            project = (await self._projects.named(name)).id
        limit = query_number(request, "limit", PAGE, low=1, high=MAX_PAGE)
        before = query_number(request, "before", FAR, high=FAR)
        found = await self._deployer.page(project, before=before, limit=limit)
        following = found[-1].sequence if len(found) == limit else None
        return web.json_response({"deployments": [self._views.deployment(one) for one in found], "next": following})

    async def create(self, request: web.Request) -> web.Response:
        """Queue a deployment, or begin one whose files are uploaded next."""
        project = await self._projects.named(request.match_info["project"])
        wanted = await read_as(request, NewDeployment)
        return await self._submit(signed_in(request), project, wanted.wanted())

    async def create_from_url(self, request: web.Request) -> web.Response:
        """Find or make the project of a Git URL, and queue a deployment of it."""
        user, wanted = signed_in(request), await read_as(request, GitUrl)
        settings = wanted.settings or BuildSettings()
        if wanted.root_directory is not None:
            settings = replace(settings, root_directory=wanted.root_directory)
        project = await self._projects.of_source(user, wanted.git_url, name=wanted.project, settings=settings)
        if wanted.settings is not None and project.settings != settings:
            project = await self._projects.change(
                project.id,
                git_url=project.git_url,
                production_branch=project.production_branch,
                settings=replace(settings, root_directory=project.settings.root_directory),
                executor=project.executor,
            )
        return await self._submit(user, project, wanted.wanted())

    async def show(self, request: web.Request) -> web.Response:
        return web.json_response(self._views.deployment(await self._named(request)))

    async def delete(self, request: web.Request) -> web.Response:
        await self._deployer.delete(request.match_info["deployment"])
        return web.Response(status=204)

    async def cancel(self, request: web.Request) -> web.Response:
        return web.json_response(self._views.deployment(await self._deployer.cancel(request.match_info["deployment"])))

    async def keep(self, request: web.Request) -> web.Response:
        """Keep it whatever the rules of retention say; ``{"kept": false}`` leaves it to them again."""
        wanted = await read_as(request, WantedKeep)
        found = await self._deployer.keep(request.match_info["deployment"], kept=wanted.kept)
        return web.json_response(self._views.deployment(found))

    async def promote(self, request: web.Request) -> web.Response:
        """Make it what production shows. No build."""
        deployment = await self._named(request)
        await self._releases.promote(deployment)
        return web.json_response(self._views.deployment(deployment))

    async def redeploy(self, request: web.Request) -> web.Response:
        """The same source once more, as a new deployment."""
        deployment, wanted = await self._named(request), await read_as(request, WantedRedeployment)
        project = await self._projects.named(deployment.project)
        user, uses_cache = signed_in(request), not wanted.no_cache
        again = await self._deployer.redeploy(user, deployment, project, uses_cache=uses_cache)
        return web.json_response(self._views.deployment(again), status=202)

    async def _submit(self, user: User, project: Project, wanted: Wanted) -> web.Response:
        deployment = await self._deployer.submit(user, project, wanted)
        return web.json_response(self._views.deployment(deployment), status=202)

    async def _named(self, request: web.Request) -> Deployment:
        return await self._deployer.get(request.match_info["deployment"])
