"""Makes the variants of a deployment's files once it is ready; visits get the plain bytes until then.

The database is the queue: a ready deployment without encodings waits for them, also after a crash at any point. The
order of writing is that of publishing: variants durable, their table durable, one transaction, memory.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from scalemesh.db import encodings as rows
from scalemesh.db.blobs import BlobKind, Holder
from scalemesh.db.encodings import EncodingRows
from scalemesh.errors import InvalidError, NotFoundError, UnreachableError
from scalemesh.faults import fault
from scalemesh.ports import BlobStore
from scalemesh.services import encodings, manifests
from scalemesh.services.compressor import Compressor, open_compressor
from scalemesh.services.encodings import Encodings, is_compressible
from scalemesh.services.holdings import Holdings, of_deployment
from scalemesh.services.ledger import Ledger
from scalemesh.services.listings import whole
from scalemesh.values import Blob, Deployment, DeploymentId, Digest, Manifest

log = logging.getLogger(__name__)
RETRY_S: Final = (1.0, 5.0, 30.0, 60.0)
GIVES_UP_AFTER: Final = 3  #: deployments that the store does not give: then it is the store
LOOKED_AT: Final = 5  #: tables of earlier deployments that are searched for variants made before

Variants = dict[Digest, Mapping[str, Blob]]


class Encoder:
    def __init__(self, ledger: Ledger, store: BlobStore, holdings: Holdings, *, most_bytes: int) -> None:
        """Files over *most_bytes* stay as they are; 0: all do."""
        self._ledger, self._store, self._holdings, self._most_bytes = ledger, store, holdings, most_bytes
        self._rows = EncodingRows(ledger.database)
        self._woken = asyncio.Event()
        self._passed_over: set[DeploymentId] = set()  # what cannot be read; tried again by the next daemon

    def wake(self) -> None:
        """A deployment has become ready."""
        self._woken.set()

    async def serve(self) -> None:
        """Encode what is ready and what becomes so, until cancelled. No process is held while nothing waits."""
        tries = 0
        while True:
            self._woken.clear()
            try:
                await self.encode_waiting()
            except UnreachableError as error:
                log.warning("cannot encode yet", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1
                continue
            tries = 0
            await self._woken.wait()

    async def encode_waiting(self) -> None:
        """Encode until no deployment waits. One that the store does not give holds up no other.

        Raises:
            UnreachableError: the store or the database does not answer; what waits goes on waiting.
        """
        later: dict[DeploymentId, UnreachableError] = {}
        async with open_compressor() as compressor:
            while waiting := await self._rows.next_unencoded(self._passed_over | later.keys()):
                try:
                    await self._encode(waiting, compressor)
                except UnreachableError as error:
                    later[waiting.id] = error
                    if len(later) == GIVES_UP_AFTER:
                        break
                except NotFoundError as error:  # deleted meanwhile, or damaged
                    log.warning("cannot encode", extra={"deployment": waiting.id, "error": str(error)})
                    self._passed_over.add(waiting.id)
                except Exception:
                    log.exception("cannot encode", extra={"deployment": waiting.id})
                    self._passed_over.add(waiting.id)
        if later:
            raise next(iter(later.values()))

    async def _encode(self, deployment: Deployment, compressor: Compressor) -> None:
        if deployment.manifest is None:
            raise NotFoundError(f"{deployment.id} has no manifest")
        wanted = self._wanted(await asyncio.to_thread(manifests.decode, await whole(self._store, deployment.manifest)))
        holder = of_deployment(deployment)
        made = await self._made_before(holder, wanted)
        for sha256 in wanted - made.keys():
            variants = await compressor.variants(await whole(self._store, sha256))
            if variants is not None:
                kept = await self._holdings.put(holder, *variants.values(), kind=BlobKind.VARIANT)
                made[sha256] = dict(zip(variants, kept, strict=True))
        (table,) = await self._holdings.put(holder, encodings.encode(Encodings(made)))
        fault("encode.after_blobs")
        async with self._ledger.change(deployment.project) as tx:
            await rows.put(tx, deployment.id, table.sha256)
        fault("encode.after_commit")

    def _wanted(self, manifest: Manifest) -> set[Digest]:
        entries = manifest.entries.values()
        return {entry.sha256 for entry in entries if entry.size_bytes <= self._most_bytes and is_compressible(entry)}

    async def _made_before(self, holder: Holder, wanted: set[Digest]) -> Variants:
        """What the project's newest tables know of *wanted*, as far as the store still has it; *holder* holds it."""
        found: Variants = {}
        for table in await self._rows.known(holder.project, LOOKED_AT):
            try:
                known = await asyncio.to_thread(encodings.decode, await whole(self._store, table))
            except (NotFoundError, InvalidError) as error:
                log.warning("a table is lost", extra={"blob": table, "error": str(error)})
                continue
            for sha256 in wanted & known.by_digest.keys() - found.keys():
                found[sha256] = known.by_digest[sha256]
        gone = await self._holdings.hold(holder, [blob for each in found.values() for blob in each.values()])
        return {
            sha256: variants
            for sha256, variants in found.items()
            if gone.isdisjoint(blob.sha256 for blob in variants.values())
        }
