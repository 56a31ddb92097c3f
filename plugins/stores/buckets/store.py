"""A store in a bucket: what the port asks for, whichever library signs."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

from urllib3.exceptions import HTTPError

from plugins.stores.buckets import findings, words
from plugins.stores.buckets.answers import AnsweredNo, StrangeAnswer
from plugins.stores.buckets.bucket import MOST_AT_ONCE, Bucket
from plugins.stores.buckets.config import BucketConfig
from plugins.stores.buckets.copying import Copying
from plugins.stores.buckets.keys import Keys, digest_of
from plugins.stores.buckets.place import Place
from plugins.stores.buckets.presence import Presence
from plugins.stores.buckets.proof import Proof
from plugins.stores.buckets.reading import Reading
from plugins.stores.buckets.sending import Sender, Sizes
from plugins.stores.buckets.settling import Settling
from plugins.stores.buckets.signing import Signer
from plugins.stores.buckets.sweep import sweep_for_ever
from plugins.stores.buckets.threads import Threads
from plugins.stores.buckets.uploads import Uploads
from plugins.stores.buckets.wire import Wire
from scalemesh.errors import InvalidError, NotFoundError, UnreachableError
from scalemesh.faults import fault
from scalemesh.ports import Direct, Finding, Store
from scalemesh.values import Blob, DeploymentId, Digest, Kept, SignedRequest

#: Threads apart from the others: an adoption of many files must not hold up a visit. They are more than a move (8),
#: verifying (4) and the archives of some builds need at a time, or these would. Made when they are needed.
_READERS: Final = 32


class BucketStore:
    """Implements Store and Direct.

    All that waits for the network happens in threads of the store's own. A caller that is cancelled leaves at once; its
    thread ends the request that it is in.
    """

    def __init__(self, kind: str, config: BucketConfig, signer: Signer, wire: Wire, sizes: Sizes) -> None:
        self.kind, self.config = kind, config
        self.keys = Keys(config.prefix)
        self.bucket = Bucket(config, signer, wire)
        self.threads, self._readers = Threads(kind, config.threads), Threads(f"{kind}-read", _READERS)
        self._sender = Sender(self.bucket, self.threads, sizes)
        proof, copying = Proof(config, self.bucket, self.keys), Copying(self.bucket, self.keys)
        after_s, is_keeper = sizes.settled_after_s, config.is_keeper and bool(config.owner)
        self.late = Settling(self.bucket, self.keys, self.threads, copying, after_s=after_s, is_keeper=is_keeper)
        self.uploads = Uploads(self.bucket, self.keys, self.threads, self._sender, sizes, proof, self.late)
        self._presence = Presence(self.bucket, self.keys, self.threads)
        self._place = Place(config, self.bucket, self.keys, kind)
        self._seeing = asyncio.Lock()
        self.is_seen = asyncio.Event()  #: that the bucket is there and ours
        self._largest = sizes.copied_whole_bytes

    # BlobStore

    async def put(self, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        key = self.keys.blob(blob.sha256)
        with self.told():
            await self._may_write()
            with _fine_if_there():
                fault("store.before_link")
                await self._sender.send(key, blob, chunks, once=True)
                fault("store.after_link")

    async def read(self, sha256: Digest, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        self.keys.blob(sha256)  # refuses what is no digest
        if start < 0:
            raise InvalidError(f"a blob cannot be read from byte {start}")
        at = start
        gone: AnsweredNo | None = None
        with self.told(absent=f"there is no blob {sha256}"):
            await self._ready()
            async with aclosing(self.late.places(sha256)) as places:
                async for key, etag in places:
                    reading = Reading(self.bucket, key, at, stop, etag=etag)
                    try:
                        while data := await self._readers.run(reading.next):
                            at += len(data)
                            yield data
                    except AnsweredNo as error:
                        gone = _gone(gone, error)
                    else:
                        return
                    finally:
                        # Not waited for: a store that hangs may keep all of these threads.
                        self._readers.submit(reading.close)
            if gone is not None:
                raise gone

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        keys = {self.keys.blob(digest): digest for digest in digests}
        with self.told():
            await self._ready()
            absent = await self._absent(keys)
            if absent and not self.late.is_keeper:
                await self.late.look()
                absent = await self._absent({key: keys[key] for key in absent})
            return {keys[key] for key in absent}

    async def _absent(self, keys: Mapping[str, Digest]) -> set[str]:
        return await self._presence.absent([key for key, digest in keys.items() if not self.late.is_waiting(digest)])

    async def delete(self, digests: Collection[Digest]) -> None:
        keys = [self.keys.blob(digest) for digest in digests]
        with self.told():
            await self._may_write()
            await self.late.settled(digests)  # or a copy could bring it back
            for start in range(0, len(keys), MOST_AT_ONCE):
                await self.threads.run(self.bucket.delete, keys[start : start + MOST_AT_ONCE])

    # Staging

    async def receive(self, deployment: DeploymentId, attempt: int, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        self.keys.blob(blob.sha256)  # refuses what is no digest
        self.keys.room(deployment, attempt)
        with self.told():
            await self._may_write()
            await self.uploads.receive(deployment, attempt, blob, chunks)

    async def received(self, deployment: DeploymentId, attempt: int) -> dict[Digest, int]:
        self.keys.room(deployment, attempt)
        with self.told():
            await self._may_write()
            return await self.uploads.received(deployment, attempt)

    async def adopt(self, deployment: DeploymentId, attempt: int, digests: Collection[Digest]) -> None:
        self.keys.room(deployment, attempt)
        with self.told():
            await self._may_write()
            await self.uploads.adopt(deployment, attempt, digests)

    async def clear(self, deployment: DeploymentId) -> None:
        self.keys.uploads(deployment)
        with self.told():
            await self._may_write()
            await self.uploads.clear(deployment)

    # Inventory

    async def blobs(self, after: Digest | None = None) -> AsyncGenerator[Sequence[Kept]]:
        with self.told():
            await self._ready()
            await self.late.settled()
            page = await self.threads.run(self.bucket.page, self.keys.blobs, after=self.keys.after(after or Digest("")))
            while True:
                named = [(digest_of(found.key), found) for found in page.objects]
                kept = [Kept(sha256=name, size_bytes=found.size_bytes, at=found.at) for name, found in named if name]
                if kept:
                    yield kept
                if not page.more:
                    return
                page = await self.threads.run(self.bucket.page, self.keys.blobs, more=page.more)

    async def staged(self) -> Sequence[DeploymentId]:
        with self.told():
            await self._ready()
            return await self.uploads.staged()

    # Direct

    async def upload_urls(
        self, deployment: DeploymentId, attempt: int, blobs: Sequence[Blob]
    ) -> Sequence[SignedRequest | None]:
        room = self.keys.room(deployment, attempt)
        for blob in blobs:
            self.keys.blob(blob.sha256)

        def sign() -> list[SignedRequest | None]:
            return [self.bucket.upload(f"{room}{blob.sha256}", blob) if self._fits(blob) else None for blob in blobs]

        if not self.config.direct:
            return [None] * len(blobs)
        with self.told():
            await self._may_write()
            if (await self.uploads.verdict()).danger:
                return [None] * len(blobs)
            await self.uploads.make_way(deployment, attempt, [blob.sha256 for blob in blobs])
            return await self.threads.run(sign)

    async def download_url(self, sha256: Digest) -> SignedRequest:
        key = self.keys.blob(sha256)
        with self.told():
            await self._ready()
            await self.late.settled([sha256])  # an upload may go before the URL has expired
            return await self.threads.run(self.bucket.download, key)

    # Located, Checks

    @property
    def where(self) -> str:
        return f"{self.config.bucket}/{self.keys.prefix} at {words.place(self.config)}"

    async def check(self) -> Sequence[Finding]:
        return await findings.look(self)

    # How

    async def see(self, *, anew: bool = False) -> None:
        """Look once whether the bucket is there and ours, and for what waits there to be copied.

        What went wrong is looked at again by the next who comes.
        """
        async with self._seeing:
            if anew or not self.is_seen.is_set():
                await self.threads.run(self._place.see)
                if not self.is_seen.is_set():
                    await self.late.load()
                self.is_seen.set()

    async def settle_for_ever(self) -> None:
        """Once the place is known to be ours."""
        await self.is_seen.wait()
        if self.late.is_keeper:
            await self.late.serve(self.told)

    @contextmanager
    def told(self, absent: str = "") -> Iterator[None]:
        """Errors of the wire as those of the port. *absent*: what to say of an object that is not there."""
        try:
            yield
        except AnsweredNo as error:
            if absent and error.code == "NoSuchKey":
                raise NotFoundError(absent) from error
            raise words.answered(error, self.config, self.kind) from error
        except (HTTPError, StrangeAnswer) as error:
            raise words.unanswered(error, self.config, self.kind) from error

    def close(self) -> None:
        """End the threads. Blocks, for a few seconds at most."""
        self.threads.close()
        self._readers.close()

    async def _ready(self) -> None:
        if self.config.owner and not self.is_seen.is_set():
            await self.see()

    async def _may_write(self) -> None:
        if not self.config.owner:
            raise UnreachableError("the store is open for reading only", why="whose it is was not told")
        await self._ready()

    def _fits(self, blob: Blob) -> bool:
        return blob.size_bytes <= self._largest


def _gone(before: AnsweredNo | None, error: AnsweredNo) -> AnsweredNo:
    """What to tell if it is found nowhere else: that an upload is another by now says more than that it is gone."""
    if error.status not in {404, 412} or error.code == "NoSuchBucket":
        raise error
    return before if before is not None and before.status == 412 else error


@contextmanager
def _fine_if_there() -> Iterator[None]:
    try:
        yield
    except AnsweredNo as error:
        if error.status != 412:
            raise


@asynccontextmanager
async def open_store(store: BucketStore, wire: Wire) -> AsyncIterator[None]:
    """Sweep and settle while it is open; at the end no call keeps the process."""
    tasks = [asyncio.create_task(work) for work in (sweep_for_ever(store), store.settle_for_ever())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await store.late.close()
        await asyncio.to_thread(store.close)
        wire.close()


if TYPE_CHECKING:
    _fits_store: type[Store] = BucketStore
    _fits_direct: type[Direct] = BucketStore
