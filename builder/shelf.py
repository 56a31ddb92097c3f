"""What the daemon keeps for later builds: asks for it, brings it, and sends new archives while the build goes on.

Nothing here fails a build. Each call is tried once: what is not to be had now is done without.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final
from urllib.parse import urlencode

from builder.api import Api, Refused
from builder.archives import Archive, has_digest
from builder.errors import BuildFailed, GivenUp
from builder.store import Lane, Signed, Store, signed

#: How long archives that are still on their way hold up a build that is done: this part of its time limit, but at least
#: and at most so many seconds; one that never arrives would have every build begin with nothing.
WAIT_SHARE: Final = 10
LEAST_WAIT_S: Final = 10.0
MOST_WAIT_S: Final = 120.0
GLANCE_S: Final = 0.5
CALLS: Final = "/build/v1/cache"


@dataclass(frozen=True, slots=True)
class Found:
    """An archive that an earlier build kept."""

    key: str
    sha256: str
    size: int  #: bytes
    unpacked: int  #: bytes of its files in all
    seconds: float  #: what the work took that it spares
    target: Signed | None  #: where the store gives it; None: the daemon does


@dataclass(slots=True)
class _Sending:
    what: str
    thread: threading.Thread
    why_not: str = ""  #: it is not kept
    may_end: threading.Event = field(default_factory=threading.Event)


class Shelf:
    def __init__(self, api: Api, store: Store, time_s: float) -> None:
        """*time_s* is the time limit of the build."""
        self._api, self._store = api, store
        self._wait_s = min(MOST_WAIT_S, max(LEAST_WAIT_S, time_s / WAIT_SHARE))
        self._sending: list[_Sending] = []

    def find(self, kind: str, key: str, prefix: str = "") -> Found | None:
        """What is kept under *key*, or else the newest under a key with that *prefix*, if there is one."""
        said = self._api.ask(f"{CALLS}?{urlencode({'kind': kind, 'key': key, 'prefix': prefix})}")
        try:
            entry = said["entry"] if said else None
            return _found(entry) if entry else None
        except (KeyError, TypeError, ValueError):
            return None

    def fetch(self, found: Found, file: IO[bytes]) -> bool:
        """Bring its bytes into the empty *file*; false if they cannot be had, or are others."""
        lane = self._store.lane()
        try:
            arrived = found.target is not None and lane.fetch(found.target, file, found.size)
        finally:
            lane.close()
        if not arrived:
            file.seek(0)
            file.truncate()
            arrived = self._api.download(f"{CALLS}/blobs/{found.sha256}", file, found.size)
        file.flush()
        return arrived and has_digest(file, found.sha256)

    def keep(self, kind: str, key: str, archive: Archive, seconds: float, what: str, *, at_once: bool) -> None:
        """Send *archive* while the build goes on; it counts once it is there, or, not *at_once*, at ``finish``.

        *what* it is, for people.
        """
        entry = {
            **{"kind": kind, "key": key, "sha256": archive.sha256, "size": archive.size},
            **{"unpacked": archive.unpacked, "seconds": round(seconds, 3)},
        }
        sending = _Sending(what, threading.Thread(target=lambda: self._send(sending, archive, entry), daemon=True))
        if at_once:
            sending.may_end.set()
        self._sending.append(sending)
        sending.thread.start()

    def finish(self, say: Callable[[str], None]) -> None:
        """The build is good: what was sent counts. Waits for what is still on its way, but not for long."""
        life, began = self._store.life, time.monotonic()
        until = began + min(self._wait_s, life.left_s() / 2)
        for sending in self._sending:
            sending.may_end.set()
        for sending in self._sending:
            while sending.thread.is_alive() and (left_s := until - time.monotonic()) > 0 and not life.wait(0):
                sending.thread.join(min(left_s, GLANCE_S))
            if sending.thread.is_alive():
                sending.why_not = f"it is still on its way after {time.monotonic() - began:.0f} s"
            if sending.why_not:
                say(f"Not kept for later builds: {sending.what}: {sending.why_not}")

    def _send(self, sending: _Sending, archive: Archive, entry: Mapping[str, Any]) -> None:
        api, lane = self._api.another(), self._store.lane()
        try:
            _Parcel(archive, api).send(lane)
            sending.may_end.wait()
            if not api.once(CALLS, entry).get("kept"):
                sending.why_not = "the project's caches were cleared meanwhile"
        except (BuildFailed, GivenUp, Refused) as no:
            sending.why_not = no.message
        except OSError as error:
            sending.why_not = str(error)
        finally:
            lane.close()
            api.close()
            archive.remove()


@dataclass(frozen=True, slots=True)
class _Parcel:
    """One archive, for builder.store."""

    archive: Archive
    api: Api

    @property
    def size(self) -> int:
        return self.archive.size

    def open(self) -> IO[bytes]:
        return self.archive.open()

    def check(self) -> None:
        """Nothing: what was changed is refused, and is not kept then."""

    def again(self) -> Signed | None:
        try:
            asked = self._ask()
        except (Refused, OSError):
            return None
        return signed(asked) if asked else None

    def send(self, lane: Lane) -> None:
        """Make the daemon have it.

        Raises:
            Refused, OSError, BuildFailed, GivenUp: it has not.
        """
        if not (asked := self._ask()):
            return
        target = signed(asked)
        if target is None or not lane.send(target, self):
            self.api.offer(f"{CALLS}/blobs/{self.archive.sha256}", self.open(), self.size)

    def _ask(self) -> Mapping[str, Any]:
        """Where it is to be sent; empty: it is there already."""
        said = self.api.once(f"{CALLS}/blobs", {"sha256": self.archive.sha256, "size": self.size})
        return said.get("put") or {}


def _found(entry: Mapping[str, Any]) -> Found:
    return Found(
        key=str(entry["key"]),
        sha256=str(entry["sha256"]),
        size=int(entry["size"]),
        unpacked=int(entry["unpacked"]),
        seconds=float(entry["seconds"]),
        target=signed(entry["get"]),
    )
