"""The store as a build sees it: bytes go straight to it and come from it by signed URLs, past the daemon.

Whether that way is open is tried once, for seconds. Where it is not, what is sent goes through the daemon, which is
never wrong: only slower. A store that answered before and does not now is waited for, and after a while the daemon is
asked to take the rest; it waits for the store as long as the build may.

    lane = store.lane()                               # one for each thread
    lane.send(signed, parcel) or <send it to the daemon>
    lane.fetch(signed, file, max_bytes) or <ask the daemon for it>
"""

import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Final, Protocol
from urllib.parse import urlsplit

from builder.life import Life
from builder.wire import Changed, Said, Wire, origin_of

TRY_S: Final = 5.0  #: for the first connection
TOLD_S: Final = 2.0  #: an outage as long is told in the log
PATIENCE_S: Final = 30.0  #: with a store that was reached, until the daemon is asked to take the rest
FRESH_S: Final = 600.0  #: a URL older than this is asked for again before it is used; it lives 15 minutes
BACK_OFF_S: Final = (0.0, 0.1, 0.3, 1.0, 2.0, 4.0)
MOST_REFUSALS: Final = 3  #: of one file
FETCHES: Final = 3
THERE: Final = 412  #: If-None-Match: somebody, we ourselves before, has put it there
AGAIN: Final = frozenset({408, 409, 425, 429})
BUSY: Final = (b"RequestTimeout", b"SlowDown", b"IncompleteBody", b"InternalError")  #: S3 says some of them with 400
_CODE: Final = re.compile(rb"<Code>([A-Za-z]{1,60})</Code>")


@dataclass(frozen=True, slots=True)
class Signed:
    """A request that we may make as it is, for a while."""

    url: str
    headers: Mapping[str, str]
    asked_at: float  #: monotonic

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self.asked_at < FRESH_S


def signed(said: Mapping[str, Any]) -> Signed | None:
    """The daemon's ``{"url", "headers"}``; None where the daemon itself is meant (a URL that begins with "/")."""
    url = str(said["url"])
    return None if url.startswith("/") else Signed(url, dict(said.get("headers") or {}), time.monotonic())


class Parcel(Protocol):
    """Something to be sent; asked anew at each try."""

    @property
    def size(self) -> int: ...

    def open(self) -> IO[bytes]:
        """Its bytes, from the first on; closed by whoever asks."""

    def check(self) -> None:
        """Raise what the build is to fail with, if the bytes are no longer those that were announced."""

    def again(self) -> Signed | None:
        """Ask the daemon for a fresh URL; None where it is to be sent to the daemon, or need not be any more."""


