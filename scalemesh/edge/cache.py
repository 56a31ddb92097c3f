"""What visits read again and again, kept in memory: small blobs and decoded tables, each fetched once."""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Generic, TypeVar, cast

from scalemesh.edge.local import read_now
from scalemesh.edge.rules.ruleset import Ruleset
from scalemesh.edge.site import Site
from scalemesh.errors import DamagedError, InvalidError, NotFoundError, UnreachableError
from scalemesh.ports import BlobStore
from scalemesh.services import encodings, manifests, windows
from scalemesh.services.encodings import Encodings
from scalemesh.services.entries import Entries
from scalemesh.services.home_store import Cached
from scalemesh.services.windows import Window
from scalemesh.values import Digest, Manifest, Route

log = logging.getLogger(__name__)

SMALL_BYTES: Final = 256 * 1024
BLOB_CACHE_BYTES: Final = 64 * 1024 * 1024
SITE_CACHE_BYTES: Final = 32 * 1024 * 1024
FETCH_TIMEOUT_S: Final = 10.0

_TABLES: Final = 3  #: of one site; one that is too large would else be read and decoded for each visit
_EACH: Final = 200  #: what a key, its value's head and their places in two tables weigh, about
_ENTRY: Final = 500  #: an entry of a table in memory, about
_VARIANT: Final = 350  #: and each of its variants
_NO_ENCODINGS: Final = Encodings()
_NO_WINDOW: Final = Window()
_NO_RULES: Final = Ruleset(manifests.NO_RULES)
_BLOCKING_BYTES: Final = 256 * 1024  #: longer tables are decoded beside the event loop

K = TypeVar("K")
V = TypeVar("V")


class Shared(Generic[K, V]):
    """A least-recently-used store of bounded weight, filled by one fetch per key however many wait for it.

    A failed fetch fails for all who waited, and is not remembered. If the one who fetches is cancelled,
    another of those who wait takes over: no fetch runs for nobody, and none dies with a stranger.
    """

    def __init__(
        self, fetch: Callable[[K], Awaitable[V]], weigh: Callable[[V], int], capacity_bytes: int, *, giants: int = 0
    ) -> None:
        """*giants*: so many that are heavier than all room are kept besides, the last ones."""
        self._fetch, self._weigh, self._capacity, self._most_giants = fetch, weigh, capacity_bytes, giants
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._giants: OrderedDict[K, V] = OrderedDict()
        self._fetching: dict[K, asyncio.Future[V]] = {}
        self.weight_bytes = 0

    def peek(self, key: K) -> V | None:
        """What is kept under *key* now."""
        value = self._kept.get(key)
        if value is None:
            return self._giants.get(key)
        self._kept.move_to_end(key)
        return value

    async def get(self, key: K) -> V:
        """What belongs under *key*, fetched if need be; raises what the fetch raises."""
        while (value := self.peek(key)) is None:
            running = self._fetching.get(key)
            if running is None:
                return await self._lead(key)
            await asyncio.wait([running])
            if not running.cancelled():
                return running.result()
        return value

    async def _lead(self, key: K) -> V:
        outcome = self._fetching[key] = asyncio.get_running_loop().create_future()
        try:
            value = await self._fetch(key)
            self.keep(key, value)
            outcome.set_result(value)
        except Exception as error:
            outcome.set_exception(error)
            outcome.exception()  # seen: nobody else may be waiting
            raise
        finally:
            outcome.cancel()  # changes nothing where it is done
            del self._fetching[key]
        return value

    def kept_keys(self) -> list[K]:
        """All that is kept."""
        return [*self._kept, *self._giants]

    def keep(self, key: K, value: V) -> None:
        """Remember *value*. What is there already stays: it may have come another way while this was fetched."""
        weight = self._weigh(value) + _EACH
        if key in self._kept:
            return
        if weight > self._capacity:
            self._giants[key] = value
            while len(self._giants) > self._most_giants:
                self._giants.popitem(last=False)
            return
        self._kept[key] = value
        self.weight_bytes += weight
        while self.weight_bytes > self._capacity:
            _, oldest = self._kept.popitem(last=False)
            self.weight_bytes -= self._weigh(oldest) + _EACH


