"""The pages of one project: its deployments, its environment variables, its settings."""

from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web

from builder.protocol import MIN_SECRET_CHARS
from scalemesh.errors import InvalidError, ScaleMeshError
from scalemesh.services.caches import Caches
from scalemesh.services.deployer import Deployer, Wanted
from scalemesh.services.projects import Projects
from scalemesh.services.releases import Releases
from scalemesh.services.sources import check_branch
from scalemesh.values import Environment, OwnRetention, Project
from scalemesh.web.auth import signed_in
from scalemesh.web.ui.forms import Form, kept_number, read_form
from scalemesh.web.ui.project_pages import checked, page_number
from scalemesh.web.ui.render import Renderer
from scalemesh.web.ui.sign_in_pages import see
from scalemesh.web.ui.sites import Sites

PAGE: Final = 20
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
RETENTION: Final = tuple(OwnRetention.__slots__)


class OneProjectPages:
    def __init__(
        self,
        renderer: Renderer,
        projects: Projects,
        deployer: Deployer,
        releases: Releases,
        caches: Caches,
        sites: Sites,
    ) -> None:
        self._renderer, self._projects, self._caches = renderer, projects, caches
        self._deployer, self._releases, self._sites = deployer, releases, sites

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/projects/{project}", self.show),
            web.post("/projects/{project}/deploy", self.deploy),
            web.post("/projects/{project}/rollback", self.rollback),
            web.post("/projects/{project}/unpin", self.unpin),
            web.get("/projects/{project}/environment", self.show_environment),
            web.post("/projects/{project}/environment", self.set_variable),
            web.post("/projects/{project}/environment/{name}/delete", self.drop_variable),
            web.get("/projects/{project}/settings", self.show_settings),
            web.post("/projects/{project}/settings", self.change),
            web.post("/projects/{project}/retention", self.retain),
            web.post("/projects/{project}/delete", self.delete),
        ]

    async def show(self, request: web.Request) -> web.Response:
        project = await self._project(request)
        before = page_number(request.query.get("before", ""))
        found = await self._deployer.page(project.id, before=before or None, limit=PAGE + 1)
        live = await self._deployer.get(project.live) if project.live else None
        return self._page(
            request,
            "project.html",
            project,
            deployments=found[:PAGE],
            live=live,
            cached=await self._caches.total(project.id),
            before=before,
            following=found[PAGE - 1].sequence if len(found) > PAGE else None,
            is_active=any(not deployment.is_final for deployment in found),
        )

    async def deploy(self, request: web.Request) -> web.Response:
        """Deploy the newest commit of a branch, and go and watch it."""
        user, project, form = signed_in(request), await self._project(request), await read_form(request)
        branch = form.text_or_none("branch")
        if branch is not None:
            check_branch(branch)
        deployment = await self._deployer.submit(
            user, project, Wanted(branch=branch or None, uses_cache=not form.text("no_cache"))
        )
        return see(f"/deployments/{deployment.id}")

    async def rollback(self, request: web.Request) -> web.Response:
        """Show the production deployment before the live one, and hold it there."""
        project = await self._project(request)
        await self._releases.rollback(project)
        return see(f"/projects/{project.name}?did=rollback")

    async def unpin(self, request: web.Request) -> web.Response:
        project = await self._project(request)
        await self._releases.unpin(project.id)
        return see(f"/projects/{project.name}?did=unpinned")

    async def show_environment(self, request: web.Request) -> web.Response:
        return await self._environment_page(request, await self._project(request))

    async def set_variable(self, request: web.Request) -> web.Response:
        project, form = await self._project(request), await read_form(request)
        environments = tuple(environment for environment in Environment if form.text(environment))
        if not environments:
            error = InvalidError("Choose an environment", why="builds of no environment would get it")
            return await self._environment_page(request, project, form.failing("environments", error))
        try:
            await self._projects.set_variable(project.id, form.text("name"), environments, form.raw("value"))
        except InvalidError as error:
            field = "value" if error.what.startswith("the value") else "name"
            return await self._environment_page(request, project, form.failing(field, error))
        did = "set" if len(form.raw("value")) >= MIN_SECRET_CHARS else "set-short"
        return see(f"/projects/{project.name}/environment?did={did}")

    async def drop_variable(self, request: web.Request) -> web.Response:
        project = await self._project(request)
        await self._projects.drop_variable(project.id, request.match_info["name"], None)
        return see(f"/projects/{project.name}/environment?did=removed")

    async def show_settings(self, request: web.Request) -> web.Response:
        project = await self._project(request)
        return self._settings_page(request, project, Form(_as_form(project)))

    async def change(self, request: web.Request) -> web.Response:
        project, form = await self._project(request), await read_form(request)
        form = checked(Form({**form.values, "name": ""})) if project.git_url else form
        if not form.wrong:
            try:
                await self._projects.change(
                    project.name,
                    git_url=form.text_or_none("git_url"),
                    production_branch=form.text_or_none("branch"),
                    settings=form.build_settings(),
                    executor=form.text_or_none("executor") if "executor" in form.values else project.executor,
                )
            except ScaleMeshError as error:
                form = form.failing("executor" if error.what.startswith("executor:") else "git_url", error)
        if form.wrong:
            return self._settings_page(request, project, form, status=400)
        return see(f"/projects/{project.name}/settings?did=changed")

    async def retain(self, request: web.Request) -> web.Response:
        """Set what is kept of the project; an empty field means: as the config says."""
        project, form = await self._project(request), await read_form(request)
        kept: dict[str, int | None] = {}
        for name in RETENTION:
            text = form.text(name)
            try:
                kept[name] = kept_number(text) if text else None
            except InvalidError as error:
                form = form.failing(name, error)
        if form.wrong:
            shown = Form({**_as_form(project), **form.values}, form.wrong)
            return self._settings_page(request, project, shown, status=400)
        await self._projects.retain(project.id, OwnRetention(**kept))
        return see(f"/projects/{project.name}/settings?did=retained")

    async def delete(self, request: web.Request) -> web.Response:
        """Forget the project, if its name was typed as asked."""
        project, form = await self._project(request), await read_form(request)
        if form.text("confirm") != project.name:
            form = Form(_as_form(project)).failing(
                "confirm", InvalidError("That is not the project's name", fix=f"type {project.name}")
            )
            return self._settings_page(request, project, form, status=400)
        await self._deployer.delete_project(project)
        return see("/?did=deleted")

    async def _environment_page(self, request: web.Request, project: Project, form: Form | None = None) -> web.Response:
        variables: dict[str, dict[str, object]] = {}
        for name, environment, changed in await self._projects.variables(project.id):
            known = variables.setdefault(name, {"environments": [], "changed_at": EPOCH})
            variables[name] = {
                "environments": [*_listed(known["environments"]), environment],
                "changed_at": EPOCH + timedelta(milliseconds=changed),
            }
        status = 400 if form else 200
        return self._page(request, "environment.html", project, status=status, form=form or Form(), variables=variables)

    def _settings_page(self, request: web.Request, project: Project, form: Form, *, status: int = 200) -> web.Response:
        kinds = self._projects.executors
        executors = [("", f"The default: {kinds[0]}"), *((kind, kind) for kind in kinds)]
        if project.executor is not None and project.executor not in kinds:
            executors.append((project.executor, f"{project.executor}: not in the config any more"))
        return self._page(
            request,
            "settings.html",
            project,
            status=status,
            form=form,
            executors=executors,
            rules=self._projects.rules,
        )

    def _page(
        self, request: web.Request, template: str, project: Project, *, status: int = 200, **context: object
    ) -> web.Response:
        shared = {
            "project": project,
            "site": self._sites.production(project),
            "did": request.query.get("did", ""),
        }
        return self._renderer.page(request, template, {**shared, **context}, status=status)

    async def _project(self, request: web.Request) -> Project:
        signed_in(request)
        return await self._projects.named(request.match_info["project"])


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []


def _as_form(project: Project) -> dict[str, str]:
    settings = project.settings
    return {
        "git_url": project.git_url or "",
        "branch": project.production_branch or "",
        "root_directory": settings.root_directory,
        "framework": settings.framework or "",
        "install_command": settings.install_command or "",
        "build_command": settings.build_command or "",
        "output_directory": settings.output_directory or "",
        "node_version": settings.node_version or "",
        "dialect": settings.dialect or "",
        "executor": project.executor or "",
        **{name: "" if (value := getattr(project.retention, name)) is None else str(value) for name in RETENTION},
    }
