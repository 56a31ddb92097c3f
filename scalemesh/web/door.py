"""The way in for builders elsewhere: so many connections in all, so many from one address, and no more.

What they may say once they are in hangs on their token; this is for those who have none and only hold the door.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, cast

from aiohttp import web

from scalemesh.services.callers import Callers

CONNECTIONS: Final = 4000
CONNECTIONS_PER_ADDRESS: Final = 1000  #: many builds may come from behind one gateway, each with a handful


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many connections there may be. Of this machine itself and of trusted proxies any number counts as one's."""

    callers: Callers
    connections: int = CONNECTIONS
    per_address: int = CONNECTIONS_PER_ADDRESS

    def has_place(self, peer: str, others: list[str]) -> bool:
        """Whether one from *peer* may come in besides those of *others*."""
        if len(others) >= self.connections:
            return False
        whose = self._whose(peer)
        return not whose or len(others) < self.per_address or self._count(whose, others) < self.per_address

    def _count(self, whose: str, others: list[str]) -> int:
        return sum(self._whose(other) == whose for other in others)

    def _whose(self, peer: str) -> str:
        if not peer or self.callers.trusts(peer):
            return ""
        caller = self.callers.of(peer, lambda _name, none: none, scheme="", host="")
        return "" if not caller.address or ip_address(caller.address).is_loopback else caller.network


@asynccontextmanager
async def open_door(server: web.Server, sock: socket.socket, room: Room, *, backlog: int) -> AsyncIterator[None]:
    """Let builders in by the bound *sock* until left; *server* answers them."""
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: _Threshold(server, room), sock=sock, backlog=backlog)
    try:
        yield
    finally:
        listener.close()


class _Threshold(asyncio.Protocol):
    """A connection before it is let in."""

    def __init__(self, server: web.Server, room: Room) -> None:
        self._server, self._room = server, room

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast("asyncio.Transport", transport)
        others = [_peer(each.transport) for each in self._server.connections]
        if not self._room.has_place(_peer(made), others):
            made.abort()
            return
        handler = self._server()
        made.set_protocol(handler)
        handler.connection_made(made)


def _peer(transport: asyncio.BaseTransport | None) -> str:
    name = transport.get_extra_info("peername") if transport is not None else None
    return str(name[0]) if isinstance(name, tuple) else ""
