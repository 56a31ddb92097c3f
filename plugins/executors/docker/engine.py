"""The engine's client, whose calls block: they run in threads, a few at a time. Errors become ours here."""

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, Final, TypeVar, cast

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.tls import TLSConfig
from requests.exceptions import RequestException

from plugins.executors.docker.config import DockerConfig
from scalemesh.errors import RefusedError, UnreachableError

THREADS: Final = 8
TIMEOUT_S: Final = 30
PING_S: Final = 4
CLOSE_S: Final = 2.0
OLDEST: Final = "1.40"  #: spoken until the engine has told what it speaks
BAD: Final = 400
CONFLICT: Final = 409

T = TypeVar("T")


class Engine:
    """Connects when it is first asked: the daemon starts whether the engine is up or not."""

    def __init__(self, config: DockerConfig) -> None:
        self._config = config
        self._turns = asyncio.Semaphore(THREADS)
        self._lock = threading.Lock()
        self._client: Any = None

    async def call(self, work: Callable[[Any], T]) -> T:
        """Run *work* with the client in a thread.

        Raises:
            NotFound: the engine knows no such thing; callers expect it.
            UnreachableError: the engine does not answer, or cannot do it now.
            RefusedError: it said no.
        """
        await self._turns.acquire()
        return await _in_thread(lambda: self._called(work), self._turns.release)

    async def call_apart(self, work: Callable[[Any], T]) -> T:
        """As ``call``, for what may take many minutes: other calls do not wait for it."""
        return await _in_thread(lambda: self._called(work), lambda: None)

    async def ping(self) -> None:
        """See within seconds that the engine answers, on a connection of its own.

        Raises:
            UnreachableError: it does not.
        """
        await _in_thread(self._pinged, lambda: None)

    def _pinged(self) -> None:
        try:
            _knock(self._config.engine, PING_S)
            one = self._connected(PING_S)
            one.close()
        except (DockerException, RequestException, OSError) as error:
            raise unreachable(self._config.engine, error) from error

    def _called(self, work: Callable[[Any], T]) -> T:
        try:
            return work(self.client())
        except NotFound:
            raise
        except APIError as error:
            if error.status_code == BAD and "client version" in _words(error):
                self._forget_client()
                raise UnreachableError("the docker engine has been exchanged for another", why=_words(error)) from error
            if error.status_code == CONFLICT:  # what a daemon asked that was killed meanwhile is being done
                raise UnreachableError("the docker engine is at it already", why=_words(error)) from error
            if error.status_code and error.status_code < 500:
                raise RefusedError("the docker engine refused it", why=_words(error)) from error
            raise UnreachableError("the docker engine cannot do it now", why=_words(error)) from error
        except (DockerException, RequestException, OSError) as error:
            raise unreachable(self._config.engine, error) from error

    def client(self) -> Any:
        """The connected client, for our own threads alone. Raises what ``call`` makes of it."""
        _knock(self._config.engine, TIMEOUT_S)
        with self._lock:
            if self._client is None:
                self._client = self._connected(TIMEOUT_S)
            return self._client

    def _forget_client(self) -> None:
        """One for an engine that speaks what this one does not: the next call asks what that is."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self, timeout_s: int) -> Any:
        """A client that has asked the engine which version it speaks."""
        with closing(self._made(OLDEST, PING_S)) as first:
            version = first.version(api_version=False)["ApiVersion"]
        return self._made(version, timeout_s)

    def _made(self, version: str, timeout_s: int) -> Any:
        engine = self._config.engine
        made = docker.DockerClient(
            base_url=engine, version=version, timeout=timeout_s, max_pool_size=THREADS + 2, tls=self._tls()
        )
        made.api.trust_env = False  # else REQUESTS_CA_BUNDLE would win over tls_ca
        return made

    async def close(self) -> None:
        """Let go of the connections, once calls under way have ended; those of an engine that hangs are left behind."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                for _ in range(THREADS):
                    await self._turns.acquire()
        if self._client is not None:
            self._client.close()

    def _tls(self) -> Any:
        config = self._config
        if not config.has_tls:
            return False
        pair = (str(config.tls_cert), str(config.tls_key)) if config.tls_cert else None
        return TLSConfig(ca_cert=str(config.tls_ca) if config.tls_ca else None, client_cert=pair, verify=True)


def _knock(engine: str, timeout_s: int) -> None:
    """Raise OSError unless the engine's unix socket takes connections: where it does not, the client leaks its own."""
    if engine.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(timeout_s)
            one.connect(engine.removeprefix("unix://"))


async def _in_thread(work: Callable[[], T], ended: Callable[[], object]) -> T:
    """Do *work* in a thread that the end of the process does not wait for; then *ended*, in the loop, in any case.

    Whoever waits may be cancelled: the thread goes on, and nobody is told what became of it.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(found: T | None, error: Exception | None) -> None:
        ended()
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast("T", found))

    def serve() -> None:
        found, failed = None, None
        try:
            found = work()
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            failed = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, found, failed)

    threading.Thread(target=serve, name="docker", daemon=True).start()
    return await done


def close_stream(stream: Any) -> None:
    """End a stream of the client, from any thread. Its own ``close`` leaves the answer's file open."""
    with suppress(OSError, ValueError, AttributeError):
        stream.close()
    stream._response.close()


def unreachable(engine: str, error: Exception) -> UnreachableError:
    """What a person is told of an engine that does not answer."""
    text = str(error)
    if "Permission denied" in text:
        fix = "let the daemon's user use it: usermod -aG docker USER, then start the daemon anew"
    elif engine.startswith("unix://"):
        fix = "start it (systemctl start docker), or name another by executor.docker.host"
    else:
        fix = "check executor.docker.host and its tls_ca, tls_cert and tls_key"
    return UnreachableError(f"the docker engine at {engine} does not answer", why=text[-500:], fix=fix)


def _words(error: APIError) -> str:
    return str(error.explanation or error)[-500:]
