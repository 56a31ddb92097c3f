"""The websocket of a live log: blocks of lines as they come, and a last word at the end.

``/api/v1/deployments/{deployment}/live?after=N`` sends text messages, each JSON: an array of lines
(``{"number", "at", "step", "stream", "text"}``, numbers without gaps), and at the end of the deployment
``{"end": {"state", "url", "reason", "message", "fix"}}`` before it closes with 1000. Any other close code means: come
back with ``after`` = the last number seen (1001 the daemon stops, or the reader's session has ended; 1013 the reader
was too slow). One that is deleted ends with 1000 and no last word.
"""

import asyncio
import json
import logging
from contextlib import aclosing
from functools import partial
from typing import Final

from aiohttp import WSCloseCode, web

from scalemesh.errors import NotFoundError, UnreachableError
from scalemesh.services.deployer import Deployer
from scalemesh.values import DeploymentId
from scalemesh.web.api.views import Views, log_lines
from scalemesh.web.auth import Gate
from scalemesh.web.bodies import query_number
from scalemesh.web.follow import Followers, MayStay

log = logging.getLogger(__name__)
PING_S: Final = 20.0
STALL_S: Final = 30.0  #: a reader who takes nothing for so long is too slow
MAX_HEARD_BYTES: Final = 1024  #: readers have nothing to say
FAR: Final = 1 << 53


class LiveRoutes:
    def __init__(self, deployer: Deployer, followers: Followers, views: Views, gate: Gate) -> None:
        self._deployer, self._followers, self._views, self._gate = deployer, followers, views, gate

    def table(self) -> list[web.RouteDef]:
        return [web.get("/api/v1/deployments/{deployment}/live", self.follow, allow_head=False)]

    async def follow(self, request: web.Request) -> web.WebSocketResponse:
        after = query_number(request, "after", 0, high=FAR)
        deployment = await self._deployer.get(request.match_info["deployment"])
        self._followers.check_room()
        socket = web.WebSocketResponse(heartbeat=PING_S, max_msg_size=MAX_HEARD_BYTES, timeout=5.0)
        await socket.prepare(request)
        may_stay = partial(self._gate.still_knows, request)
        sending = asyncio.create_task(self._send(socket, deployment.id, after, may_stay))
        try:
            async for _ in socket:  # until the reader closes, or we do; pings are answered meanwhile
                pass
        finally:
            sending.cancel()
            await asyncio.wait({sending})
        if not sending.cancelled() and (error := sending.exception()):
            raise error
        return socket

    async def _send(
        self, socket: web.WebSocketResponse, deployment: DeploymentId, after: int, may_stay: MayStay
    ) -> None:
        code, message = WSCloseCode.GOING_AWAY, b"come back with after=N"
        try:
            async with aclosing(self._followers.follow(deployment, after, may_stay)) as blocks:
                async for block in blocks:
                    if block is not None and block.lines:
                        await self._put(socket, log_lines(block.lines))
                    if block is not None and block.closes:
                        await self._put(socket, {"end": self._views.end(await self._deployer.get(deployment))})
                        code, message = WSCloseCode.OK, b""
        except TimeoutError:
            code, message = WSCloseCode.TRY_AGAIN_LATER, b"too slow: come back with after=N"
        except UnreachableError as error:
            log.warning("a log cannot be followed", extra={"deployment": deployment, "error": str(error)})
            code = WSCloseCode.TRY_AGAIN_LATER
        except NotFoundError:  # deleted while somebody read: nothing follows, and nothing is left to tell
            code, message = WSCloseCode.OK, b"it was deleted"
        await socket.close(code=code, message=message)

    async def _put(self, socket: web.WebSocketResponse, message: object) -> None:
        """Send, waiting for a slow reader: what was not taken stays in the log store and fills no queue here."""
        async with asyncio.timeout(STALL_S):
            await socket.send_str(json.dumps(message))
