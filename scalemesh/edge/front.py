"""What all connections of one listening socket share: time, heads that are known, the ways to an answer, limits."""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Final, Protocol

from aiohttp import web

from scalemesh.edge.heads import Head, Heads, read_head
from scalemesh.edge.inner import Inner, Owner
from scalemesh.edge.quick import Quick, Tally
from scalemesh.edge.wire import http_now, request_ids
from scalemesh.services.callers import Callers
from scalemesh.services.hosts import normal_host

#: Takes a connection's socket, and what was read from it; raises OSError where it cannot.
GiveAway = Callable[[socket.socket, bytes], None]

TICK_S: Final = 0.25
MOST_PROXIES: Final = 16  #: whose heads are remembered, each apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a connection may do nothing, and how many there may be."""

    idle_s: float  #: between two requests
    head_s: float  #: from the first byte of a request's head to its last
    stall_s: float  #: while the visitor takes no bytes
    connections: int
    connections_per_address: int  #: of this machine itself and of trusted proxies any number; of IPv6 of a /64

    @property
    def shortest_s(self) -> float:
        """The shortest of these times."""
        return min(self.idle_s, self.head_s, self.stall_s)


class Clock:
    """The time, told often enough by one timer, for many who would ask for it all the time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tick: Callable[[], None]) -> None:
        self._loop, self._tick = loop, tick
        self.now = loop.time()
        self._handle = loop.call_soon(self._turn)

    def stop(self) -> None:
        self._handle.cancel()

    def _turn(self) -> None:
        self.now = self._loop.time()
        self._tick()
        self._handle = self._loop.call_later(TICK_S, self._turn)


class Closable(Protocol):
    """A connection, as far as we close it."""

    def close_soon(self) -> None: ...
    def abort(self) -> None: ...


class Front:
    def __init__(
        self,
        server: web.Server,
        quick: Quick,
        *,
        control: str,
        patience: Patience,
        callers: Callers,
        visited: Callable[[int, int, int], None],
        options: Mapping[str, object],
        give_away: GiveAway | None = None,
    ) -> None:
        """*server* answers what is handed over, with *options* for its protocol.

        *visited* is told of answers: status, how many, bytes of their bodies. *give_away* hands a connection to
        another process; then what is not for a site, or cannot be read by us, is not ours.
        """
        self.loop = asyncio.get_running_loop()
        self.quick, self.patience, self.give_away = quick, patience, give_away
        self._server, self._control, self._options = server, control, options
        self._callers, self._visited = callers, visited
        self._heads = Heads()
        self._heads_of_proxies: dict[str, Heads] = {}
        self._tally = Tally()
        self._ids = request_ids()
        self._date = b""
        self._open: set[Closable] = set()
        self._last_left: asyncio.Future[None] | None = None  #: once we close: done when nobody is left
        self._by_address: Counter[str] = Counter()
        self.clock = Clock(self.loop, self._tick)

    def heads_for(self, peer: str) -> Heads:
        """The memory of heads for connections from *peer*: what a trusted proxy says of hosts is believed."""
        if not self._callers.trusts(peer):
            return self._heads
        heads = self._heads_of_proxies.get(peer)
        if heads is None:
            if len(self._heads_of_proxies) >= MOST_PROXIES:
                self._heads_of_proxies.clear()
            heads = self._heads_of_proxies[peer] = Heads(partial(self._read_of_proxy, peer))
        return heads

    def is_site(self, host: str) -> bool:
        return host != self._control

    def fresh(self) -> bytes:
        """What is new at each answer, and ends its head."""
        return self._date + next(self._ids) + b"\r\n\r\n"

    def count(self, status: int, body_bytes: int) -> None:
        self._tally.statuses[status] += 1
        self._tally.body_bytes += body_bytes

    def inner(self, owner: Owner) -> Inner:
        """A protocol of aiohttp's for one connection."""
        return Inner(self._server, owner, loop=self.loop, **self._options)

    # Connections

    def admit(self, connection: Closable, peer: str) -> bool:
        """Count one more; False if there are too many, in all or of its address."""
        self._open.add(connection)
        network = self._counted(peer)
        if network:
            self._by_address[network] += 1
        few = self._by_address[network] <= self.patience.connections_per_address
        return few and len(self._open) <= self.patience.connections

    def release(self, connection: Closable, peer: str) -> None:
        self._open.discard(connection)
        if self._last_left is not None and not self._open and not self._last_left.done():
            self._last_left.set_result(None)
        network = self._counted(peer)
        if network:
            self._by_address[network] -= 1
            if self._by_address[network] <= 0:
                del self._by_address[network]

    async def close(self, timeout_s: float) -> None:
        """Close connections as they come to rest; after *timeout_s* all of them."""
        for connection in list(self._open):
            connection.close_soon()
        if self._open:
            self._last_left = self.loop.create_future()
            await asyncio.wait([self._last_left], timeout=timeout_s)
        for connection in list(self._open):
            connection.abort()
        self.clock.stop()
        self._tally.drain(self._visited)

    def _counted(self, peer: str) -> str:
        """Whose connections count together with those of *peer*; empty where any number may be."""
        if not peer or self._callers.trusts(peer):
            return ""
        caller = self._callers.of(peer, lambda _name, none: none, scheme="", host="")
        return "" if not caller.address or ip_address(caller.address).is_loopback else caller.network

    def _read_of_proxy(self, peer: str, data: bytes) -> Head | None:
        head = read_head(data)
        if head is not None:
            caller = self._callers.of(peer, head.lines, scheme="http", host=head.host)
            head.host = normal_host(caller.host) or ""
        return head

    def _tick(self) -> None:
        self._date = f"Date: {http_now()}\r\nX-Request-Id: ".encode()
        self._tally.drain(self._visited)
