"""Answers one request to a site host over aiohttp: looks up, decides, sends."""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from scalemesh.config import Proxying
from scalemesh.edge import pages
from scalemesh.edge.answers import Answer, Passage, Piece, Slice, Visit
from scalemesh.edge.cache import BlobCache, Sites
from scalemesh.edge.decide import common_headers, decide
from scalemesh.edge.explain import Decided, told
from scalemesh.edge.origins.proxy import Proxy
from scalemesh.edge.rules.asked import visit_headers
from scalemesh.edge.rules.trace import Trace
from scalemesh.edge.targets import origin_form
from scalemesh.edge.wire import BODILESS, fresh_headers, http_now, own_headers
from scalemesh.errors import InvalidError, NotFoundError, UnreachableError
from scalemesh.ports import BlobStore
from scalemesh.services.callers import Caller, Callers
from scalemesh.services.explaining import Explanation, Inquiry
from scalemesh.services.hosts import normal_host
from scalemesh.services.routing import RouteTable
from scalemesh.services.seldom import Seldom
from scalemesh.values import Route

log = logging.getLogger(__name__)

MOST_LINES: Final = 10  #: of one sort in the log, in ten seconds: visitors are a crowd
STALL_S: Final = 60.0  #: the store, or the visitor, may keep one chunk waiting so long


def new_request_id() -> str:
    """Sixteen hex digits that nobody can foresee."""
    return secrets.token_hex(8)


def utc_now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


