"""What builders talk to, exactly as builder/protocol.py says."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from builder.packing import fingerprint
from builder.protocol import MAX_BLOCK_BYTES, MAX_DIGESTS, NONCE_HEADER
from scalemesh.decode import decode
from scalemesh.errors import InvalidError, UnauthorizedError
from scalemesh.services.builds import Attempt, BuildCalls, Facts, Failure, Success
from scalemesh.values import Digest, Reason, SignedRequest
from scalemesh.web.bodies import (
    check_blobs,
    check_digest,
    check_files,
    read_as,
    read_blob,
    read_chunks,
    read_json,
)

MAX_LINES_BYTES: Final = 7 * MAX_BLOCK_BYTES  #: JSON writes one byte of a line in up to six, and frames it
MAX_LISTING_BYTES: Final = 64 * 1024 * 1024
STALL_S: Final = 60.0
SLUG: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    nonce: str
    builder: str | None = None  #: the fingerprint of the one that asks


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    seq: int
    lines: object  #: the log pipeline looks at each


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    facts: Facts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    ok: bool
    reason: Reason
    message: str
    peak: dict[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    ok: bool
    files: object
    framework: str
    output_directory: str = ""
    warnings: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not SLUG.fullmatch(self.framework):
            raise ValueError("framework: must be a framework's short name")


class BuildRoutes:
    def __init__(self, calls: BuildCalls) -> None:
        self._calls = calls

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/build/v1/hello", self.hello),
            web.post("/build/v1/claim", self.claim),
            web.post("/build/v1/lines", self.lines),
            web.post("/build/v1/heartbeat", self.heartbeat),
            web.post("/build/v1/blobs", self.missing),
            web.put("/build/v1/blobs/{sha256}", self.receive),
            web.get("/build/v1/source/{sha256}", self.source),
            web.post("/build/v1/finish", self.finish),
        ]

    async def claim(self, request: web.Request) -> web.Response:
        attempt, said = attempt_of(self._calls, request), await read_as(request, Claim)
        return web.json_response(await self._calls.claim(attempt, said.nonce, said.builder))

    async def hello(self, _request: web.Request) -> web.Response:
        """For whoever wants to know whether the daemon is reached, and is the right one."""
        return web.json_response({"builder": fingerprint()})

    async def lines(self, request: web.Request) -> web.Response:
        attempt, block = attempt_of(self._calls, request), await read_as(request, Lines, max_bytes=MAX_LINES_BYTES)
        if not isinstance(block.lines, list):
            raise InvalidError("lines: must be a list")
        return web.json_response({"next": await self._calls.lines(attempt, block.seq, block.lines)})

    async def heartbeat(self, request: web.Request) -> web.Response:
        attempt, said = attempt_of(self._calls, request), await read_as(request, Beat)
        await self._calls.heartbeat(attempt, said.facts)
        return web.json_response({"cancel": False})  # what was canceled has no attempt any more: 410

    async def missing(self, request: web.Request) -> web.Response:
        attempt, body = attempt_of(self._calls, request), await read_json(request)
        targets = await self._calls.missing(attempt, check_blobs(body.get("digests"), MAX_DIGESTS))
        return web.json_response(
            {"missing": [{"sha256": one, "put": _put(one, target)} for one, target in targets.items()]}
        )

    async def receive(self, request: web.Request) -> web.Response:
        attempt, blob = attempt_of(self._calls, request), read_blob(request)
        async with aclosing(read_chunks(request)) as chunks:
            await self._calls.receive(attempt, blob, chunks)
        return web.Response(status=204)

    async def source(self, request: web.Request) -> web.StreamResponse:
        """One file of an uploaded source."""
        attempt, digest = attempt_of(self._calls, request), check_digest(request.match_info["sha256"])
        async with aclosing(await self._calls.source(attempt, digest)) as chunks:
            return await send_chunks(request, chunks)

    async def finish(self, request: web.Request) -> web.Response:
        attempt = attempt_of(self._calls, request)
        await self._calls.expect(attempt)  # before a body as large as this one is read
        body = await read_json(request, max_bytes=MAX_LISTING_BYTES)
        state = await self._calls.finish(attempt, await _result(body))
        return web.json_response({"state": state})


def attempt_of(calls: BuildCalls, request: web.Request) -> Attempt:
    """Whose token came with *request*.

    Raises:
        UnauthorizedError: nobody's.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise UnauthorizedError("a builder shows its token", fix="send Authorization: Bearer <token>")
    return calls.who(token.strip(), request.headers.get(NONCE_HEADER, ""))


async def send_chunks(
    request: web.Request, chunks: AsyncGenerator[bytes], size_bytes: int | None = None
) -> web.StreamResponse:
    """Answer with *chunks*. A store that dies midway ends the connection: nobody believes the half."""
    chunk = await anext(chunks, b"")
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.content_length = size_bytes
    await response.prepare(request)
    while chunk:
        async with asyncio.timeout(STALL_S):
            await response.write(chunk)
        chunk = await anext(chunks, b"")
    await response.write_eof()
    return response


def _put(digest: Digest, target: SignedRequest | None) -> dict[str, object]:
    if target is None:
        return {"url": f"/build/v1/blobs/{digest}", "headers": {}}
    return {"url": target.url, "headers": dict(target.headers)}


async def _result(body: dict[str, object]) -> Success | Failure:
    if body.get("ok") is not True:
        failed = decode(Failed, body)
        return Failure(reason=failed.reason, message=failed.message)
    built = decode(Built, body)
    return Success(
        files=await check_files(built.files),
        framework=built.framework,
        output_directory=built.output_directory,
        warnings=built.warnings,
    )
