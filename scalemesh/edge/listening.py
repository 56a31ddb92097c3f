"""Lets visitors in: a listening socket whose connections are all ours, with aiohttp behind them."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from scalemesh.edge.front import Front, GiveAway, Patience
from scalemesh.edge.inner import Inner
from scalemesh.edge.protocol import Connection
from scalemesh.edge.quick import Quick
from scalemesh.edge.visit import Visits
from scalemesh.services.callers import Callers

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """The site hosts: both ways to an answer, and what they share."""

    visits: Visits
    quick: Quick
    callers: Callers
    control: str  #: the one host that is no site
    patience: Patience
    visited: Callable[[int, int, int], None]  #: told of answers: status, how many, bytes of their bodies

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a visit the long way, and count it."""
        answer = await self.visits.answer(request)
        self.visited(answer.status, 1, 0 if request.method == "HEAD" else answer.content_length or 0)
        return answer


@asynccontextmanager
async def open_edge(
    edge: Edge,
    server: web.Server,
    sock: socket.socket | None,
    *,
    backlog: int,
    stop_s: float,
    options: Mapping[str, object],
    give_away: GiveAway | None = None,
) -> AsyncIterator[Front]:
    """Listen on *sock*; *server* answers what is handed over. At the end let those finish who are being answered.

    Without *sock* connections come by ``adopt`` alone.
    """
    front = Front(
        server,
        edge.quick,
        control=edge.control,
        patience=edge.patience,
        callers=edge.callers,
        visited=edge.visited,
        options=options,
        give_away=give_away,
    )
    server.request_handler = _telling(server.request_handler)
    listener = None
    if sock is not None:
        listener = await front.loop.create_server(lambda: Connection(front), sock=sock, backlog=backlog)
    try:
        yield front
    finally:
        if listener is not None:
            listener.close()
        await front.close(stop_s)


class Adopting:
    """Takes over connections that another process accepted."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._tasks: set[asyncio.Task[object]] = set()

    def __call__(self, connection: socket.socket, data: bytes) -> None:
        """Go on with *connection*, from which *data* was read."""
        connection.setblocking(False)
        made = self._front.loop.connect_accepted_socket(lambda: Connection(self._front, data), connection)
        task: asyncio.Task[object] = asyncio.ensure_future(made)
        self._tasks.add(task)
        task.add_done_callback(self._made)

    def _made(self, task: "asyncio.Task[object]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a connection was lost on its way", extra={"error": str(error)})


def _telling(handler: Callable[[Any], Awaitable[web.StreamResponse]]) -> Callable[[Any], Awaitable[web.StreamResponse]]:
    """*handler*, but the connection's owner knows that it runs."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if isinstance(request.protocol, Inner):
            request.protocol.began()
        return await handler(request)

    return handle
