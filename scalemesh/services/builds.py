"""What the builder may ask of the daemon, fenced by its attempt. It is believed in nothing but bytes."""

import asyncio
import json
import logging
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final, NoReturn

from builder.cleaning import clean
from builder.masking import Masker
from builder.packing import fingerprint
from scalemesh.config import Builds, Git
from scalemesh.db import deployments, projects
from scalemesh.db.database import Database
from scalemesh.db.deployments import DeploymentRows
from scalemesh.errors import ConflictError, GoneError, NotFoundError, RefusedError
from scalemesh.faults import fault
from scalemesh.services.build_environment import operator_env, read_bundle
from scalemesh.services.caches import Caches
from scalemesh.services.listings import OutputFile
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.services.projects import Projects
from scalemesh.services.publisher import Publisher, Stored
from scalemesh.services.sources import check_branch, check_commit
from scalemesh.services.vault import BuildTokens
from scalemesh.values import (
    Blob,
    BuildSettings,
    Deployment,
    DeploymentId,
    Digest,
    Reason,
    Secret,
    SignedRequest,
    SourceKind,
    State,
)

log = logging.getLogger(__name__)
MAX_FACT = 10_000
SGR: Final = re.compile(r"\x1b\[[0-9;:]*m")
MAX_NONCE = 200
MOST_CLAIMS = 1000  #: whose secrets are remembered for masking; of others they are read again


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a token is good for, and the nonce that came with it: the claim's own, or the token is a spent ticket."""

    deployment: DeploymentId
    attempt: int
    nonce: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What Git says of the source, read before any user code ran."""

    commit: str
    branch: str | None = None
    default_branch: str | None = None
    message: str = ""
    author: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    files: Sequence[OutputFile]
    framework: str
    output_directory: str
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    reason: Reason
    message: str


class BuildCalls:
    def __init__(
        self,
        database: Database,
        stored: Stored,
        logs: LogPipeline,
        publisher: Publisher,
        listed: Projects,
        tokens: BuildTokens,
        caches: Caches,
        *,
        builds: Builds,
        git: Git,
        site_url: Callable[[Deployment], str],
        now: Callable[[], datetime],
    ) -> None:
        self._db, self._rows = database, DeploymentRows(database)
        self._store, self._receiving, self._listings = stored.store, stored.receiving, stored.listings
        self._logs, self._publisher, self._projects, self._tokens, self._caches = (
            logs,
            publisher,
            listed,
            tokens,
            caches,
        )
        self._builds, self._git, self._site_url, self._now = builds, git, site_url, now
        self._builder = fingerprint()
        self._secrets: OrderedDict[DeploymentId, list[Secret]] = OrderedDict()  # of claims; after a restart, read again
        self._steps: OrderedDict[DeploymentId, str] = OrderedDict()

    def who(self, token: str, nonce: str) -> Attempt:
        """Whose token it is; whether *nonce* is the claim's own is seen when something is done in its name.

        Raises:
            UnauthorizedError: nobody's.
        """
        return Attempt(*self._tokens.read(token), nonce)

    async def deployment(self, attempt: Attempt) -> Deployment:
        """The deployment that *attempt* builds.

        Raises:
            ConflictError: another builder has it.
            GoneError: the attempt is over.
        """
        return await self._current(attempt)

    async def claim(self, attempt: Attempt, nonce: str, builder: str | None = None) -> dict[str, object]:
        """Give the attempt to the builder with *nonce* and say what is to be done (``Claim`` in builder.protocol).

        *builder* is the fingerprint of the one that asks: an image may hold another than the daemon's own.

        Raises:
            ConflictError: another builder has it.
            GoneError: it is over.
            RefusedError: it is another builder than this daemon's, or ``builds.ca_bundle`` cannot be read; the
                deployment fails with it.
        """
        if not 0 < len(nonce) <= MAX_NONCE:
            raise RefusedError("the nonce is empty or too long")
        async with self._db.transaction() as tx:
            deployment = await deployments.claim(
                tx, attempt.deployment, attempt.attempt, nonce=nonce, lease_until=self._lease()
            )
        fault("claim.after_commit")
        if builder is not None and builder != self._builder:
            await self._refuse(
                attempt,
                f"The image holds builder {_plain(builder[:40])}, this daemon needs {self._builder}",
                fix="make the image anew (scalemesh builder image build) and bring it to where builds run",
            )
        bundle = await self._bundle(attempt)
        log.info("build claimed", extra={"deployment": deployment.id, "attempt": deployment.attempt})
        variables = await self._projects.environment(deployment.project, deployment.environment)
        self._remember(deployment.id, variables.values())
        limits = asdict(self._builds.limits())
        for held_by_executor in ("cpu_weight", "memory_bytes"):
            limits.pop(held_by_executor)
        return {
            "deployment": deployment.id,
            "attempt": deployment.attempt,
            "source": await self._source_of(deployment),
            "settings": _for_builder(deployment.settings),
            "env": variables,
            "operator_env": operator_env(self._builds),
            "public_env": self._public_env(deployment),
            "limits": limits,
            "cache": self._caches.rules(deployment),
            "ca_bundle": bundle,
        }

    async def lines(self, attempt: Attempt, seq: int, lines: Sequence[Sequence[object]]) -> int:
        """Keep a block of lines; return the seq that is expected next.

        Raises:
            GoneError: the attempt is over.
        """
        deployment = await self._current(attempt)
        secrets = await self._secrets_of(deployment)
        log_bytes = self._builds.limits().log_bytes
        taken = await self._logs.take(deployment.id, attempt.attempt, seq, lines, secrets=secrets, log_bytes=log_bytes)
        self._note_step(deployment.id, lines)
        return taken

    def step_of(self, deployment: DeploymentId) -> str:
        """The step that the newest lines of a running build were of."""
        return self._steps.get(deployment, "fetch")

    async def heartbeat(self, attempt: Attempt, facts: Facts | None) -> None:
        """Renew the lease, note what Git says.

        Raises:
            ConflictError: another builder has it.
            GoneError: the attempt is over.
        """
        async with self._db.transaction() as tx:
            await deployments.renew(tx, attempt.deployment, attempt.attempt, self._lease())
            _refuse_other(await deployments.get(tx, attempt.deployment), attempt)
            if facts is not None:
                known = _checked(facts)
                await deployments.facts(tx, attempt.deployment, attempt.attempt, known)
                if facts.default_branch:
                    project = (await deployments.get(tx, attempt.deployment)).project
                    await projects.learn_branch(tx, project, check_branch(facts.default_branch))

    async def missing(self, attempt: Attempt, blobs: Sequence[Blob]) -> Mapping[Digest, SignedRequest | None]:
        """Which of *blobs* must be uploaded, and where to: all but the project's own and this attempt's uploads.

        None: to ``receive``, which takes the others just as well.

        Raises:
            GoneError: the attempt is over.
            RefusedError: over the limits of an output.
        """
        return await self._receiving.targets(await self._current(attempt), blobs)

    async def receive(self, attempt: Attempt, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        """Take one upload.

        Raises:
            GoneError: the attempt is over.
            RefusedError: wrong bytes, or over the limits of an output.
        """
        await self._receiving.receive(await self._current(attempt), blob, chunks)

    async def source(self, attempt: Attempt, sha256: Digest) -> AsyncGenerator[bytes]:
        """One file of this deployment's uploaded source, and of no other.

        Raises:
            GoneError: the attempt is over.
            NotFoundError: it is not in the source.
        """
        deployment = await self._current(attempt)
        if deployment.source_listing is None or not await self._listings.holds(deployment.source_listing, sha256):
            raise NotFoundError("no such file in this deployment's source")
        return self._store.read(sha256)

    async def expect(self, attempt: Attempt) -> Deployment:
        """The deployment of *attempt*, if that is under way or has given a listing: then it has finished.

        Raises:
            ConflictError: another builder has it.
            GoneError: it is over without a listing.
        """
        found = await self._rows.get(attempt.deployment)
        if found.attempt == attempt.attempt and found.listing is not None:
            _refuse_other(found, attempt)
            return found
        return await self._current(attempt)

    async def finish(self, attempt: Attempt, result: Success | Failure) -> State:
        """Take the build's result. A repeat of the attempt that was taken answers the same.

        Raises:
            GoneError: the attempt is over.
            RefusedError: it names bytes that are not its own; the deployment fails with it.
        """
        deployment = await self.expect(attempt)
        if deployment.listing is not None:
            return deployment.state
        if isinstance(result, Failure):
            message = Masker(await self._secrets_of(deployment)).mask(_plain(result.message))
            reported = json.dumps({"reason": result.reason, "message": message})
            async with self._db.transaction() as tx:
                await deployments.report(tx, deployment.id, attempt.attempt, reported)
            return State.BUILDING
        return await self._publisher.accept(deployment, result.files, result.framework)

    async def _current(self, attempt: Attempt) -> Deployment:
        try:
            found = await self._rows.get(attempt.deployment)
        except NotFoundError as error:
            raise GoneError(f"{attempt.deployment} was deleted") from error
        if found.attempt != attempt.attempt or found.state is not State.BUILDING:
            self._secrets.pop(found.id, None)
            self._steps.pop(found.id, None)
            raise GoneError(f"attempt {attempt.attempt} of {found.id} is over", why=f"it is {found.state}")
        _refuse_other(found, attempt)
        return found

    async def _bundle(self, attempt: Attempt) -> str | None:
        """Read anew each time: certificates change more often than daemons restart."""
        try:
            return await asyncio.to_thread(read_bundle, self._builds.ca_bundle)
        except RefusedError as error:
            await self._refuse(attempt, ": ".join(filter(None, (error.what, error.why))), fix=error.fix)

    async def _refuse(self, attempt: Attempt, what: str, *, fix: str) -> NoReturn:
        """Let the deployment fail with it."""
        reported = json.dumps({"reason": Reason.REJECTED, "message": f"{what}; {fix}"})
        async with self._db.transaction() as tx:
            await deployments.report(tx, attempt.deployment, attempt.attempt, reported)
        raise RefusedError(what, fix=fix)

    async def _secrets_of(self, deployment: Deployment) -> list[Secret]:
        if deployment.id not in self._secrets:
            values = await self._projects.environment(deployment.project, deployment.environment)
            self._remember(deployment.id, values.values())
        return self._secrets[deployment.id]

    def _note_step(self, deployment: DeploymentId, lines: Sequence[Sequence[object]]) -> None:
        if lines:
            self._steps[deployment] = str(lines[-1][2])
        while len(self._steps) > MOST_CLAIMS:
            self._steps.popitem(last=False)

    def _remember(self, deployment: DeploymentId, secrets: Iterable[Secret]) -> None:
        """The very values that were handed out: one that is changed meanwhile is masked all the same."""
        self._secrets[deployment] = list(secrets)
        while len(self._secrets) > MOST_CLAIMS:
            self._secrets.popitem(last=False)

    async def _source_of(self, deployment: Deployment) -> dict[str, object]:
        if deployment.source is SourceKind.UPLOAD and deployment.source_listing is not None:
            files = await self._listings.read(deployment.source_listing)
            return {"kind": "upload", "files": [[f.path, f.sha256, f.size_bytes, f.is_executable] for f in files]}
        return {
            "kind": "git",
            "url": deployment.git_url,
            "branch": deployment.branch,
            "commit": deployment.commit_sha,
            "credentials": None,
            "allow": list(self._git.allow),
            "file_root": str(self._git.file_root) if self._git.file_root else None,
        }

    def _public_env(self, deployment: Deployment) -> dict[str, str]:
        url = self._site_url(deployment)
        return {
            "CI": "1",
            "SCALEMESH": "1",
            "SCALEMESH_ENV": deployment.environment,
            "SCALEMESH_DEPLOYMENT": deployment.id,
            "SCALEMESH_PROJECT": deployment.project_name,
            "SCALEMESH_SITE_URL": url,
            "VERCEL": "1",
            "VERCEL_ENV": deployment.environment,
            "VERCEL_URL": url.partition("://")[2].rstrip("/"),  # a host name, as builds elsewhere get it
        }

    def _lease(self) -> datetime:
        return self._now() + timedelta(seconds=self._builds.lease_s)


def _refuse_other(deployment: Deployment, attempt: Attempt) -> None:
    """Raise ConflictError where the attempt is in force and was claimed by another builder, or by none."""
    if deployment.attempt == attempt.attempt and deployment.nonce != attempt.nonce:
        raise ConflictError(f"another builder has attempt {attempt.attempt} of {deployment.id}")


def _for_builder(settings: BuildSettings) -> dict[str, str | None]:
    """What a build goes by. How rule files are read is decided when it is over."""
    found = asdict(settings)
    del found["dialect"]
    return found


def _checked(facts: Facts) -> dict[str, str | None]:
    return {
        "commit_sha": check_commit(facts.commit),
        "message": _plain(facts.message),
        "author": _plain(facts.author),
        "branch": check_branch(facts.branch) if facts.branch else None,
    }


def _plain(text: str) -> str:
    """*text* of a stranger, cut, and with nothing in it that a terminal would obey; its lines stay lines."""
    return "\n".join(SGR.sub("", clean(line)) for line in text[:MAX_FACT].split("\n"))
