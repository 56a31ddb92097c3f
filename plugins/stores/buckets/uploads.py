"""The staging area: what was uploaded, what of it has been verified, and how that becomes blobs."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Collection, Sequence
from datetime import UTC, datetime
from typing import Final

from plugins.stores.buckets.answers import AnsweredNo, Found
from plugins.stores.buckets.bucket import Bucket
from plugins.stores.buckets.copying import Copying
from plugins.stores.buckets.keys import Keys, deployment_of, digest_of
from plugins.stores.buckets.proof import Proof, Verdict
from plugins.stores.buckets.sending import Sender, Sizes
from plugins.stores.buckets.settling import Settling
from plugins.stores.buckets.threads import Threads
from scalemesh.errors import NotFoundError
from scalemesh.faults import fault
from scalemesh.values import Blob, DeploymentId, Digest

_MOST_KNOWN: Final = 200_000  #: verified uploads that are remembered; others are verified again, the oldest first
_HASHED_AT_ONCE: Final = 8
_ROUNDS: Final = 3  #: in which what changes between verifying and copying is verified again
_UNSEEN_S: Final = 60.0  #: so long a store that could not be looked at as builds see it is not looked at again


class Uploads:
    """Lists, verifies, adopts and forgets uploads."""

    def __init__(
        self, bucket: Bucket, keys: Keys, threads: Threads, sender: Sender, sizes: Sizes, proof: Proof, late: Settling
    ) -> None:
        self._bucket, self._keys, self._threads, self._sender = bucket, keys, threads, sender
        self._sizes, self._proof, self._late, self._copying = sizes, proof, late, Copying(bucket, keys)
        self._proving = asyncio.Lock()
        self._verdict: Verdict | None = None
        self._seen_at = float("-inf")
        self._rooms: OrderedDict[str, dict[Digest, Found]] = OrderedDict()  # what is verified, by where it lies

    async def receive(self, deployment: DeploymentId, attempt: int, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        room = self._keys.room(deployment, attempt)
        key = f"{room}{blob.sha256}"
        await self._late.make_way(room, [blob.sha256])
        # Not only once: what lies there under this name may have been sent by a signed URL, and be anything.
        etag = await self._sender.send(key, blob, chunks, once=False)
        self._known(room)[blob.sha256] = Found(key, blob.size_bytes, etag, datetime.now(UTC))
        fault("store.staged_written")

    async def received(self, deployment: DeploymentId, attempt: int) -> dict[Digest, int]:
        found = await self._verified(self._keys.room(deployment, attempt))
        return {sha256: each.size_bytes for sha256, each in found.items()}

    async def adopt(self, deployment: DeploymentId, attempt: int, digests: Collection[Digest]) -> None:
        room = self._keys.room(deployment, attempt)
        if len(digests) >= self._sizes.listed_uploads and self._late.has_room and await self.vouched():
            # Vouched for: what a list names cannot be exchanged by whoever sent it.
            rest = await self._late.alone(deployment, lambda: self._list(room, digests))
            await self._need(rest)
            return
        left = {digest: self._keys.blob(digest) for digest in digests}
        known = self._known(room)
        for is_again in range(_ROUNDS):
            if is_again or not left.keys() <= known.keys():
                known = await self._verified(room)
            await self._need(left.keys() - known.keys())
            left = await self._copy({digest: known[digest] for digest in left if digest in known})
            if not left:
                return
        raise _not_uploaded(next(iter(left)))

    async def clear(self, deployment: DeploymentId) -> None:
        await self._late.alone(deployment, lambda: self._clear(self._keys.uploads(deployment)))

    async def make_way(self, deployment: DeploymentId, attempt: int, digests: Collection[Digest]) -> None:
        """Before *digests* are sent there by others."""
        await self._late.make_way(self._keys.room(deployment, attempt), digests)

    async def staged(self) -> Sequence[DeploymentId]:
        found: list[DeploymentId] = []
        after = ""
        while page := await self._threads.run(self._bucket.first, self._keys.staging, after):
            room = page.removeprefix(self._keys.staging).partition("/")[0]
            after = f"{self._keys.staging}{room}0"  # the character behind the slash: past all of that room
            found += [name] if (name := deployment_of(room)) else []
        return found

    async def verdict(self, *, anew: bool = False) -> Verdict:
        """What those who send can do in this store, as has been seen since it was opened."""
        async with self._proving:
            known = self._verdict
            if known is None or anew or (not known.is_seen and time.monotonic() > self._seen_at + _UNSEEN_S):
                self._verdict = known = await self._threads.run(self._proof.verdict)
                self._seen_at = time.monotonic()
            return known

    async def vouched(self) -> bool:
        """Whether the store refuses wrong bytes by itself."""
        return not (await self.verdict()).doubt

    async def _verified(self, room: str) -> dict[Digest, Found]:
        """What lies in *room* and is what its name says; what is not is deleted."""
        listed: dict[Digest, Found] = {}
        async for page in self._pages(room):
            listed |= {sha256: found for found in page if (sha256 := digest_of(found.key))}
        for sha256 in self._late.cleared(room):
            listed.pop(sha256, None)
        known = self._known(room)
        same = {sha256 for sha256, found in listed.items() if sha256 in known and known[sha256].etag == found.etag}
        unproven = sorted(listed.keys() - same)
        if unproven and await self.vouched():
            unproven = [sha256 for sha256 in unproven if sha256 in known]  # exchanged since: whoever vouches
        right = await self._threads.each(
            lambda each: self._copying.is_right(each, listed[each]), unproven, _HASHED_AT_ONCE
        )
        for sha256, is_right in zip(unproven, right, strict=True):
            if not is_right:
                del listed[sha256]
                known.pop(sha256, None)
        known.update(listed)
        self._forget_some(room)
        return listed

    async def _pages(self, prefix: str) -> AsyncIterator[list[Found]]:
        """All that lies under *prefix*, a page at a time; none is empty."""
        page = await self._threads.run(self._bucket.page, prefix)
        while page.objects:
            yield page.objects
            if not page.more:
                return
            page = await self._threads.run(self._bucket.page, prefix, more=page.more)

    async def _list(self, room: str, digests: Collection[Digest]) -> set[Digest]:
        """Adopt by a list what lies there now, and return the rest; what is too large for one request is copied."""
        known = await self._verified(room)
        uploads = {digest: known[digest] for digest in digests if digest in known}
        large = {sha256: each for sha256, each in uploads.items() if each.size_bytes > self._sizes.copied_whole_bytes}
        if left := await self._copy(large):
            raise _not_uploaded(next(iter(left)))
        await self._late.adopt(room, {sha256: each for sha256, each in uploads.items() if sha256 not in large})
        return set(digests) - uploads.keys()

    async def _clear(self, prefix: str) -> None:
        for room in [room for room in self._rooms if room.startswith(prefix)]:
            del self._rooms[room]
        kept = await self._late.clear(prefix)
        async for found in self._pages(prefix):
            if keys := [each.key for each in found if each.key not in kept]:
                await self._threads.run(self._bucket.delete, keys)

    async def _need(self, digests: Collection[Digest]) -> None:
        """Raise NotFoundError unless all of these are blobs, by themselves."""
        await self._late.settled(digests)
        there = await self._threads.each(lambda sha256: self._bucket.head(self._keys.blob(sha256)), list(digests))
        for sha256, is_there in zip(digests, there, strict=True):
            if not is_there:
                raise _not_uploaded(sha256)

    async def _copy(self, uploads: dict[Digest, Found]) -> dict[Digest, str]:
        """Make them blobs; those that were no longer what they were when they were verified are returned."""
        whole = self._sizes.copied_whole_bytes
        small = [item for item in uploads.items() if item[1].size_bytes <= whole]
        are_done = await self._threads.each(lambda each: self._copying.copied(*each), small)
        done = dict(zip((sha256 for sha256, _ in small), are_done, strict=True))
        for sha256, found in uploads.items():
            if found.size_bytes > whole:
                done[sha256] = await self._copied_in_parts(sha256, found)
        return {sha256: self._keys.blob(sha256) for sha256, is_done in done.items() if not is_done}

    async def _copied_in_parts(self, sha256: Digest, found: Found) -> bool:
        key = self._keys.blob(sha256)
        try:
            await self._sender.copy_in_parts(found, key)
        except AnsweredNo as error:
            return await self._threads.run(self._copying.is_there, key, error)
        return True

    def _known(self, room: str) -> dict[Digest, Found]:
        return self._rooms.setdefault(room, {})

    def _forget_some(self, room: str) -> None:
        if room in self._rooms:  # else it was cleared meanwhile
            self._rooms.move_to_end(room)
        count = sum(map(len, self._rooms.values()))
        while count > _MOST_KNOWN and len(self._rooms) > 1:
            count -= len(self._rooms.popitem(last=False)[1])


def _not_uploaded(sha256: Digest) -> NotFoundError:
    return NotFoundError(f"{sha256} was not uploaded by this attempt")
