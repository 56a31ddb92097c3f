"""Long pieces of work inside the daemon (moving the blobs, verifying them): begun, looked at, stopped by the owner."""

from typing import Any

from aiohttp import web

from scalemesh.errors import NotFoundError
from scalemesh.services.chores import Chore, Chores, Wanted
from scalemesh.services.moving import Moving
from scalemesh.web.api.views import iso
from scalemesh.web.auth import owning
from scalemesh.web.bodies import read_as


class ChoreRoutes:
    def __init__(self, chores: Chores, moving: Moving) -> None:
        self._chores, self._moving = chores, moving

    def table(self) -> list[web.RouteDef]:
        return [
            web.post("/api/v1/chores", self.start),
            web.get("/api/v1/chores/current", self.current),
            web.post("/api/v1/chores/current/stop", self.stop),
            web.get("/api/v1/store", self.store),
        ]

    async def start(self, request: web.Request) -> web.Response:
        """Begin one, or find it running; 202 with how far it is."""
        owning(request)
        return web.json_response(chore_view(self._chores.start(await read_as(request, Wanted))), status=202)

    async def current(self, request: web.Request) -> web.Response:
        """The one that runs, or the last one since the daemon's start."""
        owning(request)
        if self._chores.current is None:
            raise NotFoundError("no such work was begun since the daemon's start")
        return web.json_response(chore_view(self._chores.current))

    async def stop(self, request: web.Request) -> web.Response:
        """Ask the one that runs to stop; 202, it does so within seconds."""
        owning(request)
        return web.json_response(chore_view(self._chores.stop()), status=202)

    async def store(self, request: web.Request) -> web.Response:
        """Where the blobs live, and whether they move."""
        owning(request)
        found = await self._moving.state()
        move = found.move
        moving = (
            None
            if move is None
            else {"to": move.target, "is_stopped": move.is_stopped, "started_at": iso(move.started_at)}
        )
        return web.json_response(
            {
                "kind": found.home.kind,
                "where": found.where,
                "since_at": iso(found.home.since_at),
                "configured": found.configured,
                "leftovers": found.home.leftovers,
                "move": moving,
            }
        )


def chore_view(chore: Chore) -> dict[str, Any]:
    """How far *chore* is, or what became of it."""
    progress = chore.progress
    items_per_s, bytes_per_s = progress.rates
    return {
        "kind": chore.wanted.kind,
        "to": chore.wanted.to or None,
        "state": chore.end.value if chore.end else "running",
        "phase": progress.phase,
        "words": progress.words,
        "done": progress.done,
        "total": progress.total,
        "done_bytes": progress.done_bytes,
        "total_bytes": progress.total_bytes,
        "items_per_s": round(items_per_s, 1),
        "bytes_per_s": round(bytes_per_s),
        "error_count": progress.error_count,
        "errors": list(progress.errors),
        "started_at": iso(chore.started_at),
        "ended_at": iso(chore.ended_at),
        "result": dict(chore.result) or None,
    }
