"""Serving processes beside the daemon: started, told of every change of routes, started anew if they do not follow.

Each has a listening socket of its own on the same port (SO_REUSEPORT), which the daemon keeps open: while a worker is
started anew, those who call wait instead of being refused.
"""

import asyncio
import logging
import pickle
import socket
import subprocess
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from scalemesh.edge.channel import PACKET_BYTES, packed, read_message, routes_message
from scalemesh.services.routing import RouteTable
from scalemesh.values import ProjectId, Route

log = logging.getLogger(__name__)
FOLLOW_S: Final = 0.05  #: a worker that has not followed a change by then is dropped
START_S: Final = 30.0
MOVE_S: Final = 30.0  #: as FOLLOW_S, for opening another store
STOP_S: Final = 6.0
RETRY_S: Final = (0.05, 0.2, 1.0, 5.0)  #: before a worker that ended is started anew; the last one again and again

LAST: Final = b"."
MORE: Final = b"+"  #: begins a packet behind which more bytes of the same connection follow

Told = Callable[[int, int, int], None]  #: of answers: status, how many, bytes of bodies
Adopt = Callable[[socket.socket, bytes], None]  #: takes over a connection with what was read from it


class Workers:
    """All serving processes. Nothing runs until ``serve`` does."""

    def __init__(
        self,
        command: Sequence[str],
        setup: object,
        listeners: Sequence[socket.socket],
        routes: RouteTable,
        *,
        visited: Told,
    ) -> None:
        """*command* starts a worker, which is given *setup* by pickle; one is started for each of *listeners*."""
        self._workers = [Worker(command, setup, listener, routes, visited) for listener in listeners]
        self._numbers = 0

    async def serve(self, adopt: Adopt) -> None:
        """Keep all of them running until cancelled."""
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(worker.keep_running(adopt))

    async def ready(self) -> None:
        """Wait until each of them serves."""
        await asyncio.gather(*(worker.is_ready.wait() for worker in self._workers))

    async def follow(self, project: ProjectId, generation: int, routes: Sequence[Route]) -> None:
        """Tell a change, and wait until every worker serves by it; those that do not within FOLLOW_S are dropped."""
        self._numbers += 1
        await self._tell(routes_message(self._numbers, project, generation, routes))

    async def forget(self, project: ProjectId) -> None:
        """Tell that *project* is gone; else as ``follow``."""
        self._numbers += 1
        await self._tell({"n": self._numbers, "gone": project})

    async def move(self, kind: str) -> None:
        """Tell where the blobs live now, and wait until every worker reads there; else as ``follow``, within MOVE_S."""
        self._numbers += 1
        for worker in self._workers:
            worker.home = kind
        await self._tell({"n": self._numbers, "home": kind}, within_s=MOVE_S)

    async def _tell(self, message: dict[str, Any], *, within_s: float = FOLLOW_S) -> None:
        data = packed(message)
        waits = [worker.tell(message["n"], data) for worker in self._workers]
        asked = [wait for wait in waits if wait is not None]
        if asked:
            await asyncio.wait(asked, timeout=within_s)
            await asyncio.sleep(0)  # what came in while we were busy ourselves counts too
            await asyncio.sleep(0)
        for worker in self._workers:
            worker.drop_unless_followed(message["n"])


