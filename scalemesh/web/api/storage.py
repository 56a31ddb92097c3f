"""What uses the disk, and throwing away what nothing keeps."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from aiohttp import web

from scalemesh.services.disk_room import DiskRoom
from scalemesh.services.janitor import Done, Janitor, Round
from scalemesh.services.retention import TOLD, Expiry, Over
from scalemesh.services.upkeep import DEPLOYMENTS, freed_by
from scalemesh.services.usage import Usages
from scalemesh.web.api.views import iso
from scalemesh.web.auth import owning
from scalemesh.web.bodies import read_as

WAIT_S: Final = 10.0  #: for a round to end, before it is answered how far it is


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedGc:
    dry_run: bool = False


class StorageRoutes:
    def __init__(self, disk: DiskRoom, usages: Usages, janitor: Janitor, expiry: Expiry) -> None:
        self._disk, self._usages, self._janitor, self._expiry = disk, usages, janitor, expiry

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/disk", self.show),
            web.get("/api/v1/gc", self.round),
            web.post("/api/v1/gc", self.collect),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """How full the disk is, and what uses how much, by kind and by project."""
        owning(request)
        found = await self._usages.report()
        body = {
            "at": iso(found.at),
            "level": self._disk.level.word,
            "high_water_percent": self._disk.limits.high_water_percent,
            "volumes": [
                {
                    "path": volume.path,
                    "total_bytes": volume.total_bytes,
                    "free_bytes": volume.free_bytes,
                    "used_percent": round(volume.used_percent, 1),
                    "reserve_bytes": volume.reserve_bytes(self._disk.limits),
                }
                for volume in self._disk.volumes
            ],
            "kinds": [asdict(use) for use in found.kinds],
            "projects": [asdict(use) for use in found.projects],
            "shared_bytes": found.shared_bytes,
        }
        return web.json_response(body)

    async def collect(self, request: web.Request) -> web.Response:
        """Begin a round of the janitor; with ``dry_run`` tell what it would throw away."""
        owning(request)
        if (await read_as(request, WantedGc)).dry_run:
            found = await self._expiry.preview()
            parts = await self._janitor.preview({DEPLOYMENTS: freed_by(found)})
            deployments = [_over(one) for one in found.over[:TOLD]]
            return web.json_response({"parts": _parts(parts), "deployments": deployments})
        number = self._janitor.wake()
        return web.json_response(_round(await self._janitor.ended(number, WAIT_S), number), status=202)

    async def round(self, request: web.Request) -> web.Response:
        """The round that is under way, or the last one."""
        owning(request)
        return web.json_response(_round(self._janitor.round, self._janitor.round.number))


def _round(found: Round, wanted: int) -> dict[str, Any]:
    """*found* as the answer to who wants that number: one before it is not theirs."""
    is_it = found.number >= wanted
    return {
        "round": wanted,
        "running": not is_it or (found.ended_at is None and found.number > 0),
        "now": found.now if is_it else None,
        "parts": _parts(found.parts) if is_it else [],
        "began_at": iso(found.began_at) if is_it else None,
        "ended_at": iso(found.ended_at) if is_it else None,
    }


def _parts(parts: Sequence[Done]) -> list[dict[str, Any]]:
    return [
        {"part": one.name, "count": one.freed.count, "size_bytes": one.freed.size_bytes, "error": one.error}
        for one in parts
    ]


def _over(one: Over) -> dict[str, Any]:
    return {
        "project": one.project,
        "deployment": one.deployment,
        "rule": one.rule,
        "size_bytes": one.size_bytes,
        "ended_at": iso(one.ended_at),
    }
