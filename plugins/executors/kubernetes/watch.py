"""Two threads that listen to the cluster for all jobs that are waited for: one to Jobs, one to pods."""

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

from plugins.executors.kubernetes.cluster import Cluster, Found, end_stream, events_of
from plugins.executors.kubernetes.words import TRANSPORT
from scalemesh.errors import NotFoundError, ScaleMeshError

log = logging.getLogger(__name__)
BACK_OFF_S: Final = (
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
)  #: the first also after a watch that went well: a proxy may end each at once
RELIST_S: Final = 300.0  #: at the latest we look for ourselves: a version that we listen from may mean nothing any more
GONE: Final = 410  #: the server has forgotten the version from which on we would listen
#: A 504 says so: the version lies in the server's future, whose data was restored from an older copy.
FUTURE: Final = "Too large resource version"
Tell = Callable[[str, Found | None], None]


@dataclass(eq=False, slots=True)
class News:
    """What is known of one job, as told by the cluster and by whoever looked."""

    job: Found | None = None
    is_job_gone: bool = False
    pods: dict[str, Found] = field(default_factory=dict)  #: by uid: the last that was seen of each
    begun: set[str] = field(default_factory=set)  #: uids of those whose container was seen to run, or to have run
    gone: set[str] = field(default_factory=set)  #: uids of those that are not there any more
    is_doubtful: bool = True  #: something may have happened unheard: look again
    happened: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self, job: Found | None, pods: list[Found]) -> None:
        """Take what was read just now for the whole truth, unless something was heard meanwhile."""
        self.is_job_gone = job is None
        self.job = job or self.job
        fresh = {pod["metadata"]["uid"]: pod for pod in pods}
        self.pods |= fresh
        self.begun |= {uid for uid, pod in fresh.items() if _has_begun(pod)}
        self.gone = set(self.pods) - set(fresh)
        self.is_doubtful = self.happened.is_set()

    def hear(self, resource: str, kind: str, found: Found) -> None:
        """Take one event of a watch."""
        uid = found["metadata"]["uid"]
        if resource == "pods":
            self.pods[uid] = found
            self.begun |= {uid} if _has_begun(found) else set()
            if kind == "DELETED":
                self.gone.add(uid)
        elif self.job is None or self.job["metadata"]["uid"] == uid:
            self.job, self.is_job_gone = found, kind == "DELETED"
        self.happened.set()

    def doubt(self) -> None:
        self.is_doubtful = True
        self.happened.set()


def _has_begun(pod: Found) -> bool:
    states = [status.get("state", {}) for status in pod.get("status", {}).get("containerStatuses") or []]
    return any("running" in state or "terminated" in state for state in states)


class Watch:
    """Begins to listen when the first job is waited for, and listens on until it is closed."""

    def __init__(self, cluster: Cluster, selector: str, relist_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._followed: defaultdict[str, set[News]] = defaultdict(set)
        self._streams = [_Stream(cluster, resource, selector, self._told, relist_s) for resource in ("jobs", "pods")]

    @classmethod
    @asynccontextmanager
    async def open(cls, cluster: Cluster, selector: str, *, relist_s: float = RELIST_S) -> AsyncIterator[Self]:
        """Nothing is asked before something is followed. *relist_s*: how long what is heard is relied on alone."""
        watch = cls(cluster, selector, relist_s)
        try:
            yield watch
        finally:
            await asyncio.gather(*(asyncio.to_thread(stream.close) for stream in watch._streams))

    @contextmanager
    def following(self, name: str) -> Iterator[News]:
        """What is heard of the job of that name from now on."""
        for stream in self._streams:
            stream.start()
        news = News()
        self._followed[name].add(news)
        try:
            yield news
        finally:
            self._followed[name].discard(news)
            if not self._followed[name]:
                del self._followed[name]

    def _told(self, resource: str, event: Found | None) -> None:
        """From the threads; None: something may have been missed."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._spread, resource, event)

    def _spread(self, resource: str, event: Found | None) -> None:
        if event is None:
            for every in self._followed.values():
                for news in every:
                    news.doubt()
            return
        found = event["object"]
        meta = found["metadata"]
        name = meta["name"] if resource == "jobs" else meta.get("labels", {}).get("job-name", "")
        for news in self._followed.get(name, ()):
            news.hear(resource, event["type"], found)


class _Stream:
    """One thread: list, then watch from there on; again from the last version where a connection broke."""

    def __init__(self, cluster: Cluster, resource: str, selector: str, tell: Tell, relist_s: float) -> None:
        self._cluster, self._resource, self._selector, self._tell = cluster, resource, selector, tell
        self._relist_s = relist_s
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._open: Any = None
        self._version = ""  #: from which on to listen; empty: list first
        self._listed_at = float("-inf")
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=f"kubernetes {self._resource}", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread; it does not outlive a request that is under way."""
        with self._lock:
            self._closed.set()
            end_stream(self._open)
        if self._thread is not None:
            self._thread.join(5)

    def _serve(self) -> None:
        failures, pause_s = 0, 0.0
        while not self._closed.wait(pause_s):
            try:
                if not self._version or time.monotonic() - self._listed_at >= self._relist_s:
                    self._begin()
                self._listen()
                failures = 0
            except (ScaleMeshError, *TRANSPORT, ValueError, KeyError) as error:
                if not self._closed.is_set():
                    failures += 1
                    level = logging.WARNING if failures == len(BACK_OFF_S) else logging.DEBUG
                    log.log(level, "the cluster is not heard", extra={"error": str(error), "of": self._resource})
                self._forget_version_after(error)
            except Exception:
                failures += 1
                log.exception("a bug: the cluster is not heard", extra={"of": self._resource})
                self._version = ""
            pause_s = BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)]

    def _begin(self) -> None:
        _, self._version = self._cluster.listed(self._resource, self._selector)
        self._listed_at = time.monotonic()
        self._tell(self._resource, None)  # whoever waits looks for itself: it may have been told nothing for long

    def _listen(self) -> None:
        stream = self._cluster.stream(self._resource, self._selector, self._version)
        with self._lock:
            self._open = stream
            if self._closed.is_set():
                end_stream(stream)
        try:
            for event in events_of(stream):
                self._hear(event)
        finally:
            with self._lock:
                self._open = None
            stream.close()

    def _hear(self, event: Found) -> None:
        found = event.get("object") or {}
        if event.get("type") == "ERROR":
            raise _BrokenError(int(found.get("code") or 0), str(found.get("message")))
        self._version = found["metadata"]["resourceVersion"]
        if event["type"] != "BOOKMARK":
            self._tell(self._resource, event)

    def _forget_version_after(self, error: Exception) -> None:
        """Only a broken connection may be taken up where it broke."""
        is_lost = isinstance(error, _BrokenError | ValueError | KeyError | NotFoundError)
        if is_lost or _is_gone(error) or FUTURE in getattr(error, "why", ""):
            self._version = ""


class _BrokenError(OSError):
    """The server ended the watch by an event: too old a version, mostly."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code


def _is_gone(error: Exception) -> bool:
    return getattr(error.__cause__, "status", None) == GONE
