"""Uploads of a deployment, from a builder or a person: what is missing, and taking it, within the limits."""

import asyncio
from collections.abc import AsyncIterable, Collection, Mapping, Sequence

from builder.protocol import MOST_RULE_FILES
from scalemesh.db.database import Database
from scalemesh.db.deployments import DeploymentRows
from scalemesh.errors import GoneError, NotFoundError, RefusedError
from scalemesh.ports import Direct, Staging
from scalemesh.services import holdings
from scalemesh.services.holdings import Holdings
from scalemesh.services.listings import OutputFile, distinct
from scalemesh.values import Blob, Deployment, DeploymentId, Digest, Limits, SignedRequest


class Receiving:
    """A project's own blobs need no second upload; another project's are as unknown as any."""

    def __init__(self, database: Database, staging: Staging, holdings: Holdings, limits: Limits) -> None:
        """*staging*: a store that is Direct too gives builders URLs, and they send past the daemon."""
        self._rows, self._holdings = DeploymentRows(database), holdings
        self._staging, self._limits = staging, limits
        self._direct = staging if isinstance(staging, Direct) else None
        self._taken: dict[DeploymentId, _Taken] = {}  # of those that send now

    async def missing(self, deployment: Deployment, blobs: Sequence[Blob]) -> list[Digest]:
        """Those of *blobs* that must be uploaded under this attempt; the others are kept for it from now on.

        Raises:
            RefusedError: one alone is over the limit of an output.
        """
        for blob in blobs:
            self._check_size(blob.size_bytes)
        taken = await self._of(deployment)
        asked = dict.fromkeys(blob.sha256 for blob in blobs if blob.sha256 not in taken.here)
        owned = await self._holdings.pin(holdings.of_deployment(deployment), asked)
        return [digest for digest in asked if digest not in owned]

    async def targets(self, deployment: Deployment, blobs: Sequence[Blob]) -> Mapping[Digest, SignedRequest | None]:
        """Those of *blobs* that must be uploaded, and where each is to be sent; None: to ``receive``.

        What is sent elsewhere passes nobody who could count it, so it is counted here, each digest once.

        Raises:
            RefusedError: over the limits of an output.
        """
        missing = await self.missing(deployment, blobs)
        if self._direct is None:
            return dict.fromkeys(missing)
        by_digest, taken = {blob.sha256: blob for blob in blobs}, await self._of(deployment)
        wanted = [by_digest[digest] for digest in missing]
        for blob in wanted:
            self._count(taken, blob)
        urls = await self._direct.upload_urls(deployment.id, deployment.attempt, wanted)
        return dict(zip(missing, urls, strict=True))

    async def receive(self, deployment: Deployment, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        """Take one upload. Repeatable.

        Raises:
            RefusedError: wrong bytes, or over the limits of an output.
            GoneError: the deployment came to its end meanwhile.
        """
        taken = await self._of(deployment)
        self._count(taken, blob)  # before it comes: parallel uploads share the limit
        taken.here.add(blob.sha256)
        try:
            await self._staging.receive(deployment.id, deployment.attempt, blob, chunks)
        except BaseException:
            taken.here.discard(blob.sha256)  # it stays counted: whoever fails gets no more room by it
            raise
        if self._taken.get(deployment.id) is not taken and await self._is_over(deployment):
            await self.drop(deployment)  # it came after all others were dropped
            raise GoneError(f"{deployment.id} came to its end while the file was sent")

    async def own(self, deployment: Deployment, files: Sequence[OutputFile]) -> Collection[Blob]:
        """The distinct blobs of *files*, if this deployment may name them all.

        Raises:
            RefusedError: one was neither uploaded under this attempt nor published by this project before, or has
                another size.
        """
        owned = await asyncio.to_thread(distinct, files)
        received = await self._staging.received(deployment.id, deployment.attempt)
        rest = await asyncio.to_thread(lambda: [blob.sha256 for blob in owned if blob.sha256 not in received])
        pinned = await self._holdings.pin(holdings.of_deployment(deployment), rest)
        await asyncio.to_thread(_check_known, files, {**received, **pinned})
        return owned

    def in_flight_bytes(self) -> int:
        """What those that send now have sent, or are about to."""
        return sum(taken.total_bytes for taken in self._taken.values())

    async def drop(self, deployment: Deployment) -> None:
        """Forget what all attempts uploaded. Repeatable."""
        self._forget(deployment)
        await self._staging.clear(deployment.id)

    def _forget(self, deployment: Deployment) -> None:
        self._taken.pop(deployment.id, None)

    async def _of(self, deployment: Deployment) -> "_Taken":
        known = self._taken.get(deployment.id)
        if known is None or known.attempt != deployment.attempt:
            found = await self._staging.received(deployment.id, deployment.attempt)
            known = self._taken.get(deployment.id)
            if known is None or known.attempt < deployment.attempt:  # nobody was quicker
                known = self._taken[deployment.id] = _Taken(deployment.attempt, found)
        return known

    async def _is_over(self, deployment: Deployment) -> bool:
        try:
            return (await self._rows.get(deployment.id)).is_final
        except NotFoundError:
            return True

    def _count(self, taken: "_Taken", blob: Blob) -> None:
        """Let the attempt send *blob*; asked with two sizes, the larger one counts."""
        self._check_size(taken.total_bytes + blob.size_bytes - taken.sizes.get(blob.sha256, 0))
        if blob.sha256 not in taken.sizes and len(taken.sizes) >= self._limits.output_files + MOST_RULE_FILES:
            raise RefusedError(f"an output has at most {self._limits.output_files} files")
        taken.add(blob)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._limits.output_bytes:
            raise RefusedError(
                f"an output has at most {self._limits.output_bytes >> 20} MiB", fix="raise builds.output_mib"
            )


def _check_known(files: Sequence[OutputFile], known: Mapping[Digest, int]) -> None:
    for file in files:  # not of the distinct ones alone: two files may name one digest with two sizes
        if known.get(file.sha256) != file.size_bytes:
            raise RefusedError(
                f"the deployment names a file that it does not have: {file.sha256[:12]}…",
                why="it was not uploaded under this attempt, and the project never published it",
            )


class _Taken:
    """What an attempt has uploaded, or may: ``sizes`` counts, ``here`` needs no second upload."""

    def __init__(self, attempt: int, sizes: Mapping[Digest, int]) -> None:
        self.attempt, self.sizes, self.here = attempt, dict(sizes), set(sizes)
        self.total_bytes = sum(sizes.values())

    def add(self, blob: Blob) -> None:
        known = self.sizes.get(blob.sha256, 0)
        self.sizes[blob.sha256] = max(known, blob.size_bytes)
        self.total_bytes += max(0, blob.size_bytes - known)
