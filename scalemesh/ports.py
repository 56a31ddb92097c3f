"""The plug points. Each docstring is the contract; one behaviour suite in tests/contracts tests every plug-in.

A plug-in is one class with ``Config`` (a frozen dataclass decoded from its TOML table) and ``open(config)``,
an async context manager that connects, yields the plug-in and cleans up, also after a failed start. Relative
paths in a table are resolved by the registry before ``open`` (fields typed ``pathlib.Path``).

An executor's ``open`` does not need the place where builds run to answer: the sites must come up while a cluster is
down. It reads its settings (ConfigError for what is wrong with them) and connects when it is first asked something.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from scalemesh.values import (
    Blob,
    BuildEnd,
    BuildJob,
    DeploymentId,
    Digest,
    JobRef,
    Kept,
    LogBlock,
    LogLine,
    SignedRequest,
)

T_co = TypeVar("T_co", covariant=True)


class Opens(Protocol[T_co]):
    """What the registry finds by entry point: a class that opens itself from its decoded Config."""

    Config: type

    def open(self, config: object) -> AbstractAsyncContextManager[T_co]:
        """Connect, yield the plug-in, clean up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a check looked at: proven, or not and how to mend it. Proven with a fix: it could be better.

    What is not proven stops the daemon's start where nothing else of its plug-in is proven either, unless it may pass:
    a service elsewhere that does not answer, or is too busy, comes back by itself, and until then the sites are served
    from what is here. Wrong credentials, a place that is somebody else's, a folder that cannot be written do not pass.
    """

    ok: bool
    what: str
    fix: str = ""
    may_pass: bool = False  #: not proven, and it may become well although nobody changes a setting


class Checks(Protocol):
    """Every plug-in proves on request that it works now."""

    async def check(self) -> Sequence[Finding]:
        """Try the real thing (write and read a blob, run a job, ...) within 10 s; raise nothing.

        One that has not come to an end by then counts as not proven, and as something that may pass.
        """


class Executor(Checks, Protocol):
    """Runs build jobs somewhere: child processes, containers, remote jobs."""

    @property
    def uses_this_machine(self) -> bool:
        """Whether its jobs take of this machine's memory; a ``ClassVar`` where that is always so."""

    async def start(self, job: BuildJob) -> JobRef:
        """Start *job* and return what finds it again, also after a restart of the daemon.

        Idempotent per deployment and attempt: if that job exists, its ref is returned and nothing is
        started. A job of an older attempt of the same deployment is stopped first.

        Raises:
            UnreachableError: the place where builds run does not answer; the caller may retry.
            RefusedError: it answered and said no (no sandbox, unknown image, quota); retrying will not help.
        """

    async def wait(self, ref: JobRef) -> BuildEnd:
        """Return how the job ended, once it has; also for a job that a former daemon started.

        A job that cannot be found any more ended as ``lost``. Cancelling the wait leaves the job alone.
        Asking again gives the same answer until the job is forgotten (see ``stop``).

        Raises:
            UnreachableError: it cannot be known now; it is asked again.
        """

    async def stop(self, ref: JobRef) -> None:
        """Kill all of that job and only that job within 2 s, and forget what it left. Repeatable.

        Also called once for each job that ended by itself, to clean up after it.

        Raises:
            UnreachableError: as ``wait``.
        """

    async def running(self) -> Sequence[JobRef]:
        """Every job of ours that exists: running, or ended and not yet cleaned up by ``stop``.

        Raises:
            UnreachableError: as ``wait``.
        """


