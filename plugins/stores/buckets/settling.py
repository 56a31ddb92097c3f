"""Uploads that are adopted and not copied yet: a list in the store makes them blobs, and the copies follow.

A server takes about as long to copy ten thousand files as to receive them, and no publish should wait for that. Once
the list is written its uploads are durable: they are read where they lie and nobody deletes them, until all are copied
and the list goes ("settled"). One process adopts and settles. Others look for lists where they miss a blob.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from plugins.stores.buckets.adoptions import MOST_BYTES, MOST_LISTED, Adoption, decoded
from plugins.stores.buckets.answers import AnsweredNo, Found
from plugins.stores.buckets.bucket import MOST_AT_ONCE, Bucket
from plugins.stores.buckets.copying import Copying
from plugins.stores.buckets.keys import Keys
from plugins.stores.buckets.reading import Reading
from plugins.stores.buckets.threads import Threads, chunked
from scalemesh.errors import ScaleMeshError
from scalemesh.faults import fault
from scalemesh.values import Blob, DeploymentId, Digest

T = TypeVar("T")

log = logging.getLogger(__name__)

_LANES: Final = 4  #: copies at a time: visits and builds come first
_MOST_LISTS: Final = 500  #: that wait; with more, adoptions copy at once, and one request tells of all
_MOST_WAITING: Final = 200_000  #: uploads, as the lists
_LOOK_S: Final = 1.0  #: between two looks for lists
_PAUSES_S: Final = (1.0, 5.0, 30.0, 60.0)  #: before a store that does not answer is asked again


class Settling:
    """What waits to be copied, by the lists in the store."""

    def __init__(
        self, bucket: Bucket, keys: Keys, threads: Threads, copying: Copying, *, after_s: float, is_keeper: bool
    ) -> None:
        """*after_s*: how long an adoption waits before it is copied, if nobody needs that. *is_keeper*: it adopts."""
        self._bucket, self._keys, self._threads, self._copying = bucket, keys, threads, copying
        self._after_s, self.is_keeper = after_s, is_keeper
        self._pool = Threads("settle", _LANES)
        self._lists: dict[str, Adoption] = {}  # by the key of the list
        self._where: dict[Digest, Found] = {}
        self._woken = asyncio.Event()
        self._under_way: dict[str, asyncio.Task[None]] = {}  # by the key of the list that is being settled
        self._tasks: set[asyncio.Task[Any]] = set()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._looking = asyncio.Lock()
        self._looks = self._looked = 0  # begun, and the last that came to its end
        self._looked_at = float("-inf")

    # Where blobs are

    def is_waiting(self, sha256: Digest) -> bool:
        """Whether it is a blob by being listed."""
        return sha256 in self._where

    async def places(self, sha256: Digest) -> AsyncGenerator[tuple[str, str]]:
        """The keys that the blob may have, and the ETags that it must have there, likely ones first."""
        for is_again in range(1 if self.is_keeper else 2):
            if is_again:
                await self.look()
            if found := self._where.get(sha256):
                yield found.key, found.etag
                if not self.is_keeper:  # it is copied, and no upload any more: nobody need try there again
                    self._where.pop(sha256, None)
            yield self._keys.blob(sha256), ""

    async def look(self) -> None:
        """Know of every list that was there when this was called: others write them. Once a second at most."""
        if self.is_keeper:
            return
        begun = self._looks
        async with self._looking:
            if self._looked > begun:
                return
            await asyncio.sleep(self._looked_at + _LOOK_S - time.monotonic())
            self._looks += 1
            await self.load()
            self._looked, self._looked_at = self._looks, time.monotonic()

    async def load(self) -> None:
        """Know of the lists that are there now. The keeper calls it once, before anything else."""
        page = await self._threads.run(self._bucket.page, self._keys.adopted)
        fresh = [found for found in page.objects if found.key not in self._lists]
        read = zip(fresh, await self._threads.each(self._read, fresh), strict=True)
        known = {**self._lists, **{found.key: adoption for found, adoption in read if adoption is not None}}
        self._lists = {found.key: known[found.key] for found in page.objects if found.key in known}
        self._where = {}
        for adoption in self._lists.values():
            self._where.update(adoption.uploads)

    # Adopting and clearing

    @property
    def has_room(self) -> bool:
        """Whether more may be adopted before it is copied."""
        return self.is_keeper and len(self._lists) < _MOST_LISTS and len(self._where) < _MOST_WAITING

    async def alone(self, deployment: DeploymentId, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do *work* while nobody else adopts or clears uploads of *deployment*; also if the caller is cancelled."""

        async def locked() -> T:
            async with self._lock(deployment):
                return await work()

        return await asyncio.shield(self._begun(locked()))

    async def adopt(self, room: str, uploads: Mapping[Digest, Found]) -> None:
        """Make *uploads*, which lie in *room* and are verified, blobs. Needs ``alone``."""
        for part in chunked(uploads.items(), MOST_LISTED):
            adoption = Adoption(room, dict(part))
            key = self._keys.adoption(room, await self._threads.run(lambda each: each.name, adoption))
            try:
                await self._write(key, adoption)
            finally:  # also where nobody knows whether it arrived: then it is settled, and nothing stays behind
                self._lists[key] = adoption
                self._where.update(adoption.uploads)
                self._woken.set()
        fault("adopt.after_list")

    async def clear(self, prefix: str) -> set[str]:
        """Let what is listed under *prefix* be uploads no longer; the keys that stay for now. Needs ``alone``."""
        waiting = {key: each for key, each in self._lists.items() if each.room.startswith(prefix)}
        for key, adoption in waiting.items():
            if not adoption.is_cleared:
                cleared = replace(adoption, is_cleared=True)
                await self._write(key, cleared)
                self._lists[key] = cleared
        return {found.key for adoption in waiting.values() for found in adoption.uploads.values()}

    def cleared(self, room: str) -> set[Digest]:
        """What still lies in *room* and is no upload any more."""
        rooms = (each.uploads for each in self._lists.values() if each.is_cleared and each.room == room)
        return set().union(*rooms)

    async def make_way(self, room: str, digests: Collection[Digest]) -> None:
        """See to it that none of *digests* lies in *room* as something that was cleared: it is uploaded once more."""
        if any(each.is_cleared and each.room == room for each in self._lists.values()):
            await self.settled(self.cleared(room).intersection(digests))

    # Settling

    async def settled(self, digests: Collection[Digest] | None = None) -> None:
        """Return once none of *digests* waits, or nothing at all. What keeps them from it is raised."""
        for key, adoption in list(self._lists.items()) if self.is_keeper else ():
            if digests is None or not adoption.uploads.keys().isdisjoint(digests):
                await asyncio.shield(self._settling(key))

    async def serve(self, told: Callable[[], AbstractContextManager[None]]) -> None:
        """Settle what there is and what comes, until cancelled."""
        tries = 0
        while True:
            self._woken.clear()
            try:
                with told():
                    await self.settled()
            except Exception as error:
                if isinstance(error, ScaleMeshError):
                    log.warning("adopted uploads are copied later", extra={"why": str(error)})
                else:
                    log.exception("a bug: adopted uploads are not copied")
                await asyncio.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
                tries += 1
                continue
            tries = 0
            await self._woken.wait()
            await asyncio.sleep(self._after_s)

    async def close(self) -> None:
        """Leave what is under way as it is. Blocks its threads' callers no longer than ``Threads.close``."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._pool.close)

    def _settling(self, key: str) -> asyncio.Task[None]:
        """The only one for that list: nobody's being cancelled leaves a copy behind that nobody waits for."""
        if key not in self._under_way:
            self._under_way[key] = task = self._begun(self._settle(key))
            task.add_done_callback(lambda _: self._under_way.pop(key))
        return self._under_way[key]

    async def _settle(self, key: str) -> None:
        if key not in self._lists:  # somebody was quicker
            return
        await self._copy(self._lists[key])
        fault("settle.after_copies")
        async with self._lock(self._keys.deployment_of_room(self._lists[key].room)):
            adoption = self._lists[key]
            if adoption.is_cleared:
                for part in chunked((found.key for found in adoption.uploads.values()), MOST_AT_ONCE):
                    await self._threads.run(self._bucket.delete, part)
                fault("settle.after_uploads")
            await self._threads.run(self._bucket.delete, [key])
            fault("settle.after_list")
            del self._lists[key]
            for sha256 in adoption.uploads:
                self._where.pop(sha256, None)  # where another list has it too: it is a blob by itself now

    async def _copy(self, adoption: Adoption) -> None:
        """Copy all; returns or raises only when no copy is under way."""
        failed: list[Exception] = []

        def copy(upload: tuple[Digest, Found]) -> None:
            if failed:
                return
            try:
                if not self._copying.copied_anyhow(*upload):
                    log.error("an adopted upload is lost", extra={"blob": upload[0], "lay_in": adoption.room})
            except Exception as error:  # noqa: BLE001 -- it is raised below
                failed.append(error)

        await self._pool.each(copy, adoption.uploads.items())
        if failed:
            raise failed[0]

    # How

    async def _write(self, key: str, adoption: Adoption) -> None:
        await self._threads.run(self._put, key, adoption)

    def _put(self, key: str, adoption: Adoption) -> None:
        data = adoption.encoded()
        blob = Blob(sha256=Digest(hashlib.sha256(data).hexdigest()), size_bytes=len(data))
        self._bucket.put(key, blob, data, once=False)

    def _read(self, found: Found) -> Adoption | None:
        """What the list says; None: it is gone, or is none."""
        try:
            if found.size_bytes > MOST_BYTES:
                raise ValueError(f"it has {found.size_bytes} bytes")
            return decoded(self._keys.room_of(found.key), b"".join(Reading(self._bucket, found.key).all()))
        except AnsweredNo as error:
            if error.code != "NoSuchKey":
                raise
        except ValueError as error:
            log.error("a list of adopted uploads cannot be read", extra={"key": found.key, "why": str(error)})  # noqa: TRY400
        return None

    def _begun(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task that ends with the store at the latest, whoever waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waits gets it; nobody may be left

    def _lock(self, deployment: str) -> asyncio.Lock:
        return self._locks.setdefault(deployment, asyncio.Lock())
