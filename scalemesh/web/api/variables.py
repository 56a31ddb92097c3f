"""Environment variables of a project's builds. Values go in and never come out."""

from dataclasses import dataclass

from aiohttp import web

from builder.protocol import MIN_SECRET_CHARS
from scalemesh.errors import InvalidError
from scalemesh.services.projects import Projects
from scalemesh.values import Environment
from scalemesh.web.api import views
from scalemesh.web.bodies import read_as


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVariable:
    value: str
    environments: tuple[Environment, ...] = (Environment.PRODUCTION, Environment.PREVIEW)

    def __post_init__(self) -> None:
        if not self.environments:
            raise ValueError("environments: name production, preview or both")


class VariableRoutes:
    def __init__(self, projects: Projects) -> None:
        self._projects = projects

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/projects/{project}/env", self.all),
            web.put("/api/v1/projects/{project}/env/{name}", self.set),
            web.delete("/api/v1/projects/{project}/env/{name}", self.unset),
        ]

    async def all(self, request: web.Request) -> web.Response:
        """Names, environments and times; never values."""
        project = await self._projects.named(request.match_info["project"])
        found = await self._projects.variables(project.id)
        return web.json_response({"variables": [views.variable(*row) for row in found]})

    async def set(self, request: web.Request) -> web.Response:
        """Set a variable; ``is_masked`` says whether logs will hide its value."""
        project = await self._projects.named(request.match_info["project"])
        name, wanted = request.match_info["name"], await read_as(request, NewVariable)
        environments = tuple(dict.fromkeys(wanted.environments))
        await self._projects.set_variable(project.id, name, environments, wanted.value)
        is_masked = len(wanted.value) >= MIN_SECRET_CHARS
        return web.json_response({"name": name, "environments": environments, "is_masked": is_masked})

    async def unset(self, request: web.Request) -> web.Response:
        """Forget it; ``?environment=`` names one of the two."""
        project = await self._projects.named(request.match_info["project"])
        chosen = request.query.get("environment")
        if chosen is not None and chosen not in list(Environment):
            raise InvalidError(f"environment = {chosen[:40]!r}: must be production or preview")
        environment = Environment(chosen) if chosen else None
        await self._projects.drop_variable(project.id, request.match_info["name"], environment)
        return web.Response(status=204)
