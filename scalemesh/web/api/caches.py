"""What a project's builds keep for later ones: list it, and throw it away."""

from typing import Any

from aiohttp import web

from scalemesh.services.caches import Caches
from scalemesh.services.projects import Projects
from scalemesh.values import CacheEntry
from scalemesh.web.api.views import iso
from scalemesh.web.auth import signed_in


class CacheRoutes:
    def __init__(self, caches: Caches, projects: Projects) -> None:
        self._caches, self._projects = caches, projects

    def table(self) -> list[web.RouteDef]:
        at = "/api/v1/projects/{project}/cache"
        return [web.get(at, self.show), web.delete(at, self.clear)]

    async def show(self, request: web.Request) -> web.Response:
        """The last used one first."""
        signed_in(request)
        project = await self._projects.named(request.match_info["project"])
        entries = await self._caches.of_project(project.id)
        total = sum(entry.blob.size_bytes for entry in entries)
        return web.json_response({"size_bytes": total, "entries": [_shown(entry) for entry in entries]})

    async def clear(self, request: web.Request) -> web.Response:
        """The next build of each branch begins as the first one did."""
        signed_in(request)
        project = await self._projects.named(request.match_info["project"])
        cleared = await self._caches.clear(project.id)
        return web.json_response({"count": cleared.count, "size_bytes": cleared.size_bytes})


def _shown(entry: CacheEntry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "scope": entry.scope,
        "key": entry.key,
        "size_bytes": entry.blob.size_bytes,
        "seconds": entry.seconds,
        "made_at": iso(entry.made_at),
        "used_at": iso(entry.used_at),
    }
