"""What builds keep for later builds: archives in the blob store, found by project, scope, kind and key.

A build never names where it reads or writes: production reads and writes production's; a preview reads its
branch's, then production's, and writes only its branch's. So nothing that a preview made reaches production.
"""

import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from scalemesh.db import blobs, caches
from scalemesh.db.blobs import Amount, BlobKind
from scalemesh.db.caches import CacheRows, holder_of
from scalemesh.db.database import Database, Transaction
from scalemesh.errors import InvalidError, NotFoundError, RefusedError, ScaleMeshError, TooLargeError
from scalemesh.ports import BlobStore, Direct, Store
from scalemesh.services.holdings import Holdings
from scalemesh.values import (
    Blob,
    CacheEntry,
    CacheKind,
    Deployment,
    DeploymentId,
    Digest,
    Environment,
    NewCacheEntry,
    ProjectId,
    SignedRequest,
)

KEY: Final = re.compile(r"[0-9a-zA-Z._-]{8,128}")
PRODUCTION: Final = "production"
MOST_OF_KIND: Final = 3  #: entries of one kind and scope; a lock file is seldom taken back
MOST_SENT: Final = 8  #: archives that one attempt may send
MOST_ATTEMPTS: Final = 1_000  #: whose archives are counted
#: Archives are staged as if by another attempt: they count towards no limit of an output, and no output can name them.
STAGED_APART: Final = 1_000_000_000
STALE: Final = timedelta(hours=1)  #: an entry that is not whole after so long will never be
MAX_SECONDS: Final = 1e6


@dataclass(frozen=True, slots=True)
class Scopes:
    """Whose archives a build may read, the best first, and whose it writes."""

    reads: tuple[str, ...]
    writes: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where an archive is to be sent; no *url*: to the daemon. *is_there*: nowhere, its bytes are known."""

    is_there: bool = False
    url: SignedRequest | None = None


@dataclass(slots=True)
class _Sent:
    attempt: int
    digests: set[Digest] = field(default_factory=set)


def scopes_of(deployment: Deployment) -> Scopes:
    """Production's own, or its branch's and production's to read."""
    if deployment.environment is Environment.PRODUCTION:
        return Scopes((PRODUCTION,), PRODUCTION)
    own = f"branch:{deployment.branch or ''}"
    return Scopes((own, PRODUCTION), own)


