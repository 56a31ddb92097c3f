"""A serving process beside the daemon. Started by it as ``python -m scalemesh.worker LISTENER CHANNEL HANDING``.

The arguments are descriptors: the listening socket, the channel of words, and the socket for connections that are the
daemon's. The config comes by standard input. It ends when the channel does, whatever became of the daemon.
"""

import asyncio
import logging
import pickle
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import uvloop
from aiohttp import web

from scalemesh.config import Config
from scalemesh.daemon import PROTOCOL, STOP_S, log_to_stderr
from scalemesh.edge.assembly import make_edge
from scalemesh.edge.channel import packed, read_message, read_routes
from scalemesh.edge.listening import open_edge
from scalemesh.edge.origins.proxy import Proxy
from scalemesh.edge.workers import hand_over
from scalemesh.errors import ScaleMeshError
from scalemesh.services.callers import Callers
from scalemesh.services.home_store import HomeStore
from scalemesh.services.near_store import places
from scalemesh.services.openings import Openings, openings
from scalemesh.services.routing import RouteTable
from scalemesh.values import ProjectId

log = logging.getLogger(__name__)


class Follower:
    """Serves by what the daemon tells, and tells it what was served."""

    def __init__(self, writer: asyncio.StreamWriter, store: HomeStore, stores: Openings) -> None:
        self.routes = RouteTable()
        self._writer, self._store, self._stores = writer, store, stores
        self._serves = False
        self._moving: asyncio.Task[None] | None = None

    async def heard(self, reader: asyncio.StreamReader) -> bool:
        """Follow what comes until all is there for serving; False at the end of the channel."""
        while (message := await read_message(reader)) is not None:
            self._follow(message)
            if message.get("serve"):
                self._serves = True
                return True
            if "home" in message:
                await self._move(message)
            else:
                self.tell({"followed": message["n"], "loaded": message.get("loaded", False)})
        return False

    async def close(self) -> None:
        if self._moving is not None:
            self._moving.cancel()
            await asyncio.wait([self._moving])

    def visited(self, status: int, count: int, body_bytes: int) -> None:
        self.tell({"visits": [[status, count, body_bytes]]})

    def tell(self, message: dict[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(packed(message))

    async def _move(self, message: dict[str, Any]) -> None:
        """Read blobs where they live now. While sites are served, that store is opened beside it.

        Raises:
            ScaleMeshError, OSError: it cannot be opened, and nothing is served yet.
        """
        if self._serves:
            self._moving = asyncio.create_task(self._move_meanwhile(message))
        else:
            self._store.follow(await self._stores.open(message["home"]))
            self.tell({"followed": message["n"], "loaded": False})

    async def _move_meanwhile(self, message: dict[str, Any]) -> None:
        try:
            self._store.follow(await self._stores.open(message["home"]))
        except (ScaleMeshError, OSError):  # it does not follow, so it is started anew
            log.exception("a serving process cannot open the store", extra={"kind": message["home"]})
            return
        self.tell({"followed": message["n"], "loaded": False})

    def _follow(self, message: dict[str, Any]) -> None:
        if "routes" in message:
            routes = read_routes(message["routes"])
            self.routes.apply(ProjectId(message["project"]), message["generation"], routes)
        if "gone" in message:
            self.routes.remove(ProjectId(message["gone"]))


async def serve(config: Config, listener: socket.socket, channel: socket.socket, handing: socket.socket) -> None:
    """Serve sites until the channel ends."""
    reader, writer = await asyncio.open_unix_connection(sock=channel)
    async with AsyncExitStack() as opened:
        stores = await opened.enter_async_context(openings(places(config, is_keeper=False)))
        store = HomeStore(await stores.open(config.kinds("store")[0]))
        follower = Follower(writer, store, stores)
        opened.push_async_callback(follower.close)
        proxy = await opened.enter_async_context(Proxy(config.proxy))
        callers = Callers(config.hosts.trusted_proxies, config.hosts.public_url)
        edge = make_edge(config, follower.routes, store, callers, proxy, follower.visited)
        server = web.Server(edge.answer, **PROTOCOL)
        opened.push_async_callback(server.shutdown, STOP_S)
        if not await follower.heard(reader):
            return
        listening = open_edge(
            edge,
            server,
            listener,
            backlog=config.listen.backlog,
            stop_s=STOP_S,
            options=PROTOCOL,
            give_away=partial(hand_over, handing),
        )
        await opened.enter_async_context(listening)
        follower.tell({"serves": True})
        await follower.heard(reader)


def main(arguments: Sequence[str]) -> None:
    """The program."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the daemon's to follow: it closes the channel
        signal.signal(number, signal.SIG_IGN)
    config = pickle.load(sys.stdin.buffer)  # noqa: S301 -- the daemon wrote it
    listener, channel, handing = (socket.socket(fileno=int(argument)) for argument in arguments)
    handing.setblocking(False)
    log_to_stderr()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(config, listener, channel, handing))


if __name__ == "__main__":
    main(sys.argv[1:])
