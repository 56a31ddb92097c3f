"""Throws away what a project's builds keep for later ones."""

from aiohttp import web

from scalemesh.services.caches import Caches
from scalemesh.services.projects import Projects
from scalemesh.web.auth import signed_in
from scalemesh.web.ui.sign_in_pages import see


class CachePages:
    def __init__(self, caches: Caches, projects: Projects) -> None:
        self._caches, self._projects = caches, projects

    def table(self) -> list[web.RouteDef]:
        return [web.post("/projects/{project}/cache/clear", self.clear)]

    async def clear(self, request: web.Request) -> web.Response:
        signed_in(request)
        project = await self._projects.named(request.match_info["project"])
        await self._caches.clear(project.id)
        return see(f"/projects/{project.name}?did=cache-cleared")
