"""What builders keep for later builds, and take from earlier ones, exactly as builder/protocol.py says."""

from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from scalemesh.errors import InvalidError
from scalemesh.services.build_caches import BuildCacheCalls
from scalemesh.services.builds import BuildCalls
from scalemesh.services.caches import MAX_SECONDS
from scalemesh.values import Blob, CacheEntry, CacheKind, NewCacheEntry, SignedRequest
from scalemesh.web.bodies import check_digest, read_as, read_blob, read_chunks
from scalemesh.web.builds import attempt_of, send_chunks

BLOBS: Final = "/build/v1/cache/blobs"
MOST_BYTES: Final = 1 << 50


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedPlace:
    """Bytes that somebody wants to send."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        check_size("size", self.size)

    def blob(self) -> Blob:
        return Blob(sha256=check_digest(self.sha256), size_bytes=self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewArchive:
    kind: CacheKind
    key: str
    sha256: str
    size: int
    unpacked: int
    seconds: float

    def __post_init__(self) -> None:
        check_size("size", self.size)
        check_size("unpacked", self.unpacked)
        if not 0 <= self.seconds <= MAX_SECONDS:
            raise ValueError("seconds: is no time that a build could take")

    def entry(self) -> NewCacheEntry:
        return NewCacheEntry(
            kind=self.kind,
            key=self.key,
            blob=Blob(sha256=check_digest(self.sha256), size_bytes=self.size),
            unpacked_bytes=self.unpacked,
            seconds=self.seconds,
        )


class BuildCacheRoutes:
    def __init__(self, builds: BuildCalls, calls: BuildCacheCalls) -> None:
        self._builds, self._calls = builds, calls

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/build/v1/cache", self.find),
            web.post("/build/v1/cache", self.keep),
            web.post(BLOBS, self.place),
            web.get(f"{BLOBS}/{{sha256}}", self.read, allow_head=False),
            web.put(f"{BLOBS}/{{sha256}}", self.receive),
        ]

    async def find(self, request: web.Request) -> web.Response:
        attempt, query = attempt_of(self._builds, request), request.query
        try:
            kind = CacheKind(query.get("kind", ""))
        except ValueError as error:
            raise InvalidError("kind: must be modules, dependencies or framework") from error
        found = await self._calls.find(attempt, kind, query.get("key", ""), query.get("prefix", ""))
        return web.json_response({"entry": _shown(*found) if found else None})

    async def keep(self, request: web.Request) -> web.Response:
        attempt = attempt_of(self._builds, request)
        new = await read_as(request, NewArchive)
        return web.json_response({"kept": await self._calls.keep(attempt, new.entry())})

    async def place(self, request: web.Request) -> web.Response:
        attempt = attempt_of(self._builds, request)
        blob = (await read_as(request, WantedPlace)).blob()
        found = await self._calls.place(attempt, blob)
        return web.json_response({"put": None if found.is_there else _request(found.url, blob)})

    async def read(self, request: web.Request) -> web.StreamResponse:
        attempt, digest = attempt_of(self._builds, request), check_digest(request.match_info["sha256"])
        size, found = await self._calls.read(attempt, digest)
        async with aclosing(found) as chunks:
            return await send_chunks(request, chunks, size)

    async def receive(self, request: web.Request) -> web.Response:
        attempt, blob = attempt_of(self._builds, request), read_blob(request)
        async with aclosing(read_chunks(request)) as chunks:
            await self._calls.receive(attempt, blob, chunks)
        return web.Response(status=204)


def check_size(name: str, size: int) -> None:
    """Raise ValueError for what is no number of bytes."""
    if not 0 <= size <= MOST_BYTES:
        raise ValueError(f"{name}: is no number of bytes")


def _shown(entry: CacheEntry, url: SignedRequest | None) -> dict[str, object]:
    return {
        "key": entry.key,
        "sha256": entry.blob.sha256,
        "size": entry.blob.size_bytes,
        "unpacked": entry.unpacked_bytes,
        "seconds": entry.seconds,
        "get": _request(url, entry.blob),
    }


def _request(target: SignedRequest | None, blob: Blob) -> dict[str, object]:
    if target is None:
        return {"url": f"{BLOBS}/{blob.sha256}", "headers": {}}
    return {"url": target.url, "headers": dict(target.headers)}
