"""While the disk is at its last reserve: what needs room is refused, and what makes room or needs none goes on."""

from contextlib import suppress
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from scalemesh.errors import UnreachableError
from scalemesh.services.disk_room import DiskRoom, Level
from scalemesh.web.auth import READING

#: Changes that need next to no room: people come in and go, what is shown moves, things end or are kept for less long.
ALLOWED: Final = frozenset(
    {
        ("POST", "/api/v1/session"),
        ("POST", "/api/v1/welcome"),
        ("PUT", "/api/v1/account/password"),
        ("POST", "/api/v1/explain"),
        ("POST", "/api/v1/gc"),
        ("POST", "/api/v1/chores"),  # to move the blobs to a bucket is a way out
        ("POST", "/api/v1/chores/current/stop"),
        ("POST", "/storage/gc"),
        ("POST", "/storage/move"),
        ("POST", "/storage/stop"),
        ("POST", "/storage/verify"),
        ("PATCH", "/api/v1/projects/{project}"),
        ("POST", "/api/v1/projects/{project}/rollback"),
        ("POST", "/api/v1/projects/{project}/unpin"),
        ("POST", "/api/v1/projects/{project}/purge"),
        ("POST", "/api/v1/deployments/{deployment}/cancel"),
        ("POST", "/api/v1/deployments/{deployment}/keep"),
        ("POST", "/api/v1/deployments/{deployment}/promote"),
        ("POST", "/sign-in"),
        ("POST", "/sign-out"),
        ("POST", "/welcome/password"),
        ("POST", "/welcome/{code}"),
        ("POST", "/account/password"),
        ("POST", "/account/tokens/{token}/delete"),
        ("POST", "/projects/{project}/rollback"),
        ("POST", "/projects/{project}/unpin"),
        ("POST", "/projects/{project}/explain"),
        ("POST", "/projects/{project}/cache/clear"),
        ("POST", "/projects/{project}/environment/{name}/delete"),
        ("POST", "/projects/{project}/settings"),
        ("POST", "/projects/{project}/retention"),
        ("POST", "/projects/{project}/delete"),
        ("POST", "/deployments/{deployment}/cancel"),
        ("POST", "/deployments/{deployment}/promote"),
        ("POST", "/deployments/{deployment}/rollback"),
        ("POST", "/deployments/{deployment}/keep"),
        ("POST", "/deployments/{deployment}/delete"),
        ("POST", "/build/v1/claim"),
        ("POST", "/build/v1/heartbeat"),
        ("POST", "/build/v1/lines"),  # within the cap of each log; the reserve is there for it
    }
)


class ReadOnly:
    """Stands inside of the gate: a stranger is told nothing of our disk."""

    def __init__(self, disk: DiskRoom) -> None:
        self._disk = disk

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._disk.level is Level.LAST and needs_room(request):
            with suppress(OSError):
                await self._disk.measure()  # room may have been made since the last look
            if self._disk.level is Level.LAST:
                self._refuse(request)
        return await handler(request)

    def _refuse(self, request: web.Request) -> None:
        """A person is told so; a builder waits until there is room, as for a store that is away."""
        if address_of(request).startswith("/build/"):
            raise UnreachableError("there is no room on the disk for this yet", why=self._disk.why())
        self._disk.require()


def needs_room(request: web.Request) -> bool:
    """Whether it brings something; deleting never does."""
    if request.method in READING or request.method == "DELETE" or request.match_info.http_exception is not None:
        return False
    return (request.method, address_of(request)) not in ALLOWED


def address_of(request: web.Request) -> str:
    """The route's address with its places left open."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else ""
