"""How a deployment ends without being ready: one transaction, then its routes, then what it left behind."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from scalemesh.db import blobs, deployments
from scalemesh.db.deployments import DeploymentRows
from scalemesh.errors import ConflictError, NotFoundError, ScaleMeshError
from scalemesh.faults import fault
from scalemesh.services.holdings import of_deployment
from scalemesh.services.ledger import Ledger
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.services.receiving import Receiving
from scalemesh.values import Deployment, Reason, State

log = logging.getLogger(__name__)
DROP_S: Final = 2.0  #: a store that takes longer to forget uploads holds nobody up: the janitor does it then


class Endings:
    def __init__(self, ledger: Ledger, receiving: Receiving, logs: LogPipeline, *, now: Callable[[], datetime]) -> None:
        self._ledger, self._receiving, self._logs, self._now = ledger, receiving, logs, now
        self._rows = DeploymentRows(ledger.database)

    async def fail(self, deployment: Deployment, reason: Reason, message: str) -> bool:
        """Move *deployment* to failed, if it is still in that state and attempt; True if it was."""
        try:
            async with self._ledger.change(deployment.project) as tx:
                found = await deployments.get(tx, deployment.id)
                if (found.state, found.attempt) != (deployment.state, deployment.attempt):
                    return False
                await deployments.move(tx, found, State.FAILED, now=self._now(), reason=reason, message=message)
        except (ConflictError, NotFoundError):
            return False
        fault("end.after_commit")
        await self.clean(deployment, f"Failed ({reason}): {message}")
        return True

    async def cancel(self, deployment: Deployment, message: str) -> Deployment:
        """Move it to canceled, from wherever it is; return it as it was just before.

        What it left behind is still there: the caller ends its job first, then calls ``clean``.

        Raises:
            ConflictError: it has come to another end already.
        """
        async with self._ledger.change(deployment.project) as tx:
            found = await deployments.get(tx, deployment.id)
            if found.state is not State.CANCELED:
                await deployments.move(tx, found, State.CANCELED, now=self._now(), message=message)
        fault("cancel.after_commit")
        return found

    async def clean(self, deployment: Deployment, last_words: str) -> None:
        """Drop its uploads, say the last words, close its log. Repeatable."""
        await self._drop(deployment)
        await self._logs.write(deployment.id, "end", last_words, once=1)
        async with self._ledger.database.transaction() as tx:
            await deployments.cleaned(tx, deployment.id)
            if (await deployments.get(tx, deployment.id)).state is not State.READY:
                await blobs.release(tx, of_deployment(deployment))
        await self._logs.close(deployment.id)  # last: who begins to follow now asks the row, who followed is told

    async def _drop(self, deployment: Deployment) -> None:
        """Drop its uploads. A store that is away holds no deployment's end up: the janitor removes what is left."""
        try:
            async with asyncio.timeout(DROP_S):
                await self._receiving.drop(deployment)
        except (ScaleMeshError, TimeoutError) as error:
            log.warning("uploads are dropped later", extra={"deployment": deployment.id, "error": str(error)})

    async def clean_rest(self, ended_before: datetime) -> None:
        """Clean up after those that ended before that and still need it: a daemon died, or a disk was full.

        A job of theirs that still runs is fenced off. One whose turn fails holds up no other; it is tried again.

        Raises:
            UnreachableError: the database cannot tell which they are.
        """
        for deployment in await self._rows.unclean(ended_before):
            try:
                await self.clean(deployment, _last_words(deployment))
            except NotFoundError:  # deleted meanwhile
                pass
            except ScaleMeshError as error:
                log.warning("not cleaned up yet", extra={"deployment": deployment.id, "error": str(error)})
            except Exception:
                log.exception("a bug: a deployment cannot be cleaned up", extra={"deployment": deployment.id})


def _last_words(deployment: Deployment) -> str:
    if deployment.state is State.FAILED:
        return f"Failed ({deployment.reason}): {deployment.message}"
    return deployment.message or str(deployment.state).capitalize()
