"""Who needs which blobs. Whoever puts one into the store holds it first, so that nothing is collected on its way.

The order of writing: held (a transaction) -> in the store, durably -> noted as stored (the transaction that names it,
or one of its own). A blob that is being removed just now may be held again once it is gone.
"""

import asyncio
import hashlib
from collections.abc import Collection
from typing import Final

from scalemesh.db import blobs
from scalemesh.db.blobs import BlobKind, Holder
from scalemesh.db.database import Database
from scalemesh.errors import UnreachableError
from scalemesh.faults import fault
from scalemesh.ports import BlobStore
from scalemesh.services.listings import put_bytes
from scalemesh.values import Blob, Deployment, Digest, ProjectId

WAIT_S: Final = 10.0


class Holdings:
    def __init__(self, database: Database, store: BlobStore) -> None:
        self._db, self._store = database, store
        self._removed = asyncio.Event()

    async def hold(self, holder: Holder, wanted: Collection[Blob], kind: BlobKind = BlobKind.FILE) -> set[Digest]:
        """Let *holder* hold *wanted* too; return those that are not in the store yet. Repeatable.

        Raises:
            NotFoundError: its deployment or project is deleted.
            UnreachableError: one is being removed, and the store does not come to it.
        """
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    removed = self._removed
                    async with self._db.transaction() as tx:
                        coming = await blobs.hold(tx, holder, wanted, kind)
                    if coming is not None:
                        fault("hold.after_commit")
                        return coming
                    await removed.wait()
        except TimeoutError as cause:
            raise UnreachableError("files of the same bytes are being removed from the store") from cause

    async def stored(self, digests: Collection[Digest]) -> None:
        """Note that they are in the store, durably. Repeatable."""
        if not digests:
            return
        async with self._db.transaction() as tx:
            await blobs.stored(tx, digests)

    async def lost(self, digests: Collection[Digest]) -> None:
        """Note that the store has not got them, or not intact: the next that have those bytes bring them again."""
        async with self._db.transaction() as tx:
            await blobs.lost(tx, digests)

    async def put(self, holder: Holder, *contents: bytes, kind: BlobKind = BlobKind.LIST) -> list[Blob]:
        """Store *contents*, held by *holder*; as ``hold``."""
        kept = [blob_of(data) for data in contents]
        coming = await self.hold(holder, kept, kind)
        for blob, data in zip(kept, contents, strict=True):
            if blob.sha256 in coming:
                await put_bytes(self._store, data)
        await self.stored(coming)
        return kept

    async def pin(self, holder: Holder, digests: Collection[Digest]) -> dict[Digest, int]:
        """Those of *digests* that the holder's project owns, with their sizes in bytes; *holder* holds them now.

        Raises:
            NotFoundError: its deployment or project is deleted.
        """
        if not digests:
            return {}
        async with self._db.transaction() as tx:
            return await blobs.pin(tx, holder, digests)

    def removed(self) -> None:
        """Some that were being removed are gone: who waits to hold them tries again."""
        self._removed.set()
        self._removed = asyncio.Event()


def of_deployment(deployment: Deployment) -> Holder:
    """Holds its files, their variants and the tables of both; its source, until it has been built."""
    return Holder(deployment.id, deployment.project, deployment.id)


def of_window(project: ProjectId) -> Holder:
    """Holds the files of former deployments that still answer."""
    return Holder(f"window:{project}", project)


def blob_of(data: bytes) -> Blob:
    return Blob(sha256=Digest(hashlib.sha256(data).hexdigest()), size_bytes=len(data))
