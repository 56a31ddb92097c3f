"""What uses the disk, what would go now, and throwing it away."""

from typing import Final

from aiohttp import web

from scalemesh.assembly import Upkeep
from scalemesh.services.disk_room import DiskRoom
from scalemesh.services.upkeep import DEPLOYMENTS, freed_by
from scalemesh.web.auth import owning
from scalemesh.web.ui.render import Renderer
from scalemesh.web.ui.sign_in_pages import see
from scalemesh.web.ui.store_pages import StorePages

WAIT_S: Final = 10.0  #: a round that takes longer goes on, and the page says so
LISTED: Final = 20  #: deployments that would go

#: kind -> what it is called
KINDS: Final = {
    "files": "Files of deployments",
    "variants": "Compressed variants",
    "lists": "Manifests and lists",
    "windows": "Asset windows",
    "caches": "Build caches",
    "unheld": "Let go, removed soon",
    "uploads": "Uploads under way",
    "logs": "Logs",
    "database": "Database",
    "local_cache": "Local cache of the store",
}
#: part of a round -> what goes
PARTS: Final = {
    "local_cache": "Local caches of former stores",
    "caches": "Build caches",
    "deployments": "Deployments that no rule keeps",
    "logs": "Logs whose time is over",
    "uploads": "Uploads that nobody waits for",
    "blobs": "Files that nobody holds",
}


class StoragePages:
    def __init__(self, renderer: Renderer, store: StorePages, disk: DiskRoom, upkeep: Upkeep) -> None:
        self._renderer, self._store, self._disk = renderer, store, disk
        self._usages, self._janitor, self._expiry = upkeep.usages, upkeep.janitor, upkeep.expiry

    def table(self) -> list[web.RouteDef]:
        return [web.get("/storage", self.show), web.post("/storage/gc", self.collect)]

    async def show(self, request: web.Request) -> web.Response:
        owning(request)
        did = request.query.get("did", "")
        found, over = await self._usages.report(anew=bool(did)), await self._expiry.preview()
        kinds = [use for use in found.kinds if use.size_bytes]
        context = {
            **await self._store.context(),
            "did": did,
            "found": found,
            "volumes": self._disk.volumes,
            "limits": self._disk.limits,
            "kinds": sorted(kinds, key=lambda use: -(use.size_bytes or 0)),
            "kind_words": KINDS,
            "parts": await self._janitor.preview({DEPLOYMENTS: freed_by(over)}),
            "part_words": PARTS,
            "over": over.over[:LISTED],
            "more": max(0, len(over.over) - LISTED),
            "round": self._janitor.round,
        }
        return self._renderer.page(request, "storage.html", context)

    async def collect(self, request: web.Request) -> web.Response:
        """Do a round now."""
        owning(request)
        number = self._janitor.wake()
        done = await self._janitor.ended(number, WAIT_S)
        is_over = done.number >= number and done.ended_at is not None
        return see(f"/storage?did={'freed' if is_over else 'going-on'}")