class Caches:
    def __init__(
        self,
        database: Database,
        store: Store,
        holdings: Holdings,
        *,
        far: Callable[[], BlobStore],
        project_bytes: int,
        days: int,
        now: Callable[[], datetime],
    ) -> None:
        """*project_bytes* is what one project may keep; the least recently used goes first, and after *days* anyway.

        *far* is the store without the cache that visits are served from: an archive would push out what they need.
        """
        self._db, self._rows = database, CacheRows(database)
        self._store, self._far, self._holdings = store, far, holdings
        self._project_bytes, self._days, self._now = project_bytes, days, now
        self._sent: OrderedDict[DeploymentId, _Sent] = OrderedDict()

    @property
    def archive_bytes(self) -> int:
        """The most that one archive may have."""
        return max(1, self._project_bytes // 2)

    def rules(self, deployment: Deployment) -> dict[str, object]:
        """What its builder is told: ``cache`` of a claim."""
        return {"reads": deployment.uses_cache, "writes": True, "archive_bytes": self.archive_bytes}

    async def find(
        self, deployment: Deployment, kind: CacheKind, key: str, prefix: str = ""
    ) -> tuple[CacheEntry, SignedRequest | None] | None:
        """The best entry that this deployment may read, and where the store gives it; None: the daemon does.

        Raises:
            InvalidError: the key is none, or does not begin with *prefix*.
        """
        _check(key)
        if not key.startswith(prefix):
            raise InvalidError(f"{prefix[:80]!r} is not how {key} begins")
        if not deployment.uses_cache:
            return None
        entry = await self._rows.find(deployment.project, scopes_of(deployment).reads, kind, key, prefix)
        if entry is None:
            return None
        async with self._db.transaction() as tx:
            await caches.used(tx, entry.id, self._now())
        return entry, await self._url_of(entry.blob.sha256)

    async def read(self, deployment: Deployment, sha256: Digest) -> tuple[int, AsyncGenerator[bytes]]:
        """The size and the bytes of an archive that this deployment may read. Read it under ``aclosing()``.

        Raises:
            NotFoundError: there is none.
        """
        reads = scopes_of(deployment).reads if deployment.uses_cache else ()
        size = await self._rows.size_of(deployment.project, reads, sha256)
        if size is None:
            raise NotFoundError("no such archive is kept for this build")
        return size, self._chunks(deployment.project, sha256)

    async def place(self, deployment: Deployment, blob: Blob) -> Place:
        """Where an archive of these bytes is to be sent.

        Raises:
            RefusedError: this deployment keeps nothing, or has sent enough.
            TooLargeError: more than one archive may have.
        """
        scopes = scopes_of(deployment)
        self._count(deployment, blob)
        if await self._rows.may_read(deployment.project, scopes.reads, blob):
            return Place(is_there=True)
        if not isinstance(self._store, Direct):
            return Place()
        urls = await self._store.upload_urls(deployment.id, _apart(deployment), [blob])
        return Place(url=urls[0])

    async def receive(self, deployment: Deployment, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        """Take the bytes of an archive. Errors as ``place``, and those of ``Staging.receive``."""
        self._count(deployment, blob)
        await self._store.receive(deployment.id, _apart(deployment), blob, chunks)

    async def keep(self, deployment: Deployment, new: NewCacheEntry) -> bool:
        """Keep an archive that this attempt sent, or that it may read, in place of one of the same key.

        False: the project's caches were cleared meanwhile.

        Raises:
            InvalidError: the key is none.
            RefusedError: it was not sent.
            TooLargeError: more than one archive may have.
            NotFoundError: the project is deleted.
            UnreachableError: the store or the database does not answer.
        """
        _check(new.key)
        scopes = scopes_of(deployment)
        self._count(deployment, new.blob)
        await self._prove(deployment, scopes, new.blob)
        async with self._db.transaction() as tx:
            entry = await caches.add(tx, deployment.project, scopes.writes, new, self._now())
        try:
            return await self._store_held(deployment, entry, new.blob)
        except ScaleMeshError:
            async with self._db.transaction() as tx:
                await caches.delete(tx, [entry])
            raise

    async def of_project(self, project: ProjectId) -> list[CacheEntry]:
        """What a project's builds keep, the last used one first."""
        return await self._rows.of_project(project)

    async def total(self, project: ProjectId) -> Amount:
        return Amount(*await self._rows.total(project))

    async def clear(self, project: ProjectId) -> Amount:
        """Forget all that the project's builds kept; how much that was. Repeatable."""
        async with self._db.transaction() as tx:
            kept = await caches.of_project(tx, project)
            await caches.delete(tx, await caches.ids_of_project(tx, project))
        return Amount(len(kept), sum(entry.blob.size_bytes for entry in kept))

    async def drop(self, project: ProjectId) -> None:
        """Forget all of a project that is deleted. Repeatable."""
        await self.clear(project)

    async def expire(self, unused: timedelta | None = None) -> Amount:
        """Forget what no build has used for long, and what was never whole; how much that was. Repeatable.

        *unused*: what was not used for so long goes too.
        """
        over = await self._over(unused)
        async with self._db.transaction() as tx:
            await caches.delete(tx, [entry for entry, _ in over])
        return _amount(over)

    async def expirable(self, unused: timedelta | None = None) -> Amount:
        """What ``expire`` would forget now."""
        return _amount(await self._over(unused))

    async def _over(self, unused: timedelta | None) -> list[tuple[int, Blob]]:
        now, most = self._now(), timedelta(days=self._days)
        return await self._rows.unused(now - min(most, unused or most), now - STALE)

    async def _prove(self, deployment: Deployment, scopes: Scopes, blob: Blob) -> None:
        """Raise RefusedError if the attempt neither sent *blob* nor may read it."""
        if await self._rows.may_read(deployment.project, scopes.reads, blob):
            return
        received = await self._store.received(deployment.id, _apart(deployment))
        if received.get(blob.sha256) != blob.size_bytes:
            raise RefusedError("no archive of these bytes was sent by this build")

    async def _store_held(self, deployment: Deployment, entry: int, blob: Blob) -> bool:
        """Hold it, make it a blob, then let it be found."""
        holder = holder_of(entry, deployment.project)
        coming = await self._holdings.hold(holder, [blob], BlobKind.CACHE)
        if coming:
            await self._store.adopt(deployment.id, _apart(deployment), coming)
        async with self._db.transaction() as tx:
            await blobs.stored(tx, coming)
            if not await caches.complete(tx, entry):
                await blobs.release(tx, holder)
                return False
            await caches.delete(tx, await caches.outdone(tx, entry, MOST_OF_KIND))
            await self._shrink(tx, deployment.project, entry)
        return True

    async def _shrink(self, tx: Transaction, project: ProjectId, newest: int) -> None:
        """Keep to what a project may keep. A preview's archives go before production's, which it must not touch."""
        kept = await caches.of_project(tx, project)  # the last used one first
        kept.sort(key=lambda entry: (entry.id != newest, entry.scope != PRODUCTION))
        if kept and kept[0].scope != PRODUCTION:
            kept.sort(key=lambda entry: entry.scope != PRODUCTION)
        total, over = 0, []
        for entry in kept:
            total += entry.blob.size_bytes
            if total > self._project_bytes:
                total -= entry.blob.size_bytes
                over.append(entry.id)
        await caches.delete(tx, over)

    async def _url_of(self, sha256: Digest) -> SignedRequest | None:
        if not isinstance(self._store, Direct):
            return None
        try:
            return await self._store.download_url(sha256)
        except ScaleMeshError:  # the daemon itself may have it nearer
            return None

    async def _chunks(self, project: ProjectId, sha256: Digest) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(self._far().read(sha256)) as found:
                async for chunk in found:
                    yield chunk
        except NotFoundError:
            await self._holdings.lost([sha256])
            async with self._db.transaction() as tx:
                await caches.delete(tx, await self._rows.with_blob(project, sha256))
            raise

    def _count(self, deployment: Deployment, blob: Blob) -> None:
        """Let the attempt send *blob*, if that is not too much."""
        if blob.size_bytes > self.archive_bytes:
            raise TooLargeError(f"one archive has at most {self.archive_bytes >> 20} MiB", fix="raise builds.cache_mib")
        sent = self._sent.get(deployment.id)
        if sent is None or sent.attempt != deployment.attempt:
            sent = self._sent[deployment.id] = _Sent(deployment.attempt)
        self._sent.move_to_end(deployment.id)
        while len(self._sent) > MOST_ATTEMPTS:
            self._sent.popitem(last=False)
        if blob.sha256 not in sent.digests and len(sent.digests) >= MOST_SENT:
            raise RefusedError(f"a build keeps at most {MOST_SENT} archives")
        sent.digests.add(blob.sha256)


def _apart(deployment: Deployment) -> int:
    return STAGED_APART + deployment.attempt


def _amount(entries: list[tuple[int, Blob]]) -> Amount:
    return Amount(len(entries), sum(blob.size_bytes for _, blob in entries))


def _check(key: str) -> None:
    if not KEY.fullmatch(key):
        raise InvalidError(f"{key[:80]!r} is no key: 8 to 128 letters, digits, '.', '_' or '-'")
