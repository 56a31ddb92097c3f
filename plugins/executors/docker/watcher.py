"""One stream of the engine's events for all jobs: whoever waits for a container hears when to look at it again."""

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from docker.errors import DockerException
from requests.exceptions import RequestException

from plugins.executors.docker.engine import Engine, close_stream

log = logging.getLogger(__name__)
EVENTS: Final = ("die", "destroy", "oom")
BACK_OFF_S: Final = (0.2, 0.5, 1.0, 2.0)
RENEW_S: Final = 60.0  #: a connection that died without a word would be silent for ever
#: What happened so long before a stream began is told again: an engine answers before it begins to listen.
BACK_S: Final = 90


class Watcher:
    """A thread that reads the stream, and starts it anew when it breaks."""

    def __init__(self, engine: Engine, owner: str) -> None:
        self._engine, self._owner = engine, owner
        self._loop = asyncio.get_running_loop()
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._ended = threading.Event()
        self._stream: Any = None
        self._thread = threading.Thread(target=self._serve, name="docker events", daemon=True)
        self._thread.start()

    @contextmanager
    def listening(self, container: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever something may have happened to the container of that name."""
        event = asyncio.Event()
        self._listeners[container].add(event)
        try:
            yield event
        finally:
            self._listeners[container].discard(event)
            if not self._listeners[container]:
                del self._listeners[container]

    async def renew(self, every_s: float) -> None:
        """Break the stream off now and then, until cancelled: it starts anew, and all who wait look again."""
        while True:
            await asyncio.sleep(every_s)
            self._break_off()

    def close(self) -> None:
        """End the stream and its thread."""
        self._ended.set()
        self._break_off()
        self._thread.join(5)

    def _break_off(self) -> None:
        stream = self._stream
        if stream is not None:
            with suppress(OSError, ValueError, AttributeError):
                stream.close()  # wakes the thread, which lets go of the rest

    def _serve(self) -> None:
        failures = 0
        while not self._ended.is_set():
            try:
                self._read()
                failures = 0
            except (DockerException, RequestException, OSError, ValueError) as error:
                log.debug("the engine's events broke off", extra={"error": str(error)})
                failures += 1
            except Exception:
                log.exception("a bug: the engine's events could not be read")
                failures += 1
            self._ended.wait(BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)])

    def _read(self) -> None:
        filters = {"label": [f"scalemesh.owner={self._owner}"], "type": ["container"], "event": list(EVENTS)}
        since = int(time.time()) - BACK_S
        self._stream = self._engine.client().api.events(since=since, filters=filters, decode=True)
        self._tell(None)  # what happened while nobody listened
        try:
            for event in self._stream:
                if self._ended.is_set():
                    return
                self._tell(str(event.get("Actor", {}).get("Attributes", {}).get("name", "")))
        finally:
            close_stream(self._stream)

    def _tell(self, container: str | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._wake, container)

    def _wake(self, container: str | None) -> None:
        names = list(self._listeners) if container is None else [container]
        for name in names:
            for event in self._listeners.get(name, ()):
                event.set()
