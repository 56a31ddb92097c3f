"""Publish: what a build left becomes blobs, a manifest, and a deployment that is ready.

The order of writing: blobs durable, manifest durable, one transaction, memory. Each step may be repeated, so
what a crash cut off is done again at the next start.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from builder.protocol import MOST_RULE_FILES, RULES_FOLDER
from scalemesh.db import blobs, deployments, projects
from scalemesh.db.database import Transaction
from scalemesh.db.deployments import DeploymentRows
from scalemesh.errors import (
    ConflictError,
    DamagedError,
    GoneError,
    InvalidError,
    NotFoundError,
    RefusedError,
    ScaleMeshError,
    UnreachableError,
)
from scalemesh.faults import fault
from scalemesh.ports import Store
from scalemesh.services import manifests
from scalemesh.services.asset_windows import AssetWindows
from scalemesh.services.endings import Endings
from scalemesh.services.holdings import Holdings, of_deployment
from scalemesh.services.ledger import Ledger
from scalemesh.services.listings import Listings, OutputFile, distinct, encoded
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.services.receiving import Receiving
from scalemesh.services.releases import go_live
from scalemesh.services.rules.compiled import Compiled, summary
from scalemesh.services.rules.compiling import compile_rules
from scalemesh.services.rules.notes import RulesError, told
from scalemesh.services.rules.sources import read_sources
from scalemesh.values import Blob, Deployment, DeploymentId, Digest, Limits, Reason, State

log = logging.getLogger(__name__)
WAITING_WORDS: Final = 2  #: numbers of what is said once, also where publishing is tried again
RULE_WORDS: Final = 3
DAMAGED_TRIES: Final = 3  #: what the store has spoiled does not become well by waiting
RETRY_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Stored:
    """Where published things go."""

    store: Store
    holdings: Holdings
    listings: Listings
    receiving: Receiving

    async def take(self, deployment: Deployment, owned: Collection[Blob]) -> None:
        """Make blobs, held by the deployment, of what it has been found to own, as far as they are not. Repeatable."""
        coming = await self.holdings.hold(of_deployment(deployment), owned)
        await self.store.adopt(deployment.id, deployment.attempt, coming)
        await self.holdings.stored(coming)

    async def list(self, deployment: Deployment, files: Sequence[OutputFile]) -> Digest:
        """Keep the list of *files* for the deployment; the digest of its blob."""
        data = await asyncio.to_thread(encoded, files)
        (kept,) = await self.holdings.put(of_deployment(deployment), data)
        return kept.sha256


class Publisher:
    def __init__(
        self,
        ledger: Ledger,
        stored: Stored,
        endings: Endings,
        logs: LogPipeline,
        windows: AssetWindows,
        *,
        limits: Limits,
        base: str,
        site_url: Callable[[str], str],
        immutable: Callable[[str], Sequence[str]],
        is_ready: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        """*site_url* makes a link of a host name; *immutable* gives a framework's patterns of hash-named files.

        *is_ready* is called after each deployment that has become ready.
        """
        self._ledger, self._stored, self._endings, self._logs = ledger, stored, endings, logs
        self._rows, self._windows = DeploymentRows(ledger.database), windows
        self._limits, self._base, self._site_url = limits, base, site_url
        self._immutable, self._is_ready, self._now = immutable, is_ready, now
        self._accepted: asyncio.Queue[DeploymentId] = asyncio.Queue()

    async def accept(self, deployment: Deployment, files: Sequence[OutputFile], framework: str) -> State:
        """Take a result: from here on it is published, whatever happens to this process.

        Raises:
            GoneError: the attempt is over.
            RefusedError: a path or a digest that it may not name; the deployment has failed.
        """
        try:
            await asyncio.to_thread(check_files, files, self._limits)
            await self._stored.receiving.own(deployment, files)
        except RefusedError as error:
            await self._endings.fail(deployment, Reason.REJECTED, str(error))
            raise
        listing = await self._stored.list(deployment, files)
        fault("finish.after_listing")
        try:
            async with self._ledger.change(deployment.project) as tx:
                await deployments.finish(tx, deployment, listing, framework)
        except GoneError:
            found = await self._rows.get(deployment.id)
            if (found.attempt, found.listing) != (deployment.attempt, listing):
                await self._let_go(deployment.id)
                raise
            return found.state  # the same call came twice at once, and the other was quicker
        fault("finish.after_commit")
        self._accepted.put_nowait(deployment.id)
        return State.PUBLISHING

    async def serve(self) -> None:
        """Publish what was accepted, also by an earlier daemon, until cancelled."""
        for found in await self._rows.in_state(State.PUBLISHING):
            self._accepted.put_nowait(found.id)
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._publish_until_done(await self._accepted.get()))

    async def _publish_until_done(self, deployment: DeploymentId) -> None:
        """Publish; while store or database do not answer, wait and try again: a build is not lost to that."""
        damaged = 0
        for tries in range(1 << 30):
            try:
                with suppress(ConflictError, NotFoundError):  # canceled or deleted meanwhile
                    is_last = damaged + 1 >= DAMAGED_TRIES
                    await self._publish_or_fail(await self._rows.get(deployment), is_last=is_last)
                await self._let_go(deployment)
            except UnreachableError as error:
                damaged += isinstance(error, DamagedError)
                log.warning("cannot publish yet", extra={"deployment": deployment, "error": str(error)})
                await self._logs.write(deployment, "publish", f"Waiting: {error.what}", once=WAITING_WORDS)
                await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
                continue
            except Exception:
                log.exception("a bug: publishing failed", extra={"deployment": deployment})
            return

    async def _let_go(self, deployment: DeploymentId) -> None:
        """Hold nothing for one that came to another end meanwhile: we may have held it after that end let it go."""
        with suppress(NotFoundError):  # deleted, and what it held with it
            found = await self._rows.get(deployment)
            if found.is_final and found.state is not State.READY:
                async with self._ledger.database.transaction() as tx:
                    await blobs.release(tx, of_deployment(found))

    async def _publish_or_fail(self, deployment: Deployment, *, is_last: bool) -> None:
        """Publish; *is_last*: bytes that the store has spoiled have been waited for long enough."""
        try:
            await self._publish(deployment)
        except (UnreachableError, ConflictError) as error:
            if not (is_last and isinstance(error, DamagedError)):
                raise
            await self._endings.fail(deployment, Reason.INTERNAL, str(error))
        except NotFoundError as error:  # canceled or deleted meanwhile, which fails no more; or its bytes are gone
            await self._endings.fail(deployment, Reason.INTERNAL, str(error))
        except RulesError as error:  # the log has them all
            await self._endings.fail(deployment, Reason.REJECTED, error.in_short)
        except ScaleMeshError as error:
            await self._endings.fail(deployment, Reason.REJECTED, str(error))
        except Exception:
            await self._endings.fail(deployment, Reason.INTERNAL, "a bug in the daemon; see its log")
            raise

    async def _publish(self, deployment: Deployment) -> None:
        if deployment.state is not State.PUBLISHING or deployment.listing is None:
            return
        files = await self._stored.listings.read(deployment.listing)
        owned = await asyncio.to_thread(distinct, files)  # as was found out before the list was kept
        await self._stored.take(deployment, owned)
        fault("publish.after_blobs")
        immutable, rules = self._immutable(deployment.framework or ""), await self._rules(deployment, files)
        manifest = await asyncio.to_thread(_manifest, deployment, files, immutable, rules)
        (kept,) = await self._stored.holdings.put(of_deployment(deployment), manifest)
        fault("publish.after_manifest")

        async def publish(tx: Transaction) -> list[str]:
            project = await projects.get(tx, deployment.project)  # here: a person may pin it until the last moment
            needed = list(filter(None, [deployment.listing, kept.sha256, *(blob.sha256 for blob in owned)]))
            if lost := await blobs.not_stored(tx, needed):  # uploads still lie there: the next try brings them again
                raise UnreachableError(f"{len(lost)} of its files have been found damaged or missing in the store")
            await blobs.let_go_of_others(tx, of_deployment(deployment), needed)
            await deployments.ready(tx, deployment.id, kept.sha256, self._now())
            return await go_live(tx, deployment, project, self._base)

        moved = await self._windows.move(deployment.project, publish)
        fault("publish.after_commit")
        self._is_ready()
        await self._told_ready(deployment, moved)

    async def _rules(self, deployment: Deployment, files: Sequence[OutputFile]) -> Compiled:
        """The rules that the site brings; what is wrong with them is told in its log.

        Raises:
            RulesError: nothing can be published by them.
        """
        try:
            sources = await read_sources(self._stored.store, files)
            compiled = await asyncio.to_thread(compile_rules, sources, deployment.settings.dialect)
        except RulesError as error:
            await self._tell(deployment.id, told(error.notes))
            raise
        await self._tell(deployment.id, [*summary(compiled.rules), *told(compiled.notes)])
        return compiled

    async def _tell(self, deployment: DeploymentId, lines: Sequence[str]) -> None:
        if lines:
            await self._logs.write(deployment, "publish", "\n".join(lines), once=RULE_WORDS)

    async def _told_ready(self, deployment: Deployment, moved: Sequence[str]) -> None:
        for host in moved:
            await self._logs.write(deployment.id, "publish", f"Live: {self._site_url(host)}")
        await self._endings.clean(deployment, "Ready")


def _manifest(deployment: Deployment, files: Sequence[OutputFile], immutable: Sequence[str], rules: Compiled) -> bytes:
    """The bytes of the manifest. It blocks."""
    listed = ((file.path, file.sha256, file.size_bytes) for file in files)
    made = manifests.make_manifest(deployment.id, deployment.created_at, listed, immutable, rules)
    return manifests.encode(made.manifest)


def check_files(files: Sequence[OutputFile], limits: Limits) -> None:
    """Refuse a list that no honest build makes. It blocks: some microseconds for each of *files*.

    Raises:
        RefusedError: too many files, too many bytes, a path twice, or a path that is none.
    """
    rules = sum(file.path.startswith(f"{RULES_FOLDER}/") for file in files)
    if len(files) - rules > limits.output_files or sum(file.size_bytes for file in files) > limits.output_bytes:
        raise RefusedError(f"over {limits.output_files} files or {limits.output_bytes >> 20} MiB")
    if rules > MOST_RULE_FILES:
        raise RefusedError(f"over {MOST_RULE_FILES} rule files")
    seen: set[str] = set()
    for file in files:
        try:
            manifests.check_path(file.path)
        except InvalidError as error:
            raise RefusedError(error.what, why=error.why) from error
        if file.path in seen:
            raise RefusedError(f"{file.path[:100]!r} stands in the list twice")
        seen.add(file.path)