class BlobCache:
    """Small blobs of *store*. Larger ones are the caller's to stream."""

    def __init__(
        self,
        store: BlobStore,
        *,
        capacity_bytes: int = BLOB_CACHE_BYTES,
        small_bytes: int = SMALL_BYTES,
        timeout_s: float = FETCH_TIMEOUT_S,
    ) -> None:
        self.small_bytes = small_bytes
        self._store, self._timeout_s = store, timeout_s
        self._shared: Shared[Digest, bytes] = Shared(self._fetch, len, capacity_bytes)

    async def read(self, sha256: Digest) -> bytes:
        """All bytes of a blob of at most ``small_bytes``.

        Raises:
            DamagedError: what the store has is not the blob.
            UnreachableError: the store does not answer in time.
            NotFoundError: it has no such blob.
        """
        return await self._shared.get(sha256)

    def peek(self, sha256: Digest) -> bytes | None:
        """The bytes of a blob, if they are in memory now."""
        return self._shared.peek(sha256)

    def in_memory(self) -> Iterable[Digest]:
        """The blobs that are."""
        return self._shared.kept_keys()

    def keep(self, sha256: Digest, data: bytes) -> bool:
        """Remember *data*, which the caller read by another way; false: it is another blob. A repeat does nothing."""
        if not _is(sha256, data):
            return False
        self._shared.keep(sha256, data)
        return True

    async def _fetch(self, sha256: Digest) -> bytes:
        data = await read_all(self._store, sha256, self.small_bytes, self._timeout_s)
        if _is(sha256, data):
            return data
        # What lies on a disk may rot there, long after it was proven right.
        if isinstance(self._store, Cached) and await self._store.forget(sha256):
            log.warning("a cached blob has rotted and is fetched again", extra={"blob": sha256})
            data = await read_all(self._store, sha256, self.small_bytes, self._timeout_s)
            if _is(sha256, data):
                return data
        raise DamagedError(
            f"the store's bytes of blob {sha256} are damaged",
            why=f"{len(data)} bytes came, and their SHA-256 is another",
            fix="run `scalemesh store verify --mend`, then deploy again the projects that it names",
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """A manifest with its rules made ready."""

    manifest: Manifest
    rules: Ruleset


_Part = Loaded | Encodings | Window
_Kind = type[Manifest] | type[Encodings] | type[Window]


class Sites:
    """Decoded manifests, encodings and windows of *store*, joined for a route: each table is kept once."""

    def __init__(
        self,
        store: BlobStore,
        *,
        capacity_bytes: int = SITE_CACHE_BYTES,
        timeout_s: float = FETCH_TIMEOUT_S,
        file_of: Callable[[Digest], Path] | None = None,
    ) -> None:
        """*file_of* tells where the store keeps a blob on this machine; None: it does not."""
        self._store, self._timeout_s, self._file_of = store, timeout_s, file_of
        self._parts: Shared[tuple[_Kind, Digest], _Part] = Shared(
            self._fetch, _weight_of, capacity_bytes, giants=_TABLES
        )

    def in_memory(self) -> Iterable[Digest]:
        """The blobs whose tables are."""
        return [sha256 for _, sha256 in self._parts.kept_keys()]

    def at_once(self, route: Route) -> Site | None:
        """As ``peek``, but reads what is missing from small local files that the system has in memory."""
        if (site := self.peek(route)) is None and self._file_of is not None and route.manifest is not None:
            for kind, sha256 in ((Manifest, route.manifest), (Encodings, route.encodings), (Window, route.window)):
                if sha256 is not None and not self._take_now((kind, sha256), self._file_of(sha256)):
                    return None
            site = self.peek(route)
        return site

    def _take_now(self, key: tuple[_Kind, Digest], path: Path) -> bool:
        if self._parts.peek(key) is not None:
            return True
        data = read_now(path, at_most=_BLOCKING_BYTES // 4)
        if data is None:
            return False
        try:
            self._parts.keep(key, _DECODERS[key[0]](key[1], data))
        except InvalidError:  # told by the long way
            return False
        return True

    def peek(self, route: Route) -> Site | None:
        """The site of *route*, if all of it is in memory now; never waits."""
        if route.manifest is None:
            return None
        manifest = self._parts.peek((Manifest, route.manifest))
        variants = self._parts.peek((Encodings, route.encodings)) if route.encodings else _NO_ENCODINGS
        window = self._parts.peek((Window, route.window)) if route.window else _NO_WINDOW
        if manifest is None or variants is None or window is None:
            return None
        return _joined(route, manifest, variants, window)

    async def read(self, route: Route) -> Site:
        """The site of *route*, which leads to a deployment.

        Encodings or a window that are gone or damaged are told in the log and done without.

        Raises:
            UnreachableError: the store does not answer in time.
            NotFoundError: it has no such manifest.
            InvalidError: the manifest is damaged.
        """
        if (site := self.peek(route)) is not None:
            return site
        if route.manifest is None:
            raise NotFoundError(f"{route.host} leads to no deployment")
        manifest = await self._parts.get((Manifest, route.manifest))
        variants = await self._parts.get((Encodings, route.encodings)) if route.encodings else _NO_ENCODINGS
        window = await self._parts.get((Window, route.window)) if route.window else _NO_WINDOW
        return _joined(route, manifest, variants, window)

    async def _fetch(self, key: tuple[_Kind, Digest]) -> _Part:
        kind, sha256 = key
        try:
            return await self._decoded(sha256, _MOST_BYTES[kind], partial(_DECODERS[kind], sha256))
        except (NotFoundError, InvalidError) as error:
            if kind is Manifest:
                raise
            log.warning("a table is lost", extra={"kind": kind.__name__, "blob": sha256, "error": str(error)})
            return _NO_ENCODINGS if kind is Encodings else _NO_WINDOW

    async def _decoded(self, sha256: Digest, most_bytes: int, decode: Callable[[bytes], _Part]) -> _Part:
        data = await read_all(self._store, sha256, most_bytes, self._timeout_s)
        if len(data) < _BLOCKING_BYTES:
            return decode(data)
        return await asyncio.to_thread(decode, data)


def _loaded(sha256: Digest, data: bytes) -> Loaded:
    manifest = manifests.read(data, sha256)
    return Loaded(manifest, _NO_RULES if manifest.rules == manifests.NO_RULES else Ruleset(manifest.rules))


_MOST_BYTES: Final[Mapping[_Kind, int]] = {
    Manifest: manifests.MAX_BYTES,
    Encodings: encodings.MAX_BYTES,
    Window: windows.MAX_BYTES,
}
_DECODERS: Final[Mapping[_Kind, Callable[[Digest, bytes], _Part]]] = {
    Manifest: _loaded,
    Encodings: lambda _sha256, data: encodings.decode(data),
    Window: lambda _sha256, data: windows.decode(data),
}


def _joined(route: Route, loaded: _Part, variants: _Part, window: _Part) -> Site:
    loaded = cast("Loaded", loaded)
    return Site(
        route=route,
        manifest=loaded.manifest,
        rules=loaded.rules,
        encodings=cast("Encodings", variants),
        window=cast("Window", window),
    )


def _weight_of(part: _Part) -> int:
    if isinstance(part, Encodings):
        return sum(_ENTRY + _VARIANT * len(variants) for variants in part.by_digest.values())
    if isinstance(part, Window):
        return sum(len(path) + _ENTRY for path in part.files) + _weight_of(part.encodings)
    entries = part.manifest.entries
    weight = entries.weight_bytes if isinstance(entries, Entries) else len(entries) * _ENTRY
    return weight + part.rules.weight_bytes


def _is(sha256: Digest, data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == sha256


async def read_all(store: BlobStore, sha256: Digest, most_bytes: int, timeout_s: float) -> bytes:
    """All bytes of a blob of at most *most_bytes*.

    Raises:
        InvalidError: it is longer.
        UnreachableError: the store does not answer, or not within *timeout_s*.
        NotFoundError: it has no such blob.
    """
    data = bytearray()
    try:
        async with asyncio.timeout(timeout_s), aclosing(store.read(sha256)) as chunks:
            async for chunk in chunks:
                data += chunk
                if len(data) > most_bytes:
                    raise InvalidError(f"blob {sha256} is longer than {most_bytes} bytes")
    except TimeoutError as cause:
        raise UnreachableError(f"the store gave no blob within {timeout_s} s") from cause
    return bytes(data)
