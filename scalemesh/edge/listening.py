"""Lets visitors in: a listening socket whose connections are all ours, with aiohttp behind them."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from scalemesh.edge.front import Front, Patience
from scalemesh.edge.inner import Inner
from scalemesh.edge.protocol import Connection
from scalemesh.edge.quick import Quick
from scalemesh.edge.visit import Visits
from scalemesh.services.callers import Callers


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """The site hosts: both ways to an answer, and what they share."""

    visits: Visits
    quick: Quick
    callers: Callers
    control: str  #: the one host that is no site
    patience: Patience
    visited: Callable[[int, int, int], None]  #: told of answers: status, how many, bytes of their bodies


@asynccontextmanager
async def open_edge(
    edge: Edge,
    server: web.Server,
    sock: socket.socket,
    *,
    backlog: int,
    stop_s: float,
    options: Mapping[str, object],
) -> AsyncIterator[Front]:
    """Listen on *sock*; *server* answers what is handed over. At the end let those finish who are being answered."""
    front = Front(
        server,
        edge.quick,
        control=edge.control,
        patience=edge.patience,
        callers=edge.callers,
        visited=edge.visited,
        options=options,
    )
    server.request_handler = _telling(server.request_handler)
    listener = await front.loop.create_server(lambda: Connection(front), sock=sock, backlog=backlog)
    try:
        yield front
    finally:
        listener.close()
        await front.close(stop_s)


def _telling(handler: Callable[[Any], Awaitable[web.StreamResponse]]) -> Callable[[Any], Awaitable[web.StreamResponse]]:
    """*handler*, but the connection's owner knows that it runs."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if isinstance(request.protocol, Inner):
            request.protocol.began()
        return await handler(request)

    return handle
