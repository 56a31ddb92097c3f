"""Logs: a page, a search, or NDJSON that follows until the deployment's end."""

import asyncio
import json
from contextlib import aclosing
from functools import partial
from typing import Final

from aiohttp import web

from scalemesh.errors import InvalidError
from scalemesh.services.deployer import Deployer
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.web.api.views import Json, Views, log_lines
from scalemesh.web.auth import Gate
from scalemesh.web.bodies import query_number
from scalemesh.web.follow import Followers

NDJSON: Final = "application/x-ndjson"
PAGE: Final = 1000
MAX_PAGE: Final = 5000
MAX_HITS: Final = 1000
MAX_NEEDLE: Final = 200
FAR: Final = 1 << 53
STALL_S: Final = 60.0  #: a reader who takes nothing for so long is let go; and comes back with what was read


class LogRoutes:
    def __init__(self, logs: LogPipeline, deployer: Deployer, followers: Followers, views: Views, gate: Gate) -> None:
        self._logs, self._deployer, self._followers, self._views = logs, deployer, followers, views
        self._gate = gate

    def table(self) -> list[web.RouteDef]:
        one = "/api/v1/deployments/{deployment}/logs"
        return [web.get(one, self.show, allow_head=False), web.get(f"{one}/search", self.search)]

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Lines numbered above ``?after=``, up to ``?limit=``; with ``?follow=1`` or as NDJSON, all that come."""
        after = query_number(request, "after", 0, high=FAR)
        if request.query.get("follow") in ("1", "true") or NDJSON in request.headers.get("Accept", ""):
            return await self._follow(request, after)
        limit = query_number(request, "limit", PAGE, low=1, high=MAX_PAGE)
        deployment = await self._deployer.get(request.match_info["deployment"])  # before the lines: "end" is true then
        lines = await self._logs.read(deployment.id, after, limit)
        following = lines[-1].number if lines else after
        is_end = deployment.is_cleaned and len(lines) < limit
        return web.json_response({"lines": log_lines(lines), "next": following, "end": is_end})

    async def search(self, request: web.Request) -> web.Response:
        """The first lines, up to ``?limit=``, that contain ``?q=``, whatever its letter case."""
        needle = request.query.get("q", "")
        if not 0 < len(needle) <= MAX_NEEDLE:
            raise InvalidError(f"q: what to search for, 1 to {MAX_NEEDLE} characters")
        limit = query_number(request, "limit", 100, low=1, high=MAX_HITS)
        deployment = await self._deployer.get(request.match_info["deployment"])
        found = await self._logs.search(deployment.id, needle, limit)
        return web.json_response({"lines": log_lines(found)})

    async def _follow(self, request: web.Request, after: int) -> web.StreamResponse:
        deployment = await self._deployer.get(request.match_info["deployment"])
        self._followers.check_room()
        response = web.StreamResponse(headers={"Content-Type": NDJSON, "X-Accel-Buffering": "no"})
        await response.prepare(request)
        may_stay = partial(self._gate.still_knows, request)
        async with aclosing(self._followers.follow(deployment.id, after, may_stay)) as blocks:
            async for block in blocks:
                rows: list[Json] = log_lines(block.lines) if block else []
                if block is not None and block.closes:
                    rows.append({"end": self._views.end(await self._deployer.get(deployment.id))})
                async with asyncio.timeout(STALL_S):
                    await response.write(ndjson(rows))
        await response.write_eof()
        return response


def ndjson(rows: list[Json]) -> bytes:
    """One JSON object a line; an empty line keeps the connection alive."""
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode() or b"\n"