class Visits:
    """All site hosts. Reads routes from memory, and bytes from memory or the store; knows no database."""

    def __init__(
        self,
        routes: RouteTable,
        store: BlobStore,
        *,
        blobs: BlobCache | None = None,
        sites: Sites | None = None,
        callers: Callers | None = None,
        proxy: Proxy | None = None,
        request_id: Callable[[], str] = new_request_id,
        now: Callable[[], datetime] = utc_now,
        stall_s: float = STALL_S,
    ) -> None:
        self._routes, self._store = routes, store
        self._blobs = blobs or BlobCache(store)
        self._sites = sites or Sites(store)
        self._callers, self._proxy = callers or Callers(), proxy or Proxy(Proxying())
        self._request_id, self._now, self._stall_s = request_id, now, stall_s
        self._away, self._failed = Seldom(MOST_LINES), Seldom(MOST_LINES)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer *request*, whatever it is; raises only when the connection is lost."""
        visit = read_request(request, self._callers)
        route = self._routes.find(visit.host) if visit.host else None
        reply = _Reply(request, self._request_id(), self._stall_s)
        try:
            decided = await self._decide(visit, route)
            if isinstance(decided, Passage):
                return await self._pass_on(request, decided, reply.id)
            return await self._send(reply, decided)
        except ConnectionError:
            raise
        except UnreachableError as error:
            if (others := self._away.others()) is not None:
                log.warning(
                    "a visit needs the store", extra={"request": reply.id, "error": error.what, "others": others}
                )
            return reply.whole(pages.unreachable(visit, common_headers(route)))
        except Exception:
            if (others := self._failed.others()) is not None:
                log.exception("a visit failed", extra={"request": reply.id, "others": others})
            return reply.whole(pages.broken(visit, common_headers(route)))

    async def explain(self, inquiry: Inquiry) -> Explanation:
        """Decide the visit as ``answer`` does, and tell how it came about. No byte is sent, no other origin asked."""
        host = normal_host(inquiry.host) or ""
        visit = make_visit(inquiry.method, inquiry.target, host, visit_headers(inquiry.headers))
        route = self._routes.find(host) if host else None
        trace = Trace()
        try:
            outcome = await self._decide(visit, route, trace)
        except UnreachableError:
            outcome = pages.unreachable(visit, common_headers(route))
        except (NotFoundError, InvalidError):
            outcome = pages.broken(visit, common_headers(route))
        small_bytes = self._blobs.small_bytes
        return told(Decided(visit=visit, route=route, outcome=outcome, trace=trace, small_bytes=small_bytes))

    async def _pass_on(self, request: web.BaseRequest, passage: Passage, request_id: str) -> web.StreamResponse:
        by = caller_of(request, self._callers)
        return await self._proxy.forward(
            request, passage, client=by.address, scheme=by.scheme, host=by.host, request_id=request_id
        )

    async def _decide(self, visit: Visit, route: Route | None, trace: Trace | None = None) -> Answer | Passage:
        if route is None:
            return pages.unknown_host(visit)
        if route.manifest is None:
            return pages.waiting(visit, route)
        site = await self._sites.read(route)
        if trace is not None:
            trace.site = site
        return decide(visit, site, self._now(), trace)

    async def _send(self, reply: "_Reply", answer: Answer) -> web.StreamResponse:
        if answer.status in BODILESS:
            return reply.whole(answer)
        if reply.is_head or not answer.length:
            return reply.head(answer)
        if any(self._is_large(piece) for piece in answer.pieces):
            return await reply.stream(answer, self._chunks(answer.pieces))
        return reply.whole(answer, b"".join([await self._bytes(piece) for piece in answer.pieces]))

    def _is_large(self, piece: Piece) -> bool:
        return isinstance(piece, Slice) and piece.size_bytes > self._blobs.small_bytes

    async def _bytes(self, piece: Piece) -> bytes:
        """A piece that is not large."""
        if isinstance(piece, bytes):
            return piece
        data = await self._blobs.read(piece.sha256)
        if len(data) != piece.size_bytes:
            raise NotFoundError(f"blob {piece.sha256} has {len(data)} bytes instead of {piece.size_bytes}")
        return data[piece.start : piece.stop]

    async def _chunks(self, pieces: Sequence[Piece]) -> AsyncGenerator[bytes]:
        """The bytes of all *pieces*; what stands in front of a slice comes with its first chunk."""
        ahead = b""
        for piece in pieces:
            if isinstance(piece, bytes):
                ahead += piece
                continue
            async with aclosing(self._store.read(piece.sha256, piece.start, piece.stop)) as chunks:
                async for chunk in chunks:
                    yield ahead + chunk if ahead else chunk
                    ahead = b""
        yield ahead


def read_request(request: web.BaseRequest, callers: Callers) -> Visit:
    """What *request* asks for."""
    target, _ = origin_form(request.raw_path)
    host = normal_host(caller_of(request, callers).host) or ""
    return make_visit(request.method, target, host, visit_headers(request.headers.items()))


def caller_of(request: web.BaseRequest, callers: Callers) -> Caller:
    """Who sent *request*. An absolute target outweighs Host (RFC 9112, 3.2.2); of two hosts neither counts."""
    lines = request.headers.getall
    _, authority = origin_form(request.raw_path)
    hosts = lines("Host", []) if authority is None else [authority]
    host = hosts[0] if len(hosts) == 1 else ""
    return callers.of(request.remote or "", lines, scheme=request.scheme, host=host)


def make_visit(method: str, target: str, host: str, headers: Mapping[str, str]) -> Visit:
    """A visit; *headers* are the fields of its request, as ``visit_headers`` makes them."""
    return Visit(
        method=method,
        target=target,
        host=host,
        headers=headers,
        accept=headers.get("accept") or None,
        accept_encoding=headers.get("accept-encoding") or None,
        fetch_mode=headers.get("sec-fetch-mode"),
        if_none_match=headers.get("if-none-match"),
        if_modified_since=headers.get("if-modified-since"),
        if_range=headers.get("if-range"),
        range=headers.get("range") or None,
    )


class _Reply:
    """The way back to one visitor."""

    def __init__(self, request: web.BaseRequest, request_id: str, stall_s: float) -> None:
        self._request, self._stall_s = request, stall_s
        self.id = request_id
        self.is_head = request.method == "HEAD"

    def whole(self, answer: Answer, data: bytes | None = None) -> web.StreamResponse:
        """*answer* in one piece, with *data* in place of a body that is a slice."""
        if data is None:
            data = answer.body if isinstance(answer.body, bytes) else b""
        return web.Response(status=answer.status, headers=self._headers(answer), body=data or None)

    def head(self, answer: Answer) -> web.StreamResponse:
        """The headers of *answer* alone; for HEAD they tell the length of what GET would carry."""
        return web.StreamResponse(status=answer.status, headers=self._headers(answer))

    async def stream(self, answer: Answer, chunks: AsyncGenerator[bytes]) -> web.StreamResponse:
        """Send *answer* chunk by chunk.

        The first chunk is read before the headers go out: a store that is away is a clean 503. One that dies
        midway, or a visitor who takes nothing for too long, ends the connection, so nobody believes the half.
        """
        async with aclosing(chunks):
            first = await self._next(chunks)
            response = self.head(answer)
            await response.prepare(self._request)
            try:
                left = await self._pour(response, first, chunks, answer.length)
            except ConnectionError:
                raise
            except Exception:
                log.exception("a visit was cut", extra={"request": self.id})
                left = answer.length
            if left:
                self._cut()
                raise ConnectionResetError("the answer was cut short")
            return response

    async def _pour(self, response: web.StreamResponse, chunk: bytes, chunks: AsyncGenerator[bytes], left: int) -> int:
        """Write *chunk* and what follows; return how many of the *left* bytes are missing at the end."""
        while chunk and left >= len(chunk):
            async with asyncio.timeout(self._stall_s):
                await response.write(chunk)
            left -= len(chunk)
            chunk = await self._next(chunks)
        return left

    async def _next(self, chunks: AsyncGenerator[bytes]) -> bytes:
        """The next chunk; empty at the end."""
        try:
            async with asyncio.timeout(self._stall_s):
                async for chunk in chunks:
                    if chunk:
                        return chunk
        except TimeoutError as cause:
            raise UnreachableError("the store gave no bytes in time") from cause
        return b""

    def _cut(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    def _headers(self, answer: Answer) -> list[tuple[str, str]]:
        return [*own_headers(answer), *fresh_headers(http_now(), self.id)]
