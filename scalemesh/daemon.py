"""Start, signals, one TaskGroup, stop."""

import asyncio
import fcntl
import logging
import os
import signal
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware

from scalemesh.config import Config, Listen
from scalemesh.edge.listening import Adopting, Edge, open_edge
from scalemesh.edge.targets import origin_form
from scalemesh.edge.visit import caller_of
from scalemesh.edge.workers import START_S, Adopt, Workers
from scalemesh.errors import ConfigError
from scalemesh.services.hosts import normal_host
from scalemesh.web.door import Room, open_door
from scalemesh.web.outlet import Outlet, open_outlet

log = logging.getLogger(__name__)
STOP_S: Final = 5.0  #: how long open requests may still take once we stop
PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: Of aiohttp's protocol: no log, and bodies as they come, or what a Content-Length announces would bound nothing.
PROTOCOL: Final[Mapping[str, Any]] = {"access_log": None, "auto_decompress": False}
IP_FREEBIND: Final = 15  # of linux/in.h; IPv6 sockets know it too
PEER_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid


class Daemon:
    """The listening side: one TCP port for all hosts, a socket for the admin, a socket for builders."""

    def __init__(
        self,
        config: Config,
        listeners: Sequence[socket.socket],
        *,
        load: Callable[[], Awaitable[object]],
        control: web.Application,
        admin: web.Application,
        builds: web.Application,
        outlet: Outlet,
        edge: Edge,
        workers: Workers | None,
        background: Sequence[Callable[[], Coroutine[None, None, None]]],
    ) -> None:
        """*listeners* are bound but do not listen yet; *load* runs before anything does.

        With *workers* those have the listeners, and the daemon is passed what is not a site's.
        """
        self._config, self._load, self._background = config, load, background
        self._listener, self._workers = listeners[0], workers
        control.middlewares.insert(0, by_host(edge))
        admin.middlewares.insert(0, same_user)
        self._control, self._admin, self._builds, self._edge = control, admin, builds, edge
        self._outlet = outlet
        self.port: int = listeners[0].getsockname()[1]

    async def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until cancelled; *ready* is called once every socket listens."""
        async with self.listening(), asyncio.TaskGroup() as group:
            for work in self._background:
                group.create_task(work())
            ready()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Load what is served, then listen; stop listening at the end."""
        async with AsyncExitStack() as opened:
            await self._load()
            run_dir = self._config.run_dir
            run_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
            builds_socket = self._config.builds_socket
            builds_socket.parent.mkdir(mode=0o711, exist_ok=True)
            # Builders run under another user where the daemon is root; what they may do hangs on their token.
            use = opened.enter_async_context
            builders = await use(_listening(self._builds, _unix_socket(builds_socket, 0o666), self._config))
            if self._config.builds.listen is not None:
                await use(self._listening_to_builders(runner_server(builders)))
            await use(open_outlet(builds_socket.parent, self._outlet))
            await use(_listening(self._admin, _unix_socket(self._config.admin_socket, 0o600), self._config))
            await use(self._listening_to_all())
            yield

    @asynccontextmanager
    async def _listening_to_builders(self, server: web.Server) -> AsyncIterator[None]:
        """Those elsewhere."""
        sock = _builders_socket(*self._config.builds.listen_address)
        try:
            room = Room(callers=self._edge.callers)
            async with open_door(server, sock, room, backlog=self._config.listen.backlog):
                yield
        finally:
            sock.close()

    @asynccontextmanager
    async def _listening_to_all(self) -> AsyncIterator[None]:
        """The one port of control host and sites."""
        async with _running(self._control, self._config) as runner:
            edge = open_edge(
                self._edge,
                runner_server(runner),
                None if self._workers else self._listener,
                backlog=self._config.listen.backlog,
                stop_s=STOP_S,
                options=PROTOCOL,
            )
            async with edge as front, AsyncExitStack() as beside:
                if self._workers is not None:
                    await beside.enter_async_context(_serving(self._workers, Adopting(front)))
                # First at the end: who follows a log is under way for ever.
                beside.push_async_callback(self._control.shutdown)
                yield


@contextmanager
def only_daemon(data_dir: Path) -> Iterator[None]:
    """Hold the lock of *data_dir*.

    Raises:
        ConfigError: another daemon holds it.
    """
    data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    lock = data_dir / "daemon.lock"
    lock.touch(mode=0o600)  # or anybody on this machine could hold it
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"another daemon runs on {data_dir}", fix="stop it, or give this one a data_dir of its own"
            ) from error
        yield


@contextmanager
def bound_sockets(listen: Listen, count: int) -> Iterator[list[socket.socket]]:
    """*count* sockets for the public port, bound but not listening: a taken port is told before anything starts.

    Raises:
        ConfigError: the address cannot be had.
    """
    with ExitStack() as opened:
        first = opened.enter_context(_bound(listen, listen.port, is_shared=False))
        if count == 1:
            yield [first]
            return
        port = first.getsockname()[1]
        first.close()  # it has proven that the port is nobody's: sockets that share one would join any stranger's
        yield [opened.enter_context(_bound(listen, port, is_shared=True)) for _ in range(count)]


