"""Pages of all projects, and of making one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from scalemesh.errors import ConflictError, InvalidError, NotFoundError, ScaleMeshError
from scalemesh.services import hosts
from scalemesh.services.deployer import Deployer, Wanted
from scalemesh.services.projects import Projects, dialect_named
from scalemesh.services.sources import check_branch, check_root_directory
from scalemesh.values import Deployment, Project, User
from scalemesh.web.auth import signed_in
from scalemesh.web.ui.forms import Form, read_form
from scalemesh.web.ui.render import Renderer
from scalemesh.web.ui.sign_in_pages import see
from scalemesh.web.ui.sites import Site, Sites

PAGE: Final = 60


@dataclass(frozen=True, slots=True)
class Card:
    """A project as the list shows it."""

    project: Project
    site: Site
    newest: Deployment | None


class ProjectPages:
    def __init__(self, renderer: Renderer, projects: Projects, deployer: Deployer, sites: Sites) -> None:
        self._renderer, self._projects, self._deployer, self._sites = renderer, projects, deployer, sites

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.show_all),
            web.get("/new", self.show_new),
            web.post("/new", self.create),
        ]

    async def show_all(self, request: web.Request) -> web.Response:
        signed_in(request)
        offset = page_number(request.query.get("offset", ""))
        found = await self._projects.all(limit=PAGE + 1, offset=offset)
        cards = [await self._card(project) for project in found[:PAGE]]
        following = offset + PAGE if len(found) > PAGE else None
        is_active = any(card.newest and not card.newest.is_final for card in cards)
        context = {
            "cards": cards,
            "offset": offset,
            "following": following,
            "is_active": is_active,
            "did": request.query.get("did", ""),
        }
        return self._renderer.page(request, "projects.html", context)

    async def show_new(self, request: web.Request) -> web.Response:
        signed_in(request)
        return self._renderer.page(request, "new_project.html", {"form": Form()})

    async def create(self, request: web.Request) -> web.Response:
        """Make the project and its first deployment, and go and watch it."""
        user, form = signed_in(request), await read_form(request)
        form = checked(form)
        if form.wrong:
            return self._renderer.page(request, "new_project.html", {"form": form}, status=400)
        try:
            project = await self._create(user, form)
        except ScaleMeshError as error:
            failed = form.failing(await self._guilty(form, error), error)
            return self._renderer.page(request, "new_project.html", {"form": failed}, status=error.status)
        deployment = await self._deployer.submit(user, project, Wanted())
        return see(f"/deployments/{deployment.id}")

    async def _create(self, user: User, form: Form) -> Project:
        return await self._projects.create(
            user,
            name=form.text_or_none("name"),
            git_url=form.text("git_url"),
            production_branch=form.text_or_none("branch"),
            settings=form.build_settings(),
        )

    async def _guilty(self, form: Form, error: ScaleMeshError) -> str:
        """The field that *error* is about: the name if that is taken, else the Git URL."""
        name = form.text("name")
        if not isinstance(error, ConflictError) or not name:
            return "git_url"
        try:
            await self._projects.named(name)
        except NotFoundError:
            return "name" if "host name" in error.what else "git_url"
        return "name"

    async def _card(self, project: Project) -> Card:
        newest = await self._deployer.page(project.id, before=None, limit=1)
        return Card(project, self._sites.production(project), newest[0] if newest else None)


def checked(form: Form) -> Form:
    """*form*, with an error at each field that can be judged by itself."""
    checks: dict[str, Callable[[str], object]] = {
        "name": hosts.check_project_name,
        "branch": check_branch,
        "root_directory": check_root_directory,
        "dialect": dialect_named,
    }
    for name, check in checks.items():
        if text := form.text(name):
            try:
                check(text)
            except InvalidError as error:
                form = form.failing(name, error)
    if "git_url" in form.values and not form.text("git_url"):
        form = form.failing("git_url", InvalidError("A Git URL is needed", fix="paste the one that git clone takes"))
    return form


def page_number(text: str) -> int:
    """The number in a query, or 0 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else 0