class BlobStore(Checks, Protocol):
    """Keeps immutable bytes under their SHA-256."""

    async def put(self, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        """Store the bytes durably under their digest; write-once: a repeat changes nothing.

        Raises:
            RefusedError: the bytes do not have that digest or size; nothing was stored.
            UnreachableError: the store does not answer, or has no room.
        """

    def read(self, sha256: Digest, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        """Yield the bytes from *start* up to, not including, *stop*. Read it under ``aclosing()``.

        Raises:
            NotFoundError: no such blob.
        """

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of *digests* that the store does not hold."""

    async def delete(self, digests: Collection[Digest]) -> None:
        """Forget these blobs; one that is not there is no error. After an error any of them may be gone."""


class Staging(Protocol):
    """Uploads of one deployment's attempt, before it has proven that they are its own.

    The bytes of another project's blob are never readable or probeable through this port: an attempt sees
    what it uploaded itself and nothing else.
    """

    async def receive(self, deployment: DeploymentId, attempt: int, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        """Take an upload, hashed while it is written. A repeat changes nothing.

        Raises:
            RefusedError: the bytes do not have that digest or size; nothing was kept.
            UnreachableError: no room, or the store does not answer.
        """

    async def received(self, deployment: DeploymentId, attempt: int) -> dict[Digest, int]:
        """What this attempt uploaded and was verified: digest -> size in bytes. Durable when this returns."""

    async def adopt(self, deployment: DeploymentId, attempt: int, digests: Collection[Digest]) -> None:
        """Make staged uploads blobs of the store, durably, write-once.

        Repeatable, also after a crash midway: a digest that already is a blob and is no longer staged is fine. The
        uploads stay staged until ``clear``.

        Raises:
            NotFoundError: one of *digests* is neither.
        """

    async def clear(self, deployment: DeploymentId) -> None:
        """Forget all uploads of all attempts of *deployment*. Repeatable."""


class Inventory(Protocol):
    """What lies in a store, for those who throw away, move or verify it."""

    def blobs(self, after: Digest | None = None) -> AsyncGenerator[Sequence[Kept]]:
        """Every blob whose digest is above *after*, in ascending order, in pages of at most 1,000.

        Memory is bounded by a page. What is put or deleted meanwhile may be told or not. Read it under ``aclosing()``.
        """

    async def staged(self) -> Sequence[DeploymentId]:
        """The deployments that have something in the staging area, in any order."""


class Store(BlobStore, Staging, Inventory, Protocol):
    """What a plug-in of the point ``store`` is: all of it over the same place, so that adopting moves no bytes.

    Each method but ``open`` raises UnreachableError where the store does not answer, has no room, or refuses what it
    should allow (credentials, rights): the caller may retry. A store elsewhere opens without an answer of it, as
    executors do.
    """


@runtime_checkable
class Direct(Protocol):
    """What a store is besides, if builders can speak to it without the daemon between: by URLs that allow one thing.

    A URL is good for 15 minutes; whoever needs it longer asks again.
    """

    async def upload_urls(
        self, deployment: DeploymentId, attempt: int, blobs: Sequence[Blob]
    ) -> Sequence[SignedRequest | None]:
        """For each of *blobs* a PUT into the staging area, of those bytes alone if the store can hold a sender to it.

        What it cannot vouch for, ``Staging.received`` reads and hashes before it tells of it. None: that one cannot be
        sent so.
        """

    async def download_url(self, sha256: Digest) -> SignedRequest:
        """A GET of one blob, whether it is there or not."""


@runtime_checkable
class LocalFiles(Protocol):
    """What a store is besides, if its blobs lie on this machine: then visits read them without its help."""

    def path(self, sha256: Digest) -> Path:
        """Where the blob lies, if it is there. The file never changes; it may go away."""


@runtime_checkable
class Located(Protocol):
    """What a store is besides, if it can tell people where it keeps what it has."""

    @property
    def where(self) -> str:
        """Such as a folder, or a bucket and its server: to be read, not parsed; without secrets."""


class LogBus(Checks, Protocol):
    """Carries fresh blocks to whoever listens now. May forget: the log store is the truth."""

    async def publish(self, block: LogBlock) -> None:
        """Hand *block* (numbered by the store) to the subscribers of its deployment. Never waits for a slow one."""

    def subscribe(self, deployment: DeploymentId) -> AbstractAsyncContextManager[AsyncGenerator[LogBlock | None]]:
        """Everything published from now on. A None means: something was dropped, read the store again."""


class LogStore(Checks, Protocol):
    """Keeps logs, in blocks."""

    async def append(self, block: LogBlock, *, attempt: int = 0, seq: int | None = None) -> LogBlock | None:
        """Number the lines of *block* from the deployment's last number on and keep them, in one transaction.

        Returns the block with its numbers, or None if (*attempt*, *seq*) was appended before and nothing was kept.
        An empty block with ``closes`` set is kept too.
        """

    async def read(self, deployment: DeploymentId, after: int = 0, limit: int = 1000) -> Sequence[LogLine]:
        """At most *limit* lines numbered above *after*, in order; an unknown deployment has none."""

    async def search(self, deployment: DeploymentId, text: str, limit: int = 100) -> Sequence[LogLine]:
        """The first *limit* lines that contain *text*, letter case ignored, SGR sequences ignored."""

    async def drop(self, deployment: DeploymentId) -> None:
        """Forget the log of *deployment*. Repeatable."""