def _bound(listen: Listen, port: int, *, is_shared: bool) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in listen.host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((listen.host, port))
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"cannot listen on {listen.host} port {port}",
            why=error.strerror or str(error),
            fix="end what listens there, or set another listen.port",
        ) from error
    return sock


@asynccontextmanager
async def _serving(workers: Workers, adopt: Adopt) -> AsyncIterator[None]:
    """Keep *workers* running; entered once all of them serve.

    Raises:
        ConfigError: they do not come up.
    """
    running = asyncio.create_task(workers.serve(adopt))
    try:
        await asyncio.wait_for(workers.ready(), START_S)
        yield
    except TimeoutError as error:
        raise ConfigError(
            "the serving processes do not start", fix="see the log; edge.workers = 1 does without"
        ) from error
    finally:
        running.cancel()
        await asyncio.wait([running])


def by_host(edge: Edge) -> Middleware:
    """The control host's requests go on to their handler, all others are visits of sites.

    The host is that of the caller: a believed proxy may have been asked for another than it asks us for. A target in
    absolute form never leads to the control host: it is no browser's, and who reads Host would take it for another.
    """

    @web.middleware
    async def choose(request: web.Request, handler: Handler) -> web.StreamResponse:
        is_control = normal_host(caller_of(request, edge.callers).host) == edge.control
        if is_control and origin_form(request.raw_path)[1] is None:
            return await handler(request)
        return await edge.answer(request)

    return choose


@web.middleware
async def same_user(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The file's mode keeps others out already; this holds also where somebody loosened it."""
    transport = request.transport
    found = transport.get_extra_info("socket") if transport else None
    if found is None or _peer_uid(found.fileno()) not in (os.geteuid(), 0):
        raise web.HTTPForbidden(text="this socket is the operator's own\n")
    return await handler(request)


def _peer_uid(descriptor: int) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as peer:
        data = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS.size)
    return int(PEER_CREDENTIALS.unpack(data)[1])


def _unix_socket(path: Path, mode: int) -> socket.socket:
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()  # of a daemon that is gone: the lock on the data folder says so
    sock = socket.socket(socket.AF_UNIX)
    before = os.umask(0o777 & ~mode)
    try:
        sock.bind(str(path))
    except OSError as error:
        sock.close()
        raise ConfigError(f"{path}: cannot listen there", why=str(error), fix="a shorter data_dir?") from error
    finally:
        os.umask(before)
    sock.listen(1024)
    return sock


def _builders_socket(address: str, port: int) -> socket.socket:
    """Bound also where this machine does not have *address* yet, as before the engine that brings its bridge is up."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        sock.bind((address, port))
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"cannot listen for builders on {address} port {port}",
            why=error.strerror or str(error),
            fix="end what listens there, or set another builds.listen",
        ) from error
    return sock


@asynccontextmanager
async def _listening(app: web.Application, sock: socket.socket, config: Config) -> AsyncIterator[web.AppRunner]:
    """Serve *app* alone on *sock*."""
    try:
        async with _running(app, config) as runner:
            await web.SockSite(runner, sock, backlog=config.listen.backlog).start()
            yield runner
    finally:
        sock.close()


@asynccontextmanager
async def _running(app: web.Application, config: Config) -> AsyncIterator[web.AppRunner]:
    runner = web.AppRunner(
        app,
        handle_signals=False,
        shutdown_timeout=STOP_S,
        keepalive_timeout=config.serving.keepalive_timeout_s,  # for a request's head too: aiohttp knows no other
        **PROTOCOL,
    )
    await runner.setup()
    try:
        yield runner
    finally:
        await runner.cleanup()


def runner_server(runner: web.AppRunner) -> web.Server:
    """The server behind *runner*, which has been set up."""
    if runner.server is None:
        raise RuntimeError("the runner was not set up")
    return runner.server


class Fields(logging.Formatter):
    """An event, then its fields: ``2026-01-31 12:00:00 INFO scalemesh.services.scheduler build ended cause=ok``."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in PLAIN}
        text = super().format(record)
        head, separator, stack = text.partition("\n")
        return head + "".join(f" {name}={_in_one_line(value)}" for name, value in fields.items()) + separator + stack


def _in_one_line(value: object) -> str:
    """Paths and errors carry what strangers sent: no line of theirs must look like one of ours."""
    text = str(value)
    return text if text.isprintable() else repr(text)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Set up logging for the whole process: once, in the program that runs the daemon."""
    handler = logging.StreamHandler()
    handler.setFormatter(Fields("%(asctime)s %(levelname)s %(name)s %(message)s"))
    handler.addFilter(is_ours_to_mend)
    logging.basicConfig(level=level, handlers=[handler])


def is_ours_to_mend(record: logging.LogRecord) -> bool:
    """A stranger who does not speak HTTP is answered 400; aiohttp would log a stack for each.

    urllib3 tells each try of each request of a store that is away; we tell what came to nothing in the end.
    """
    is_a_try = record.name.startswith("urllib3.") and record.levelno < logging.ERROR
    return not is_a_try and not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


async def until_signal(serve: Callable[[], Awaitable[None]]) -> None:
    """Run *serve* until SIGTERM or SIGINT; running builds go on, the next start adopts them."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(serve())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task