class Store:
    """What all threads of one build know of the way to the store. *say* puts a line into the build's log."""

    def __init__(
        self,
        life: Life,
        authorities: Callable[[], ssl.SSLContext],
        environ: Mapping[str, str],
        say: Callable[[str], None],
        *,
        has_network: bool = True,
    ) -> None:
        """*environ*: where the operator names proxies, in the usual variables.

        *has_network* is false where a build has no other way out than the daemon's own proxy: to send bytes through
        that would spare the daemon nothing.
        """
        self._has_network = has_network
        self.life, self._read_authorities, self._environ, self._say = life, authorities, environ, say
        self._lock = threading.RLock()
        self._context: ssl.SSLContext | None = None
        self._is_tried, self._is_open = False, True
        self._bad_since: float | None = None
        self._has_told = False

    @property
    def is_open(self) -> bool:
        return self._is_open

    def lane(self) -> "Lane":
        """A connection of one thread's own. To be closed."""
        return Lane(self)

    def shut(self, why: str, fix: str = "") -> None:
        """From now on everything goes through the daemon; said once."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                self._say(". ".join(part for part in (f"{why}, so its files go through the daemon", fix) if part))

    def reached(self, url: str) -> Wire:
        """A connection to where *url* leads, the first of which is tried for some seconds alone.

        Raises:
            OSError: it cannot be had; the first time the way is shut then.
        """
        if not self._has_network:
            self.shut(
                "This build has no network of its own", 'builds.network = "full" lets files go straight to the store'
            )
            raise OSError("no network")
        wire = Wire(url, self._authorities, proxy_to(url, self._environ))
        with self._lock:
            is_first, self._is_tried = not self._is_tried, True
            if is_first and (error := _tried(wire)):
                self.shut(f"This build does not reach the store at {wire.origin} ({error})", _fix(error, wire))
        if not self._is_open:
            raise OSError("it is not reached from here")
        wire.connect(2 * TRY_S)
        return wire

    def good(self) -> None:
        """It took, or gave, something."""
        self._bad_since, self._has_told = None, False

    def bad(self, origin: str, why: str) -> None:
        """It did not; said once it lasts, until it does again."""
        with self._lock:
            self._bad_since = self._bad_since or time.monotonic()
            silent_s = time.monotonic() - self._bad_since
            if silent_s > PATIENCE_S:
                self.shut(f"The store at {origin} has not answered for {silent_s:.0f} s ({why})")
            elif silent_s > TOLD_S and self._is_open and not self._has_told:
                self._has_told = True
                self._say(f"Waiting: the store at {origin} does not answer ({why})")

    def _authorities(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._read_authorities()
        return self._context


class Lane:
    """One thread's connection to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wire: Wire | None = None

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()

    def send(self, target: Signed, parcel: Parcel) -> bool:
        """Put *parcel* where *target* says, however often that must be tried; false: send it to the daemon.

        Raises:
            BuildFailed, GivenUp: the build is over; or what ``Parcel.check`` raises.
        """
        where: Signed | None = target
        for refusals in range(MOST_REFUSALS):
            said = self._sent(where, parcel)
            if said is None:
                return False
            if said.status < 300 or said.status == THERE:
                self._store.good()
                return True
            if said.status == 400:
                parcel.check()
            if refusals == MOST_REFUSALS - 1:
                self._store.shut(f"The store at {origin_of(target.url)} refuses what it is sent ({_words(said)})")
            else:
                where = parcel.again()
        return False

    def fetch(self, target: Signed, file: IO[bytes], max_bytes: int) -> bool:
        """Get what *target* names into the empty *file*, in a few tries; false: ask the daemon for it.

        Whether those are the bytes that are meant is for the caller to see.
        """
        for tries in range(FETCHES):
            if not self._store.is_open:
                break
            self._rest(tries)
            file.seek(0)
            file.truncate()
            said = self._once(target, lambda wire: wire.get(target.url, target.headers, file, max_bytes))
            if said is not None:
                self._store.good()
                return said.status == 200
        return False

    def _sent(self, where: Signed | None, parcel: Parcel) -> Said | None:
        """What the store says to *parcel* at last; None if the daemon should have it."""
        tries = 0
        while self._store.is_open and where is not None:
            if not where.is_fresh:
                where = parcel.again()
                continue
            self._rest(tries)
            if (said := self._once(where, partial(_put, where, parcel))) is not None:
                return said
            tries += 1
        return None

    def _rest(self, tries: int) -> None:
        self._store.life.check()
        self._store.life.rest(BACK_OFF_S[min(tries, len(BACK_OFF_S) - 1)] * random.uniform(0.5, 1.0))  # noqa: S311

    def _once(self, target: Signed, do: Callable[[Wire], Said]) -> Said | None:
        """What the store says to it; None if it says nothing, or that it should be asked again."""
        origin = origin_of(target.url)
        try:
            if self._wire is None or self._wire.origin != origin:
                self.close()
                self._wire = self._store.reached(target.url)
            self._wire.connect(2 * TRY_S)
            said = do(self._wire)
        except OSError as error:
            self._store.bad(origin, str(error))
            return None
        if said.status >= 500 or said.status in AGAIN or _code(said) in BUSY:
            self._store.bad(origin, _words(said))
            return None
        return said


def proxy_to(url: str, environ: Mapping[str, str]) -> str:
    """The proxy that *url* is reached by, as the usual variables have it; empty for none."""
    parts = urlsplit(url)
    names = (f"{parts.scheme}_proxy", "all_proxy")
    found = next((value for name in names if (value := environ.get(name) or environ.get(name.upper()))), "")
    if not found.startswith("http://"):
        return ""
    from urllib.request import proxy_bypass  # noqa: PLC0415  (slow to import, and seldom needed)

    not_for = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    return "" if proxy_bypass(parts.netloc, {"no": not_for}) else found


def _tried(wire: Wire) -> OSError | None:
    """Why a connection cannot be had; None if it can. A resolver may think for minutes: nobody waits so long."""
    found: list[OSError] = [TimeoutError(f"no answer in {2 * TRY_S:.0f} s")]

    def connect() -> None:
        try:
            wire.connect(TRY_S)
            found.clear()
        except OSError as error:
            found[:] = [error]

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(2 * TRY_S)
    return found[0] if found else None


def _put(target: Signed, parcel: Parcel, wire: Wire) -> Said:
    with parcel.open() as body:
        try:
            return wire.put(target.url, target.headers, body, parcel.size)
        except Changed:
            parcel.check()
            raise OSError("its size changed while it was sent") from None


def _fix(error: OSError, wire: Wire) -> str:
    host = urlsplit(wire.origin).hostname
    if isinstance(error, ssl.SSLCertVerificationError):
        return "To send them straight, name the store's authority in builds.ca_bundle"
    return (
        f"To send them straight, let builds reach {host}: builds.network, and builds.allow_networks in private networks"
    )


def _code(said: Said) -> bytes:
    found = _CODE.search(said.body) if said.body else None
    return found[1] if found else b""


def _words(said: Said) -> str:
    return " ".join((str(said.status), *([_code(said).decode()] if _code(said) else [])))
