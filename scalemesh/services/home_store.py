"""The store that everybody uses, whichever kind is the home of the blobs now; while they move, both at once.

A move goes through four steps, none of which a visit or a publish waits for: ``begin`` (what is written goes to both
from here on, as far as the target answers), ``demand_both`` (a write that does not reach both fails), ``switch`` (one
assignment), ``end`` (only the new home is written to). Somebody copies what was there before, by ``bring``.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from scalemesh.errors import ScaleMeshError, UnreachableError
from scalemesh.ports import Direct, Finding, LocalFiles, Store
from scalemesh.services.copying import Copied, copy, is_damaged
from scalemesh.services.hashing import Hashing
from scalemesh.services.lanes import in_lanes
from scalemesh.services.turns import InFlight, Turns
from scalemesh.values import Blob, DeploymentId, Digest, Kept, SignedRequest

log = logging.getLogger(__name__)

LANES: Final = 8  #: blobs of one call that are copied at a time
REST_S: Final = 5.0  #: a target that did not answer is not asked by publishes for so long; the copying catches up
NOWHERE: Final = Path("/dev/null/elsewhere")  #: no file can be below what is no folder


@runtime_checkable
class Cached(Protocol):
    """What a store is besides, if it keeps what is read often on this machine."""

    def ask(self, in_memory: Callable[[], Iterable[Digest]]) -> None:
        """Let *in_memory* say from now on which blobs are read from memory: they are in use too."""

    async def forget(self, sha256: Digest) -> bool:
        """Remove what this machine keeps of a blob, which has rotted; false where it keeps nothing of it."""
        ...

    async def restore(self, sha256: Digest) -> bool:
        """Put what this machine has of a blob in the place of what the store has; false where it has not got it whole.

        Raises:
            UnreachableError: the store does not answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """A store that is open."""

    kind: str
    store: Store  #: as visits read it: through a cache of this machine where its blobs lie elsewhere
    raw: Store  #: the same without the cache


