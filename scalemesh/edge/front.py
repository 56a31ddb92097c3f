"""What all connections of one listening socket share: the time, what is known of heads, the ways to an answer, the limits."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Protocol

from aiohttp import web

from scalemesh.edge.heads import Head, Heads, read_head
from scalemesh.edge.inner import Inner, Owner
from scalemesh.edge.quick import Quick, Tally
from scalemesh.edge.wire import http_now, request_ids

TICK_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a connection may do nothing, and how many there may be."""

    idle_s: float  #: between two requests
    head_s: float  #: from the first byte of a request's head to its last
    stall_s: float  #: while the visitor takes no bytes
    connections: int
    connections_per_address: int  #: of this machine itself and of trusted proxies any number


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
        server: web.Server[web.BaseRequest],
        quick: Quick,
        *,
        control: str,
        patience: Patience,
        trusts: Callable[[str], bool],
        trusted_host: Callable[[str, Mapping[str, list[str]]], str],
        visited: Callable[[int, int, int], None],
        options: Mapping[str, object],
    ) -> None:
        """*server* answers what is handed over, with *options* for its protocol.

        *trusted_host* tells the host of a request of a trusted proxy from its Host and its other fields.
        """
        self.loop = asyncio.get_running_loop()
        self.quick, self.patience = quick, patience
        self._server, self._control, self._options = server, control, options
        self._trusts, self._trusted_host, self._visited = trusts, trusted_host, visited
        self._heads, self._trusted_heads = Heads(), Heads(self._read_trusted)
        self._tally = Tally()
        self._ids = request_ids()
        self._date = b""
        self._open: set[Closable] = set()
        self._by_address: Counter[str] = Counter()
        self.clock = Clock(self.loop, self._tick)

    def heads_for(self, peer: str) -> Heads:
        """The memory of heads for connections from *peer*: what a trusted proxy says of hosts is believed."""
        return self._trusted_heads if self._trusts(peer) else self._heads

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
        if not self._is_counted(peer):
            return len(self._open) <= self.patience.connections
        self._by_address[peer] += 1
        few = self._by_address[peer] <= self.patience.connections_per_address
        return few and len(self._open) <= self.patience.connections

    def release(self, connection: Closable, peer: str) -> None:
        self._open.discard(connection)
        if self._is_counted(peer):
            self._by_address[peer] -= 1
            if self._by_address[peer] <= 0:
                del self._by_address[peer]

    async def close(self, timeout_s: float) -> None:
        """Close connections as they come to rest; after *timeout_s* all of them."""
        for connection in list(self._open):
            connection.close_soon()
        try:
            async with asyncio.timeout(timeout_s):
                while self._open:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            for connection in list(self._open):
                connection.abort()
        self.clock.stop()
        self._tally.drain(self._visited)

    def _is_counted(self, peer: str) -> bool:
        return bool(peer) and not self._trusts(peer) and not ip_address(peer).is_loopback

    def _read_trusted(self, data: bytes) -> Head | None:
        head = read_head(data)
        if head is not None:
            fields: dict[str, list[str]] = {}
            for name, value in head.pairs():
                fields.setdefault(name, []).append(value)
            head.host = self._trusted_host(head.host, fields)
        return head

    def _tick(self) -> None:
        self._date = f"Date: {http_now()}\r\nX-Request-Id: ".encode()
        self._tally.drain(self._visited)


@asynccontextmanager
async def listening(front: Front, sock: socket.socket, backlog: int, stop_s: float) -> AsyncIterator[None]:
    """Let visitors in by *sock*; at the end let those finish who are being answered."""
    from scalemesh.edge.protocol import Connection  # noqa: PLC0415

    server = await front.loop.create_server(lambda: Connection(front), sock=sock, backlog=backlog)
    try:
        yield
    finally:
        server.close()
        await front.close(stop_s)
