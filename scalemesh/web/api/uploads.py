"""Files of a deployment that comes from a folder: what is missing, each one, and that all is there."""

from contextlib import aclosing

from aiohttp import web

from builder.protocol import MAX_DIGESTS
from scalemesh.services.deployer import Deployer
from scalemesh.services.uploads import Uploads
from scalemesh.values import Deployment
from scalemesh.web.bodies import check_blobs, check_files, read_blob, read_chunks, read_json

MAX_LISTING_BYTES = 64 * 1024 * 1024


class UploadRoutes:
    def __init__(self, uploads: Uploads, deployer: Deployer) -> None:
        self._uploads, self._deployer = uploads, deployer

    def table(self) -> list[web.RouteDef]:
        one = "/api/v1/deployments/{deployment}"
        return [
            web.post(f"{one}/blobs", self.missing),
            web.put(f"{one}/blobs/{{sha256}}", self.receive),
            web.post(f"{one}/finish", self.finish),
        ]

    async def missing(self, request: web.Request) -> web.Response:
        """``{"digests": [{"sha256", "size"}, …]}``, up to 1000 -> ``{"missing": [sha256, …]}``."""
        body = await read_json(request)
        blobs = check_blobs(body.get("digests"), MAX_DIGESTS)
        return web.json_response({"missing": await self._uploads.missing(await self._named(request), blobs)})

    async def receive(self, request: web.Request) -> web.Response:
        """The bytes of one file. Repeatable."""
        blob = read_blob(request)
        async with aclosing(read_chunks(request)) as chunks:
            await self._uploads.receive(await self._named(request), blob, chunks)
        return web.Response(status=204)

    async def finish(self, request: web.Request) -> web.Response:
        """``{"files": [[path, sha256, size, is_executable], …]}``: all is there. Repeatable."""
        body = await read_json(request, max_bytes=MAX_LISTING_BYTES)
        files = await check_files(body.get("files"))
        state = await self._uploads.finish(await self._named(request), files)
        return web.json_response({"state": state})

    async def _named(self, request: web.Request) -> Deployment:
        return await self._deployer.get(request.match_info["deployment"])
