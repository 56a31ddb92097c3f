"""What comes in with a request, within bounds: JSON bodies, streams of bytes, numbers of the query."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from typing import Any, Final, TypeVar

from aiohttp import web

from scalemesh.decode import decode
from scalemesh.errors import InvalidError, TooLargeError, UnreachableError
from scalemesh.services import long_lists
from scalemesh.services.listings import OutputFile
from scalemesh.values import Blob, Digest

T = TypeVar("T")

SMALL_BYTES: Final = 256 * 1024
CHUNK_BYTES: Final = 256 * 1024
STALL_S: Final = 60.0  #: a sender may keep one chunk waiting so long
WHOLE_S: Final = 120.0  #: a JSON body has to be here after so long
MAX_PATH_CHARS: Final = 4096
MAX_VALUES: Final = 4_000_000  #: a body of empty lists takes thirty times its size in memory
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


async def read_as(request: web.Request, cls: type[T], *, max_bytes: int = SMALL_BYTES) -> T:
    """The JSON body as *cls*; no body counts as ``{}``.

    Raises:
        InvalidError: it is no JSON, or has mistakes: all of them.
        TooLargeError: over *max_bytes*.
    """
    return decode(cls, await read_json(request, max_bytes=max_bytes))


async def read_json(request: web.Request, *, max_bytes: int = SMALL_BYTES) -> dict[str, Any]:
    """The JSON body, an object; no body counts as ``{}``. Errors as ``read_as``."""
    data = await read_bytes(request, max_bytes)
    if not data:
        return {}
    parsed = await asyncio.to_thread(_parsed, data) if len(data) > SMALL_BYTES else _parsed(data)
    if not isinstance(parsed, dict):
        raise InvalidError("the body must be a JSON object")
    return parsed


async def read_bytes(request: web.Request, max_bytes: int) -> bytes:
    """The whole body.

    Raises:
        TooLargeError: over *max_bytes*.
        UnreachableError: the sender has stopped sending, or is too slow.
    """
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    data = bytearray()
    try:
        async with asyncio.timeout(WHOLE_S):
            async for chunk in read_chunks(request):
                data += chunk
                if len(data) > max_bytes:
                    raise _too_large(max_bytes)
    except TimeoutError as error:
        raise UnreachableError(f"the body was not whole after {WHOLE_S:.0f} s") from error
    return bytes(data)


async def read_chunks(request: web.Request) -> AsyncGenerator[bytes]:
    """The body as it comes.

    Raises:
        UnreachableError: the sender has stopped sending.
    """
    while True:
        try:
            async with asyncio.timeout(STALL_S):
                chunk = await request.content.read(CHUNK_BYTES)
        except TimeoutError as error:
            raise UnreachableError(f"no byte of the body came for {STALL_S:.0f} s") from error
        if not chunk:
            return
        yield chunk


def read_blob(request: web.Request) -> Blob:
    """What a PUT to ``…/{sha256}`` announces."""
    return Blob(sha256=check_digest(request.match_info["sha256"]), size_bytes=announced_bytes(request))


def announced_bytes(request: web.Request) -> int:
    """The Content-Length: without it nothing that comes is bounded."""
    if request.content_length is None:
        raise web.HTTPLengthRequired
    return request.content_length


def check_digest(text: object) -> Digest:
    """Return *text* if it is a SHA-256 in 64 lower-case hex digits.

    Raises:
        InvalidError: it is none.
    """
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise InvalidError(f"{str(text)[:80]!r} is no SHA-256", fix="send 64 lower-case hex digits")
    return Digest(text)


def check_blobs(listed: object, most: int) -> list[Blob]:
    """``[{"sha256", "size"}, …]`` as blobs.

    Raises:
        InvalidError: something else.
        TooLargeError: more than *most*.
    """
    if not isinstance(listed, list):
        raise InvalidError("digests: must be a list")
    if len(listed) > most:
        raise TooLargeError(f"{len(listed)} digests in one call", fix=f"send at most {most} at a time")
    return [_blob(item) for item in listed]


async def check_files(listed: object) -> list[OutputFile]:
    """``[[path, sha256, size(, is_executable)], …]`` as files. Who may name them is for the services to say.

    Raises:
        InvalidError: something else.
    """
    if not isinstance(listed, list):
        raise InvalidError("files: must be a list")
    return await asyncio.to_thread(lambda items: [_file(item) for item in items], listed)


def query_number(request: web.Request, name: str, default: int, *, low: int = 0, high: int) -> int:
    """The number *name* of the query.

    Raises:
        InvalidError: it is none, or not between *low* and *high*.
    """
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal()) or len(text) > 18 or not low <= int(text) <= high:
        raise InvalidError(f"{name} = {text[:40]!r}: must be a number from {low} to {high}")
    return int(text)


def _too_large(max_bytes: int) -> TooLargeError:
    return TooLargeError("the body is too large", why=f"at most {max_bytes} bytes are read here")


def _parsed(data: bytes) -> object:
    if len(data) > SMALL_BYTES and sum(map(data.count, (b"[", b"{", b","))) > MAX_VALUES:
        raise TooLargeError("the body has too many values", why=f"at most about {MAX_VALUES} are read")
    try:
        parsed: object = long_lists.parsed(data) if len(data) > SMALL_BYTES else json.loads(data)
        if _SURROGATE.search(data):  # an escaped half of a pair is JSON, but no text that could be kept
            json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidError("the body is no JSON", why=str(error)[:200]) from error
    return parsed


def _blob(item: object) -> Blob:
    match item:
        case {"sha256": str(digest), "size": int(size)} if size >= 0 and not isinstance(size, bool):
            return Blob(sha256=check_digest(digest), size_bytes=size)
    raise InvalidError(f'{str(item)[:120]!r} is no {{"sha256", "size"}}')


def _file(item: object) -> OutputFile:
    match item:
        case [str(path), str(digest), int(size), *rest] if size >= 0 and len(path) <= MAX_PATH_CHARS and len(rest) < 2:
            return OutputFile(
                path=path, sha256=check_digest(digest), size_bytes=size, is_executable=bool(rest and rest[0] is True)
            )
    raise InvalidError(f"{str(item)[:120]!r} is no file", fix="send [path, sha256, size, is_executable]")
