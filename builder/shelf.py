"""What the daemon keeps for later builds: asks for it, brings it, and sends new archives while the build goes on.

Nothing here fails a build. Each call is tried once: what is not to be had now is done without.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final
from urllib.parse import urlencode

from builder.api import Api
from builder.archives import Archive, has_digest
from builder.errors import BuildFailed, GivenUp
from builder.store import Lane, Signed, Store, signed

MAX_WAIT_S: Final = 10.0  #: for archives still on their way when the build is done
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


@dataclass(frozen=True, slots=True)
class _Sending:
    thread: threading.Thread
    may_end: threading.Event = field(default_factory=threading.Event)


class Shelf:
    def __init__(self, api: Api, store: Store) -> None:
        self._api, self._store = api, store
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

    def keep(self, kind: str, key: str, archive: Archive, seconds: float, *, at_once: bool) -> None:
        """Send *archive* while the build goes on; it counts once it is there, or, not *at_once*, at ``finish``."""
        entry = {
            **{"kind": kind, "key": key, "sha256": archive.sha256, "size": archive.size},
            **{"unpacked": archive.unpacked, "seconds": round(seconds, 3)},
        }
        sending = _Sending(threading.Thread(target=lambda: self._send(sending, archive, entry), daemon=True))
        if at_once:
            sending.may_end.set()
        self._sending.append(sending)
        sending.thread.start()

    def finish(self) -> None:
        """The build is good: what was sent counts. Waits for what is still on its way, but not for long."""
        until = time.monotonic() + MAX_WAIT_S
        for sending in self._sending:
            sending.may_end.set()
        for sending in self._sending:
            sending.thread.join(timeout=max(0.0, until - time.monotonic()))

    def _send(self, sending: _Sending, archive: Archive, entry: Mapping[str, Any]) -> None:
        api, lane = self._api.another(), self._store.lane()
        try:
            if _Parcel(archive, api).sent(lane):
                sending.may_end.wait()
                api.ask(CALLS, entry)
        except (BuildFailed, GivenUp, OSError):
            pass
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
        asked = self._ask()
        return signed(asked) if asked else None

    def sent(self, lane: Lane) -> bool:
        """Make the daemon have it."""
        asked = self._ask()
        if not asked:
            return asked is not None
        target = signed(asked)
        if target is not None and lane.send(target, self):
            return True
        return self.api.offer(f"{CALLS}/blobs/{self.archive.sha256}", self.open(), self.size)

    def _ask(self) -> Mapping[str, Any] | None:
        """Where it is to be sent; empty: it is there already; None: it is not wanted."""
        said = self.api.ask(f"{CALLS}/blobs", {"sha256": self.archive.sha256, "size": self.size})
        return None if said is None else said.get("put") or {}


def _found(entry: Mapping[str, Any]) -> Found:
    return Found(
        key=str(entry["key"]),
        sha256=str(entry["sha256"]),
        size=int(entry["size"]),
        unpacked=int(entry["unpacked"]),
        seconds=float(entry["seconds"]),
        target=signed(entry["get"]),
    )
