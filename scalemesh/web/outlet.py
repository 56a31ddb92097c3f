"""The way out for builds that have no network: a proxy, to whom builds.network lets them, never to what is forbidden.

A connection begins with the line that builder.forwarder sends, which says whose build it is. The name that is asked for
is resolved here, each of its addresses is judged, and the connection goes to the very address that was judged, so a
name that changes its mind between two look-ups gains nothing. Where the operator's company has a proxy of its own, that
one is asked for the name: it may know names that we do not, and what it leads to is its affair.
"""

import asyncio
import logging
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol, TypeAlias
from urllib.parse import urlsplit

from builder.addresses import Reach
from builder.netlink import Netlink
from builder.protocol import PROXY_WORD
from scalemesh.errors import ScaleMeshError
from scalemesh.services.outgoing import Way
from scalemesh.web.upstream import Upstream, UpstreamError, Upstreams

log = logging.getLogger(__name__)

CONNECTIONS: Final = 2048
CONNECTIONS_PER_BUILD: Final = 256
_MOST_HEAD: Final = 16 * 1024
_HEAD_S: Final = 10.0
_CONNECT_S: Final = 10.0
IDLE_S: Final = 120.0  #: so long nothing may pass, whichever way
_CHUNK: Final = 65536
EVERYBODY: Final = ""  #: what all builds together have is counted under
Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ProxyRefusal(Exception):  # noqa: N818 - an answer, not a failure
    """The answer to a request that is not carried out."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


class NotAllowed(ProxyRefusal):
    """It may not be asked for: its build's log tells."""

    def __init__(self, text: str) -> None:
        super().__init__("403 Forbidden", text)


class Gate(Protocol):
    """Who may pass, and to whom: scalemesh.services.outgoing."""

    async def admit(self, token: str, nonce: str) -> Way:
        """Raises ScaleMeshError where it is no build's."""

    async def tell(self, way: Way, host: str, why: str) -> None:
        """Say in the build's log that *host* was refused."""


class Outlet:
    """Answers one connection after the other; keeps count."""

    def __init__(
        self,
        gate: Gate,
        allowed: tuple[str, ...],
        upstreams: Upstreams,
        *,
        connections: int = CONNECTIONS,
        per_build: int = CONNECTIONS_PER_BUILD,
        idle_s: float = IDLE_S,
    ) -> None:
        self._idle_s = idle_s
        self._gate, self._allowed, self._upstreams = gate, allowed, upstreams
        self._most, self._most_of_one = connections, per_build
        self._open: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one client's connection until it ends."""
        try:
            with self._counted(EVERYBODY, self._most):
                await self._carry(reader, writer)
        except ProxyRefusal as refusal:
            writer.write(_answer(refusal.status, str(refusal)))
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError) as error:
            log.debug("a build's connection ended", extra={"error": str(error)})
        finally:
            with suppress(OSError):
                writer.close()
                await writer.wait_closed()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_HEAD_S):
            way = await self._admitted(await reader.readuntil(b"\r\n"))
        with self._counted(way.deployment, self._most_of_one):
            async with asyncio.timeout(_HEAD_S):
                host, port, first = _wanted(await reader.readuntil(b"\r\n\r\n"))
            try:
                async with self._connected(way, host, port, first) as (far_reader, far_writer):
                    if not first:
                        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                    await _both_ways((reader, writer), (far_reader, far_writer), self._idle_s)
            except NotAllowed as refusal:
                await self._gate.tell(way, host, str(refusal))
                raise

    @contextmanager
    def _counted(self, whose: str, most: int) -> Iterator[None]:
        """Count one more of *whose*, who may have *most*."""
        if self._open[whose] >= most:
            raise ProxyRefusal("503 Busy", "too many connections of builds at once")
        self._open[whose] += 1
        try:
            yield
        finally:
            self._open[whose] -= 1
            if not self._open[whose]:
                del self._open[whose]

    async def _admitted(self, greeting: bytes) -> Way:
        words = greeting.decode("ascii", "replace").split()
        if len(words) != 3 or words[0] != PROXY_WORD:
            raise ProxyRefusal("407 Proxy Authentication Required", "this proxy is for builds, by their forwarder")
        try:
            return await self._gate.admit(words[1], words[2])
        except ScaleMeshError as error:
            raise ProxyRefusal("407 Proxy Authentication Required", error.what) from error

    @asynccontextmanager
    async def _connected(self, way: Way, host: str, port: int, first: bytes) -> AsyncIterator[Streams]:
        """A connection to *host* on which *first* was said, straight or by the company's proxy."""
        if why := way.refusal(host, port):
            raise NotAllowed(why)
        upstream = self._upstreams.to(host, port, is_plain=bool(first))
        addresses = await self._judged(host, port, is_known=upstream is None)
        streams = await _open([upstream.host], upstream.port) if upstream else await _open(addresses, port)
        try:
            if upstream is not None:
                first = await _by(upstream, streams, host, port, first)
            streams[1].write(first)
            yield streams
        finally:
            streams[1].close()
            with suppress(OSError):
                await streams[1].wait_closed()

    async def _judged(self, host: str, port: int, *, is_known: bool) -> list[str]:
        """Addresses of *host* that may be reached. Not *is_known*: another will look it up, who may know more names."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError) as error:
            if not is_known:
                return []
            raise ProxyRefusal("502 Bad Gateway", f"{host}: no such host") from error
        with Netlink() as netlink:
            reach = Reach(self._allowed, tuple(netlink.addresses()))
        permitted = [str(item[4][0]) for item in found if reach.permits(str(item[4][0]))]
        if not permitted:
            raise NotAllowed(f"{host} is an address that builds may not reach (builds.allow_networks)")
        return permitted


@asynccontextmanager
async def open_outlet(folder: Path, outlet: Outlet) -> AsyncIterator[None]:
    """Serve on ``proxy.sock`` in *folder* until left. Builds keep the folder, so they see a successor's socket."""
    clients: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(outlet.serve(reader, writer))
        clients.add(task)
        task.add_done_callback(clients.discard)

    listening = _listen(folder)
    server = await asyncio.start_unix_server(accept, sock=listening, limit=_MOST_HEAD)
    try:
        yield
    finally:
        server.close()
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await server.wait_closed()