class HomeStore:
    """Implements Store, Direct and LocalFiles over the home of now.

    Where the home has not what is asked for, the other store of a move is looked into. ``Direct`` and ``LocalFiles``
    are what the home offers: where it is neither, there is no URL, and no file lies where ``path`` says.
    """

    def __init__(self, home: Place, former: Place | None = None) -> None:
        """*former*: where the blobs lived before; uploads that had begun then may still lie in its staging area."""
        self._home, self._former = home, former
        self._target: Place | None = None
        self._senders: Collection[DeploymentId] | None = None  # who may have sent to the former store; None: anybody
        self._is_double = self._is_strict = False
        self._turns, self._writes = Turns(), InFlight()
        self._in_memory: Callable[[], Iterable[Digest]] = tuple
        self._rests_until = float("-inf")
        self.missed = 0  #: writes that reached the home alone while they should have reached both

    @property
    def home(self) -> Place:
        return self._home

    @property
    def former(self) -> Place | None:
        return self._former

    # The move

    async def begin(self, target: Place) -> None:
        """Write to *target* too; returns once no write goes on that began without it."""
        self._target, self._is_double, self.missed = target, True, 0
        self._rests_until = float("-inf")
        await self._writes.drained()

    def demand_both(self) -> None:
        """From here on a write succeeds only if both have it; what one of the two lacks counts as missing."""
        self._is_strict = True

    def relax(self) -> None:
        """The home alone is enough again."""
        self._is_strict = False

    def switch(self) -> None:
        """The target is the home from here on, and what was it is the former one. Needs ``demand_both`` before."""
        if self._target is None or not self._is_strict:
            raise RuntimeError("there is no target that has everything")
        self._home, self._former, self._target, self._senders = self._target, self._home, None, None
        self.ask(self._in_memory)

    def follow(self, place: Place) -> None:
        """The blobs have moved to *place*: for processes that only read."""
        if place.kind != self._home.kind:
            self._home, self._former = place, self._home
            self.ask(self._in_memory)

    async def end(self) -> None:
        """Write to the home alone, moved or not."""
        self._target, self._is_double = None, False
        await self._writes.drained()  # those that still write to both must reach both
        self._is_strict = False

    def expect_of_former(self, senders: Collection[DeploymentId]) -> None:
        """Uploads of *senders* alone may lie there: for others it is not asked, whether it answers or not."""
        self._senders = senders

    def forget_former(self) -> None:
        """Nothing is looked for there any more."""
        self._former = None

    async def bring(self, blob: Blob, hashing: Hashing) -> Copied:
        """Copy a blob of the home into the target, as it was there all along.

        Raises:
            UnreachableError: one of the two does not answer.
        """
        if self._target is None:
            raise RuntimeError("no move is under way")
        async with self._turns.together([blob.sha256]):  # or a removal could be overtaken, and undone
            return await copy(self._home.raw, self._target.raw, blob, hashing)

    async def prove(self, blob: Blob, hashing: Hashing) -> bool:
        """Whether what the target has of *blob* is right; what reads wrong twice is removed there.

        Raises:
            NotFoundError, UnreachableError: it has not got it, or does not answer.
        """
        if self._target is None:
            raise RuntimeError("no move is under way")
        for _ in range(2):
            if not await is_damaged(self._target.raw, blob, hashing):
                return True
        async with self._turns.alone([blob.sha256]):
            await self._target.raw.delete([blob.sha256])
        return False

    async def forget(self, sha256: Digest) -> bool:
        """As ``Cached.forget``, where the home has a cache on this machine."""
        store = self._home.store
        return await store.forget(sha256) if isinstance(store, Cached) else False

    async def restore(self, sha256: Digest) -> bool:
        """As ``Cached.restore``, where the home has a cache on this machine."""
        store = self._home.store
        if not isinstance(store, Cached):
            return False
        async with self._turns.alone([sha256]):
            return await store.restore(sha256)

    # BlobStore

    async def put(self, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        async with self._writing([blob.sha256]) as (home, other):
            await home.store.put(blob, chunks)
            await self._follow(home, other, [blob])

    async def read(self, sha256: Digest, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        home, other = self._home, self._former or self._target
        has_begun = False
        try:
            async with aclosing(home.store.read(sha256, start, stop)) as chunks:
                async for chunk in chunks:
                    has_begun = True
                    yield chunk
        except ScaleMeshError as error:
            if has_begun or other is None:
                raise
            failed = error
        else:
            return
        try:
            async with aclosing(other.store.read(sha256, start, stop)) as chunks:
                async for chunk in chunks:
                    has_begun = True
                    yield chunk
        except ScaleMeshError:
            if has_begun:
                raise
            raise failed from None

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        gone = await self._home.store.missing(digests)
        if self._is_strict and self._target is not None:
            gone |= await self._target.raw.missing(digests)
        return gone

    async def delete(self, digests: Collection[Digest]) -> None:
        with self._writes.one():
            async with self._turns.alone(digests):
                home, other = self._home, self._other
                await home.store.delete(digests)
                if other is None:
                    return
                try:
                    await other.raw.delete(digests)
                except UnreachableError as error:  # there they are blobs that nobody knows; verifying tells of them
                    log.warning("blobs are removed from one store alone", extra={"in": other.kind, "error": error.what})

    # Staging

    async def receive(self, deployment: DeploymentId, attempt: int, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        await self._home.store.receive(deployment, attempt, blob, chunks)

    async def received(self, deployment: DeploymentId, attempt: int) -> dict[Digest, int]:
        found = await self._home.store.received(deployment, attempt)
        if (former := self._former_of(deployment)) is None:
            return found
        return {**await former.store.received(deployment, attempt), **found}

    async def adopt(self, deployment: DeploymentId, attempt: int, digests: Collection[Digest]) -> None:
        async with self._writing(digests) as (home, other):
            if (former := self._former_of(deployment)) is None and other is None:
                await home.store.adopt(deployment, attempt, digests)
                return
            here, there = await home.store.received(deployment, attempt), dict[Digest, int]()
            if former is not None and (left := set(digests) - set(here)):
                found = await former.store.received(deployment, attempt)
                there = {digest: found[digest] for digest in left if digest in found}
                await former.store.adopt(deployment, attempt, list(there))
                await _bring_all(former, home, _blobs(there))
            await home.store.adopt(deployment, attempt, [digest for digest in digests if digest not in there])
            await self._follow(home, other, _blobs({each: here[each] for each in digests if each in here}))

    async def clear(self, deployment: DeploymentId) -> None:
        await self._home.store.clear(deployment)
        if (former := self._former_of(deployment)) is None:
            return
        try:
            await former.store.clear(deployment)
        except UnreachableError as error:
            log.warning(
                "uploads stay in the former store",
                extra={"kind": former.kind, "deployment": deployment, "error": error},
            )

    # Inventory

    async def blobs(self, after: Digest | None = None) -> AsyncGenerator[Sequence[Kept]]:
        async with aclosing(self._home.raw.blobs(after)) as pages:
            async for page in pages:
                yield page

    async def staged(self) -> Sequence[DeploymentId]:
        found = set(await self._home.store.staged())
        if self._former is not None:
            found |= set(await self._former.store.staged())
        return sorted(found)

    # Checks, Direct, LocalFiles

    async def check(self) -> Sequence[Finding]:
        return await self._home.store.check()

    async def upload_urls(
        self, deployment: DeploymentId, attempt: int, blobs: Sequence[Blob]
    ) -> Sequence[SignedRequest | None]:
        store = self._home.store
        return await store.upload_urls(deployment, attempt, blobs) if isinstance(store, Direct) else [None] * len(blobs)

    async def download_url(self, sha256: Digest) -> SignedRequest:
        store = self._home.store
        if not isinstance(store, Direct):
            raise UnreachableError(f"blobs of a {self._home.kind} store are read through the daemon")
        return await store.download_url(sha256)

    def path(self, sha256: Digest) -> Path:
        store = self._home.store
        return store.path(sha256) if isinstance(store, LocalFiles) else NOWHERE

    def ask(self, in_memory: Callable[[], Iterable[Digest]]) -> None:
        """Let the cache of the home, and of any later one, know which blobs are read from memory."""
        self._in_memory = in_memory
        if isinstance(self._home.store, Cached):
            self._home.store.ask(in_memory)

    # How

    @property
    def _other(self) -> Place | None:
        """Where writes go besides the home."""
        return (self._target or self._former) if self._is_double else None

    @asynccontextmanager
    async def _writing(self, digests: Collection[Digest]) -> AsyncIterator[tuple[Place, Place | None]]:
        """Home, and where the write goes besides; both as they are once the turn has come."""
        with self._writes.one():
            async with self._turns.together(digests):
                yield self._home, self._other

    def _former_of(self, deployment: DeploymentId) -> Place | None:
        """The former store, if uploads of *deployment* may lie there."""
        return self._former if self._senders is None or deployment in self._senders else None

    async def _follow(self, home: Place, other: Place | None, blobs: Collection[Blob]) -> None:
        """Bring to *other* what was just written to *home*."""
        if other is None or not blobs:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._rests_until and not self._is_strict:
            self.missed += 1
            return
        try:
            await _bring_all(home, other, blobs)
        except BaseException as error:  # one that is cancelled has missed it too
            self.missed += 1
            if self._is_strict or not isinstance(error, ScaleMeshError):
                raise
            self._rests_until = loop.time() + REST_S
            log.warning("blobs are written to one store alone", extra={"lacks": other.kind, "error": error.what})


async def _bring_all(source: Place, target: Place, blobs: Collection[Blob]) -> None:
    """Copy *blobs*, a few at a time.

    Raises:
        UnreachableError: one is not there now.
    """

    async def bring(blob: Blob) -> None:
        if await copy(source.raw, target.raw, blob) is not Copied.DONE:
            raise UnreachableError(f"blob {blob.sha256} could not be copied from {source.kind} to {target.kind}")

    await in_lanes(bring, blobs, lanes=LANES)


def _blobs(sizes: dict[Digest, int]) -> list[Blob]:
    return [Blob(sha256=sha256, size_bytes=size) for sha256, size in sizes.items()]


if TYPE_CHECKING:
    _fits: type[Store] = HomeStore
    _is_direct: type[Direct] = HomeStore
    _has_files: type[LocalFiles] = HomeStore
