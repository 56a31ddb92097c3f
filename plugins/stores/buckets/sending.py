"""The way of bytes into a bucket: in one request, or in parts if they are many. Nothing that is refused stays."""

import asyncio
from collections.abc import AsyncIterable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from plugins.stores.buckets.answers import Found
from plugins.stores.buckets.bucket import Bucket
from plugins.stores.buckets.spool import Checked, Spool
from plugins.stores.buckets.threads import Threads
from scalemesh.values import Blob

CHUNK_BYTES: Final = 256 * 1024
MIB: Final = 1024 * 1024
_MOST_PARTS: Final = 9000  #: S3 takes 10,000
_PARTS_AT_ONCE: Final = 3  #: of one upload: so many are in memory
_UPLOADS_AT_ONCE: Final = 4  #: in parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """From when on something is done in parts, or later, and how large these are."""

    whole_bytes: int = 64 * MIB  #: larger ones are sent in parts
    part_bytes: int = 8 * MIB
    copied_whole_bytes: int = 5 * 1024 * MIB  #: S3 copies, and takes in one PUT, no more
    copied_part_bytes: int = 1024 * MIB
    listed_uploads: int = 33  #: so many are adopted by a list, and copied afterwards
    settled_after_s: float = 2.0  #: a publish has more to do behind its adoption


class Sender:
    """Sends blobs to keys, through the threads of a store."""

    def __init__(self, bucket: Bucket, threads: Threads, sizes: Sizes) -> None:
        self._bucket, self._threads, self._sizes = bucket, threads, sizes
        self._large = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    async def send(self, key: str, blob: Blob, chunks: AsyncIterable[bytes], *, once: bool) -> str:
        """Store *chunks* if they are *blob*, else RefusedError; the ETag. *once*: as ``Bucket.put``."""
        if blob.size_bytes > self._sizes.whole_bytes:
            async with self._large:
                return await self._in_parts(key, blob, chunks, once=once)
        spool = Spool(blob)
        waiting = bytearray()
        try:
            async for chunk in chunks:
                waiting += chunk
                if len(waiting) >= CHUNK_BYTES:
                    await self._threads.run(spool.write, bytes(waiting))
                    waiting.clear()
            return await self._threads.run(self._put, key, blob, spool, bytes(waiting), once)
        finally:
            # Shielded: a caller that is cancelled twice must leave no file either.
            await asyncio.shield(asyncio.wrap_future(self._threads.submit(spool.discard)))

    def _put(self, key: str, blob: Blob, spool: Spool, rest: bytes, once: bool) -> str:
        return self._bucket.put(key, blob, spool.finish(rest), once=once)

    async def _in_parts(self, key: str, blob: Blob, chunks: AsyncIterable[bytes], *, once: bool) -> str:
        checked = Checked(blob)
        size = max(self._sizes.part_bytes, -(-blob.size_bytes // _MOST_PARTS))
        parts = Parts(self._bucket, self._threads, key, once=once)
        waiting = bytearray()
        async with parts:
            async for chunk in chunks:
                waiting += chunk
                if len(waiting) >= size:
                    await self._threads.run(checked.add, bytes(waiting))
                    await parts.add(bytes(waiting))
                    waiting.clear()
            await self._threads.run(checked.add, bytes(waiting))
            checked.prove()
            if waiting:
                await parts.add(bytes(waiting))
            return await parts.complete()

    async def copy_in_parts(self, source: Found, key: str) -> None:
        """Copy what is too large for one request, as it was when it was found."""
        size = max(self._sizes.copied_part_bytes, -(-source.size_bytes // _MOST_PARTS))
        async with Parts(self._bucket, self._threads, key, once=True) as parts:
            for first in range(0, source.size_bytes, size):
                await parts.copied(source, first, min(first + size, source.size_bytes) - 1)
            await parts.complete()


class Parts:
    """One upload in parts. Left without ``complete``, it is aborted."""

    def __init__(self, bucket: Bucket, threads: Threads, key: str, *, once: bool) -> None:
        self._bucket, self._threads, self._key, self._once = bucket, threads, key, once
        self._upload = ""
        self._sent: list[asyncio.Task[str]] = []
        self._free = asyncio.Semaphore(_PARTS_AT_ONCE)

    async def __aenter__(self) -> "Parts":
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._sent:
            task.cancel()
        await asyncio.gather(*self._sent, return_exceptions=True)
        if self._upload:
            await asyncio.shield(asyncio.create_task(self._abort(self._upload)))

    async def add(self, data: bytes) -> None:
        """Send a part; waits while too many are under way."""
        await self._start(lambda number: self._bucket.part(self._key, self._upload, number, data))

    async def copied(self, source: Found, first: int, last: int) -> None:
        """As ``add``, of bytes that lie in the store."""
        await self._start(lambda n: self._bucket.part_copy(self._key, self._upload, n, source, first, last))

    async def complete(self) -> str:
        """Wait for the parts and make the object of them; its ETag."""
        etags = await asyncio.gather(*self._sent)
        etag = await self._threads.run(self._bucket.complete, self._key, self._upload, etags, once=self._once)
        self._upload = ""
        return etag

    async def _start(self, send: Callable[[int], str]) -> None:
        if not self._upload:
            self._upload = await self._threads.run(self._bucket.begin, self._key, once=self._once)
        await self._free.acquire()
        failed = next((task for task in self._sent if task.done() and task.exception()), None)
        if failed is not None:
            self._free.release()
            failed.result()
        self._sent.append(asyncio.create_task(self._send(send, len(self._sent) + 1)))

    async def _send(self, send: Callable[[int], str], number: int) -> str:
        try:
            return await self._threads.run(send, number)
        finally:
            self._free.release()

    async def _abort(self, upload: str) -> None:
        with suppress(Exception):
            await self._threads.run(self._bucket.abort, self._key, upload)
