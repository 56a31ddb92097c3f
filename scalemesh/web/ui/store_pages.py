"""The store on the page Storage: where it is, whether it works, moving and verifying it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from scalemesh.errors import InvalidError
from scalemesh.services.chores import Chore, Chores, Wanted
from scalemesh.services.standings import Standing, Standings
from scalemesh.web.auth import owning
from scalemesh.web.ui.render import Renderer
from scalemesh.web.ui.sign_in_pages import see

LISTED: Final = 20  #: blobs of one sort

#: phase -> what is being done
PHASES: Final = {
    "": "Beginning",
    "checking": "Trying the other store",
    "copying": "Copying",
    "comparing": "Comparing both stores",
    "reading": "Reading",
}


class StorePages:
    def __init__(self, renderer: Renderer, standings: Standings, chores: Chores) -> None:
        self._renderer, self._standings, self._chores = renderer, standings, chores

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/storage/store", self.show),
            web.post("/storage/verify", self.verify),
            web.post("/storage/move", self.move),
            web.post("/storage/stop", self.stop),
        ]

    async def context(self) -> dict[str, object]:
        """What the panel tells."""
        found = await self._standings.now()
        return {
            "store": found,
            "phases": PHASES,
            "listed": LISTED,
            "targets": _targets(found),
            "percent": _percent(found.running),
            "to_deploy": _projects(found.verified.result) if found.verified else (),
        }

    async def show(self, request: web.Request) -> web.Response:
        """The panel alone, for a page that is open."""
        owning(request)
        return self._renderer.page(request, "store.html", await self.context())

    async def verify(self, request: web.Request) -> web.Response:
        """Begin to read all blobs; with ``mend`` take away what is damaged."""
        owning(request)
        self._chores.start(Wanted(kind="verify", mend=bool(request.query.get("mend"))))
        return see("/storage#store")

    async def move(self, request: web.Request) -> web.Response:
        """Begin to move to the kind ``to``, or go on with that."""
        owning(request)
        to, found = request.query.get("to", ""), await self._standings.now()
        if to not in _targets(found):
            raise InvalidError(
                "there is no such store to move to", fix="give it a table in the config, such as [store.s3]"
            )
        self._chores.start(Wanted(kind="migrate", to=to))
        return see("/storage#store")

    async def stop(self, request: web.Request) -> web.Response:
        """Stop what is under way."""
        owning(request)
        self._chores.stop()
        return see("/storage#store")


def _targets(found: Standing) -> Sequence[str]:
    """The kinds that the blobs may be moved to; while a move stands still, that one."""
    move = found.state.move
    return found.state.others if move is None else [move.target]


def _percent(chore: Chore | None) -> float:
    """How much of its phase is done, by bytes where they are known."""
    if chore is None:
        return 0.0
    progress = chore.progress
    if progress.total_bytes:
        return min(100.0, 100 * progress.done_bytes / progress.total_bytes)
    return min(100.0, 100 * progress.done / progress.total) if progress.total else 0.0


def _projects(result: Mapping[str, Any]) -> list[str]:
    """Those that need a blob that is damaged or missing, and was not put back."""
    lost: Iterable[Mapping[str, Any]] = [
        one
        for sort in ("damaged", "missing")
        if sort in result
        for one in result[sort]["first"]
        if not one.get("restored")
    ]
    return sorted({held["project"] for one in lost for held in one["held_by"]})
