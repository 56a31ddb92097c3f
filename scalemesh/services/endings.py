"""How a deployment ends without being ready: one transaction, then its routes, then what it left behind."""

import logging
from collections.abc import Callable
from datetime import datetime

from scalemesh.db import blobs, deployments
from scalemesh.db.deployments import DeploymentRows
from scalemesh.errors import ConflictError, NotFoundError, UnreachableError
from scalemesh.faults import fault
from scalemesh.services.holdings import of_deployment
from scalemesh.services.ledger import Ledger
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.services.receiving import Receiving
from scalemesh.values import Deployment, Reason, State

log = logging.getLogger(__name__)


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
            await self._receiving.drop(deployment)
        except UnreachableError as error:
            log.warning("uploads are dropped later", extra={"deployment": deployment.id, "error": str(error)})

    async def clean_rest(self) -> None:
        """At the start: do what a daemon that died had still to do. A job of theirs that still runs is fenced off."""
        for deployment in await self._rows.unclean():
            await self.clean(deployment, _last_words(deployment))


def _last_words(deployment: Deployment) -> str:
    if deployment.state is State.FAILED:
        return f"Failed ({deployment.reason}): {deployment.message}"
    return deployment.message or str(deployment.state).capitalize()
