"""Deployments whose files come from a person: a folder to build like a commit, or a finished site."""

import asyncio
from collections.abc import AsyncIterable, Callable, Sequence

from scalemesh.db import deployments
from scalemesh.db.database import Database
from scalemesh.db.deployments import DeploymentRows
from scalemesh.errors import ConflictError, GoneError
from scalemesh.services.listings import OutputFile
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.services.publisher import Publisher, Stored, check_files
from scalemesh.values import Blob, Deployment, Digest, Limits, SourceKind, State

PREBUILT = "static"  #: the framework of a site that came finished


class Uploads:
    """The same three calls that a builder makes: missing, receive, finish.

    A person's files come through the daemon even where builders send past it: a store is often reached from where
    builds run and not from a laptop, by an address and an authority that only the config knows.
    """

    def __init__(
        self,
        database: Database,
        stored: Stored,
        logs: LogPipeline,
        publisher: Publisher,
        *,
        limits: Limits,
        wake: Callable[[], None],
    ) -> None:
        self._db, self._rows = database, DeploymentRows(database)
        self._stored, self._receiving = stored, stored.receiving
        self._logs, self._publisher, self._limits, self._wake = logs, publisher, limits, wake

    async def missing(self, deployment: Deployment, blobs: Sequence[Blob]) -> list[Digest]:
        """Those of *blobs* that must be uploaded.

        Raises:
            ConflictError: the deployment does not wait for files.
            RefusedError: over the limits of an output.
        """
        _check_waits(deployment)
        return await self._receiving.missing(deployment, blobs)

    async def receive(self, deployment: Deployment, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        """Take one file. Repeatable.

        Raises:
            ConflictError: the deployment does not wait for files.
            RefusedError: wrong bytes, or over the limits of an output.
        """
        _check_waits(deployment)
        await self._receiving.receive(deployment, blob, chunks)

    async def finish(self, deployment: Deployment, files: Sequence[OutputFile]) -> State:
        """All is there: publish a finished site, queue a source. A repeat answers the state that it has come to.

        Raises:
            ConflictError: a deployment that waits for no files.
            RefusedError: a path or a digest that it may not name.
        """
        if deployment.source is SourceKind.GIT:
            raise ConflictError(f"{deployment.id} comes from Git")
        if deployment.source_ready or deployment.state is not State.QUEUED:
            return deployment.state
        if deployment.source is SourceKind.PREBUILT:
            return await self._publisher.accept(deployment, files, PREBUILT)
        await asyncio.to_thread(check_files, files, self._limits)
        await self._stored.take(deployment, await self._receiving.own(deployment, files))
        listing = await self._stored.list(deployment, files)
        try:
            async with self._db.transaction() as tx:
                await deployments.source_ready(tx, deployment.id, listing)
        except GoneError:
            found = await self._rows.get(deployment.id)
            if found.source_listing != listing:
                raise
            return found.state  # the same call came twice at once, and the other was quicker
        await self._receiving.drop(deployment)
        await self._logs.write(deployment.id, "queue", f"Queued: {len(files)} files uploaded")
        self._wake()
        return State.QUEUED


def _check_waits(deployment: Deployment) -> None:
    if deployment.source is SourceKind.GIT or deployment.source_ready or deployment.state is not State.QUEUED:
        raise ConflictError(f"{deployment.id} does not wait for files", why=f"it is {deployment.state}")