class Worker:
    """One serving process, again and again."""

    def __init__(
        self, command: Sequence[str], setup: object, listener: socket.socket, routes: RouteTable, visited: Told
    ) -> None:
        self._command, self._setup, self._listener = command, setup, listener
        self._routes, self._visited = routes, visited
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._must_follow = False  #: it serves, or is about to
        self.is_ready = asyncio.Event()
        self.home: str | None = None  #: kind of the store that the blobs have moved to, since it was set up

    async def keep_running(self, adopt: Adopt) -> None:
        """Run it; when it ends, run it again."""
        tries = 0
        while True:
            try:
                await self._run(adopt)
            except OSError as error:
                log.warning("a serving process could not run", extra={"error": str(error)})
            tries = 0 if self.is_ready.is_set() else tries + 1
            self.is_ready.clear()
            self._must_follow = False
            log.warning("a serving process ended; it is started anew")
            await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])

    def tell(self, number: int, data: bytes) -> asyncio.Future[None] | None:
        """Send *data*; the future is done once it was followed. None: it does not run; it will start with all of it."""
        if self._writer is None:
            return None
        wait = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(data)
        return wait

    def drop_unless_followed(self, number: int) -> None:
        """End it at once if it has not followed; while it does not serve yet, nobody sees what it misses."""
        wait = self._waiting.pop(number, None)
        if wait is None or wait.done() or not self._must_follow:
            return
        log.warning("a serving process does not follow: it is dropped", extra={"pid": self._pid})
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    @property
    def _pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def _run(self, adopt: Adopt) -> None:
        ours, theirs = socket.socketpair()
        handed, handing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs, handing:
                self._process = await self._start(theirs, handing)
            reader, self._writer = await asyncio.open_unix_connection(sock=ours)
            self._writer.writelines(self._everything())
            handed.setblocking(False)
            with Passing(handed, adopt):
                await self._listen_to(reader)
        finally:
            await self._end()
            ours.close()
            handed.close()

    async def _start(self, theirs: socket.socket, handing: socket.socket) -> asyncio.subprocess.Process:
        passed = (self._listener.fileno(), theirs.fileno(), handing.fileno())
        process = await asyncio.create_subprocess_exec(
            *self._command, *map(str, passed), stdin=subprocess.PIPE, pass_fds=passed
        )
        if process.stdin is not None:
            process.stdin.write(pickle.dumps(self._setup))
            process.stdin.close()
        return process

    def _everything(self) -> Iterable[bytes]:
        if self.home is not None:
            yield packed({"n": 0, "home": self.home})
        for project, generation, routes in self._routes.all():
            yield packed(routes_message(0, project, generation, routes))
        yield packed({"n": 0, "loaded": True})

    async def _listen_to(self, reader: asyncio.StreamReader) -> None:
        """Hear what it says until it ends."""
        while (message := await read_message(reader)) is not None:
            if message.get("loaded") and self._writer is not None:
                self._must_follow = True
                self._writer.write(packed({"n": 0, "serve": True}))  # behind every change that was told so far
            if message.get("serves"):
                self.is_ready.set()
            for status, count, body_bytes in message.get("visits", ()):
                self._visited(status, count, body_bytes)
            wait = self._waiting.get(message.get("followed", 0))
            if wait is not None and not wait.done():
                wait.set_result(None)

    async def _end(self) -> None:
        """Let it finish what it is at; a closed channel tells it to."""
        for wait in self._waiting.values():
            if not wait.done():
                wait.set_result(None)  # a process that is gone shows nobody anything
        self._waiting.clear()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        process, self._process = self._process, None
        if process is None:
            return
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Passing:
    """Receives the connections that a worker hands over, until it is closed."""

    def __init__(self, handed: socket.socket, adopt: Adopt) -> None:
        self._handed, self._adopt, self._loop = handed, adopt, asyncio.get_running_loop()
        self._open: tuple[socket.socket, bytes] | None = None  #: the connection whose bytes are still coming

    def __enter__(self) -> None:
        self._loop.add_reader(self._handed.fileno(), self._receive)

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._handed.fileno())

    def _receive(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._handed, PACKET_BYTES + 1, 1)
        except (BlockingIOError, ConnectionError):
            return
        if not data:  # the worker is gone
            self._loop.remove_reader(self._handed.fileno())
            return
        if descriptors:
            self._open = (socket.socket(fileno=descriptors[0]), b"")
        if self._open is None:
            return
        connection, before = self._open
        self._open = (connection, before + data[1:])
        if data[:1] == LAST:
            self._adopt(*self._open)
            self._open = None


def hand_over(handing: socket.socket, connection: socket.socket, data: bytes) -> None:
    """Give *connection* to the daemon, with the *data* that was read from it.

    Raises:
        OSError: the daemon does not take it now.
    """
    parts = [data[start : start + PACKET_BYTES] for start in range(0, len(data), PACKET_BYTES)] or [b""]
    for number, part in enumerate(parts):
        packet = (LAST if number == len(parts) - 1 else MORE) + part
        socket.send_fds(handing, [packet], [connection.fileno()] if number == 0 else [])