async def _open(hosts: Sequence[str], port: int) -> Streams:
    for host in hosts[:4]:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CONNECT_S):
                return await asyncio.open_connection(host, port, limit=_CHUNK)
    raise ProxyRefusal("502 Bad Gateway", "no answer from there")


async def _by(upstream: Upstream, streams: Streams, host: str, port: int, first: bytes) -> bytes:
    """Have the company's proxy lead to *host*; what is to be said first then."""
    if first:
        return upstream.asking(host, port, first)
    try:
        async with asyncio.timeout(_CONNECT_S):
            await upstream.tunnel(*streams, host, port)
    except (UpstreamError, OSError, EOFError, TimeoutError, asyncio.LimitOverrunError) as error:
        said = str(error) if isinstance(error, UpstreamError) else "no answer"
        raise ProxyRefusal("502 Bad Gateway", f"the proxy in builds.env does not lead to {host}: {said}") from error
    return b""


def _listen(folder: Path) -> socket.socket:
    """A listening socket that appears in one step, under a name of any length."""
    folder.mkdir(mode=0o711, exist_ok=True)
    folder.chmod(0o711)
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        short = Path(f"/proc/self/fd/{directory}")
        fresh = short / f".{os.getpid()}"
        fresh.unlink(missing_ok=True)
        listening.bind(str(fresh))
        fresh.chmod(0o666)  # the folders above keep others out; builds see this one alone
        fresh.rename(short / "proxy.sock")
        listening.listen(128)
    except BaseException:
        listening.close()
        raise
    finally:
        os.close(directory)
    return listening


def _wanted(head: bytes) -> tuple[str, int, bytes]:
    """(host, port, what to send first) of a request; nothing to send first for CONNECT."""
    line, _, rest = head.partition(b"\r\n")
    words = line.decode("latin-1").split(" ")
    if len(words) != 3:
        raise ProxyRefusal("400 Bad Request", "not a request that a proxy understands")
    method, target, version = words
    try:
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ProxyRefusal("400 Bad Request", "not an address") from error
    if method == "CONNECT" and host and port:
        return host, port, b""
    if parts.scheme != "http" or not host:
        raise ProxyRefusal("400 Bad Request", "only CONNECT and http:// addresses are understood")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return host, port or 80, f"{method} {path} {version}\r\n".encode("latin-1") + _closing(rest)


def _closing(headers: bytes) -> bytes:
    """The headers, without the proxy's own, and with the wish to end the connection after one answer."""
    kept = [
        line for line in headers.split(b"\r\n") if line and not line.lower().startswith((b"proxy-", b"connection:"))
    ]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""])


async def _both_ways(near: Streams, far: Streams, idle_s: float) -> None:
    """Carry until both sides have said all; who downloads for long says nothing meanwhile, and is no less there for it.

    Raises:
        TimeoutError: for *idle_s* nothing passed, neither one way nor the other.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(idle_s) as limit, asyncio.TaskGroup() as group:

        def passed() -> None:
            if not limit.expired():
                limit.reschedule(loop.time() + idle_s)

        group.create_task(_copy(near[0], far[1], passed))
        group.create_task(_copy(far[0], near[1], passed))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passed: Callable[[], None]) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
            passed()
    with suppress(OSError, RuntimeError):
        writer.write_eof()


def _answer(status: str, text: str) -> bytes:
    body = (text + "\n").encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body
