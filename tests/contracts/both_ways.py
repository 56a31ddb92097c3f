"""One site, served both ways: the quick one, and aiohttp alone, which is the reference for it."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import uvloop

from scalemesh.edge.front import Patience
from scalemesh.services.manifests import encode, make_manifest
from scalemesh.values import DeploymentId, Digest
from tests.contracts.visits import AT, FILES, PATIENT, PROJECT, MemoryStore, Site, open_site

LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
HOSTS: Final = ("shop.localhost", "shop-678901.localhost", "new.localhost")
TURN_S: Final = 0.002  #: the servers run on the same loop, so turns of it tell more than the clock of a busy machine
QUIET: Final = 10  #: nothing came for so many turns, and both have said the same: they are done
LIMIT: Final = 1000
_FRESH: Final = re.compile(rb"(Date|X-Request-Id): [^\r\n]*")
_BAD: Final = re.compile(  # aiohttp's words; a page of ours varies by Accept
    rb"HTTP/1\.[01] 400 Bad Request\r\n(?:(?!Vary)[A-Za-z-]+: [^\r\n]*\r\n)+\r\n.*",
    re.DOTALL,
)


@dataclass
class Exchange:
    """What came back on one connection so far."""

    received: bytes = b""
    is_closed: bool = False

    @property
    def said(self) -> bytes:
        """Without what is new at each answer. aiohttp's own 400 tells how the bytes came, which differs."""
        return _BAD.sub(b"<400>", _FRESH.sub(rb"\1: -", self.received))


@dataclass
class Both:
    """The two ways, and the loop that both run on."""

    run: Callable[[Any], Any]
    quick: Site
    slow: Site
    generation: int = 1

    def promote(self) -> None:
        """Lead the site's hosts to another deployment, the same in both ways, with other words on every page."""
        self.generation += 1
        files = {path: data + b"!" * self.generation for path, data in FILES.items() if len(data) < 1000}
        listing = [(path, self.quick.store.add(data), len(data)) for path, data in files.items()]
        made = make_manifest(DeploymentId(f"dpl_{self.generation:020}"), AT, listing, [])
        manifest = self.quick.store.add(encode(made.manifest))
        for site in (self.quick, self.slow):
            old = [route for host in HOSTS if (route := site.routes.find(host)) is not None]
            new = [
                replace(route, manifest=manifest, deployment=made.manifest.deployment) if route.manifest else route
                for route in old
            ]
            assert site.routes.apply(PROJECT, self.generation, new)

    def compare(self, pieces: Sequence[bytes]) -> tuple[Exchange, Exchange]:
        """Send *pieces* both ways, and wait until they have said the same or *LIMIT* turns are over."""
        return self.run(self._compare(pieces))  # type: ignore[no-any-return]

    async def _compare(self, pieces: Sequence[bytes]) -> tuple[Exchange, Exchange]:
        quick, slow = Exchange(), Exchange()
        async with talking(self.quick.port, pieces, quick), talking(self.slow.port, pieces, slow):
            await _settle(lambda: agree(quick, slow), quick, slow)
        if agree(quick, slow) or b"<400>" not in slow.said:
            return quick, slow
        # aiohttp answers none of the requests that it was given together with one that it refuses. The quick way
        # answers those that it did not have to hand over, so it stands between aiohttp and aiohttp one by one.
        slow = await self._one_after_the_other(b"".join(pieces), Exchange())
        told, refused, _ = quick.said.partition(b"<400>")
        return quick, quick if refused and slow.said.startswith(told) else slow

    async def _one_after_the_other(self, stream: bytes, into: Exchange) -> Exchange:
        pieces = [piece + b"\r\n\r\n" for piece in stream.split(b"\r\n\r\n")]
        pieces[-1] = pieces[-1][:-4]
        async with talking(self.slow.port, [], into) as send:
            for piece in pieces:
                send(piece)
                await _settle(lambda: True, into)
        return into


def agree(quick: Exchange, slow: Exchange) -> bool:
    """Whether both ways said the same, and both connections are still open, or neither."""
    return (quick.is_closed, quick.said) == (slow.is_closed, slow.said)


async def _settle(holds: Callable[[], bool], *exchanges: Exchange) -> None:
    """Wait until *holds* and nothing more comes; or until it has not held for too long."""
    quiet, before = 0, -1
    for _ in range(LIMIT):
        if all(exchange.is_closed for exchange in exchanges):
            return
        now = sum(len(exchange.received) + exchange.is_closed for exchange in exchanges)
        quiet = quiet + 1 if now == before and holds() else 0
        before = now
        if quiet > QUIET:
            return
        await asyncio.sleep(TURN_S)


@asynccontextmanager
async def talking(port: int, pieces: Sequence[bytes], into: Exchange) -> AsyncIterator[Callable[[bytes], None]]:
    """Send *pieces*, each in a packet of its own as far as that can be had, and read meanwhile; yields ``send``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    reading = asyncio.ensure_future(_read(reader, into))

    def send(piece: bytes) -> None:
        if not writer.transport.is_closing():
            writer.write(piece)

    try:
        for piece in pieces:
            send(piece)
            for _ in range(4):  # turns of the loop: for the server, which runs on it too, to see them apart
                await asyncio.sleep(0)
        yield send
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader, into: Exchange) -> None:
    try:
        while data := await reader.read(1 << 20):
            into.received += data
    except ConnectionError:
        pass
    into.is_closed = True


@contextmanager
def both_ways(loop: str, folder: Path, patience: Patience = PATIENT) -> Iterator[Both]:
    """Open the site both ways, on a loop of the kind *loop*; large files lie in *folder*."""
    store = MemoryStore()

    def file_of(digest: Digest) -> Path:
        path = folder / digest
        if not path.exists():
            path.write_bytes(store.blobs[digest])
        return path

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:

        async def opened() -> tuple[Site, Site, AsyncExitStack]:
            stack = AsyncExitStack()
            quick = await stack.enter_async_context(open_site(store, file_of=file_of, patience=patience))
            return quick, await stack.enter_async_context(open_site(store, quick=False)), stack

        quick, slow, stack = runner.run(opened())
        try:
            yield Both(runner.run, quick, slow)
        finally:
            runner.run(stack.aclose())
