"""The nouns of the product, frozen; the states of a deployment and the one table of their moves. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, NewType

from scalemesh.errors import ConflictError
from scalemesh.rules import Dialect, Rules

UserId = NewType("UserId", str)  # usr_…
ProjectId = NewType("ProjectId", str)  # prj_…
DeploymentId = NewType("DeploymentId", str)  # dpl_…
Digest = NewType("Digest", str)  # SHA-256, 64 lower-case hex digits


class State(StrEnum):
    QUEUED = "queued"
    BUILDING = "building"
    PUBLISHING = "publishing"
    READY = "ready"
    FAILED = "failed"
    CANCELED = "canceled"
    SUPERSEDED = "superseded"


MOST_KEPT: Final = 100_000  #: deployments or days that a rule of retention may name

FINAL: Final = frozenset({State.READY, State.FAILED, State.CANCELED, State.SUPERSEDED})

MOVES: Final[Mapping[State, frozenset[State]]] = {
    State.QUEUED: frozenset({State.BUILDING, State.PUBLISHING, State.CANCELED, State.SUPERSEDED, State.FAILED}),
    State.BUILDING: frozenset({State.PUBLISHING, State.QUEUED, State.CANCELED, State.FAILED}),
    State.PUBLISHING: frozenset({State.READY, State.CANCELED, State.FAILED}),
}


def moved(old: State, new: State) -> State:
    """Return *new*, or raise ConflictError if *old* may not become it."""
    if new not in MOVES.get(old, frozenset()):
        raise ConflictError(f"a {old} deployment cannot become {new}")
    return new


class Reason(StrEnum):
    """Why a deployment failed: a closed list, each with one sentence for people beside it."""

    CLONE_FAILED = "clone_failed"
    NO_OUTPUT = "no_output"
    COMMAND_FAILED = "command_failed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    TOO_MANY_PROCESSES = "too_many_processes"
    DISK_FULL = "disk_full"
    OUTPUT_TOO_LARGE = "output_too_large"
    TOO_MANY_FILES = "too_many_files"
    LOST = "lost"
    REJECTED = "rejected"
    SKIPPED = "skipped"
    INTERNAL = "internal"


class Environment(StrEnum):
    PRODUCTION = "production"
    PREVIEW = "preview"


class SourceKind(StrEnum):
    GIT = "git"
    UPLOAD = "upload"  # a folder, to be built like a commit
    PREBUILT = "prebuilt"  # a folder, published as it is


class Secret(str):
    """A string that does not show itself in a repr, and so in no dataclass and no list that is printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one build may use. Passing one of them ends the build with a reason code of its own."""

    memory_bytes: int
    pids: int
    cpu_weight: int  #: 1..10000, as cgroup v2 counts; 100 is everybody else's
    time_s: int
    disk_bytes: int  #: all files in the job's work directory
    output_bytes: int
    output_files: int
    log_bytes: int  #: past it the middle of the log is cut; never a failure


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """What a person set for a project's builds by hand; None means: detect."""

    root_directory: str = ""
    framework: str | None = None
    install_command: str | None = None
    build_command: str | None = None
    output_directory: str | None = None
    node_version: str | None = None
    dialect: Dialect | None = None  #: how rule files are read; not the builder's to know


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRetention:
    """What a person set of what one project keeps; None: as the config's ``[retention]`` says."""

    production: int | None = None
    preview_days: int | None = None
    failed_days: int | None = None
    log_days: int | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not 0 <= (getattr(self, name) or 0) <= MOST_KEPT:
                raise ValueError(f"{name} = {getattr(self, name)}: must be 0 to {MOST_KEPT}")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    id: UserId
    name: str
    is_owner: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A source and its settings."""

    id: ProjectId
    name: str
    user: UserId
    git_url: str | None  #: None: fed by uploads only
    production_branch: str | None  #: None: the repository's default branch, not known before the first fetch
    settings: BuildSettings
    pinned: bool  #: production was chosen by hand: nothing goes live by itself
    created_at: datetime
    live: DeploymentId | None = None  #: what the production alias points at
    executor: str | None = None  #: kind of executor that its builds run on; None: the config's default
    retention: OwnRetention = field(default_factory=OwnRetention)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One attempt to publish one source, for ever."""

    id: DeploymentId
    sequence: int
    project: ProjectId
    project_name: str
    user: UserId
    environment: Environment
    state: State
    source: SourceKind
    source_ready: bool  #: False: an upload whose files are still coming
    git_url: str | None
    branch: str | None
    commit_sha: str | None
    settings: BuildSettings
    memory_bytes: int
    created_at: datetime
    commit_message: str | None = None
    commit_author: str | None = None
    source_listing: Digest | None = None  #: blob: the uploaded source's files
    attempt: int = 0  #: number of the last start
    losses: int = 0  #: attempts that were lost
    nonce: str | None = None  #: of the builder that claimed the attempt
    job: str | None = None
    reported: str | None = None  #: JSON: the failure that the builder told
    listing: Digest | None = None  #: blob: the files that the build made
    manifest: Digest | None = None  #: blob: what is served
    framework: str | None = None
    reason: Reason | None = None
    message: str = ""
    executor: str | None = None  #: kind; None: it needs no build, or is from before there was a choice
    started_at: datetime | None = None
    finished_at: datetime | None = None
    uses_cache: bool = True  #: its build takes over what earlier ones kept
    is_cleaned: bool = False  #: its end is complete: uploads dropped, last words said, log closed
    is_kept: bool = False  #: by a person's word, whatever the rules of retention say

    @property
    def is_final(self) -> bool:
        return self.state in FINAL


class Network(StrEnum):
    """What a build may reach besides the daemon; private and metadata addresses never."""

    FULL = "full"  #: the internet
    PACKAGES = "packages"  #: registries and Git hosts, through the daemon's proxy
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildJob:
    """All that an executor is told."""

    deployment: DeploymentId
    attempt: int
    #: Path of the unix socket on which the daemon serves the builder's API; its proxy is ``proxy.sock`` beside it.
    socket: str
    url: str | None  #: the same API by http(s), for jobs outside this machine; None: not offered
    token: Secret
    limits: Limits
    network: Network = Network.FULL
    repository: str | None = None  #: the folder of this machine that it fetches from; None: its source is elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRef:
    """Finds one build job again, also after a restart of the daemon."""

    deployment: DeploymentId
    attempt: int
    where: str  #: the executor's own words; opaque to everybody else


class EndCause(StrEnum):
    OK = "ok"
    FAILED = "failed"
    OOM = "oom"
    PIDS = "pids"
    TIMEOUT = "timeout"
    DISK = "disk"
    LOST = "lost"
    REFUSED = "refused"  #: it never began: no such image, no place that fits; ``detail`` says so and how to mend it


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildEnd:
    """How a build job ended, as its executor saw it. Peaks are None where they could not be measured."""

    cause: EndCause
    exit_code: int | None = None
    peak_memory_bytes: int | None = None
    peak_pids: int | None = None
    detail: str = ""
    own_limit: str = ""  #: it went over a limit of the executor's own: which, and how to mend it, in sentences


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of a deployment's log."""

    number: int  #: from 1, no gaps inside one deployment; 0 while the store has not numbered it yet
    at: datetime  #: aware, UTC
    step: str  #: one of builder.protocol.STEPS
    stream: str  #: "out", "err" or "system"
    text: str  #: no newline; secrets already masked; no control sequence but SGR


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBlock:
    """Lines that were kept together: one write, one message."""

    deployment: DeploymentId
    lines: Sequence[LogLine]
    closes: bool = False  #: nothing follows: the deployment has come to its end


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    sha256: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A blob as a store tells of it."""

    sha256: Digest
    size_bytes: int
    at: datetime  #: since when it lies there, about


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """One request that whoever has it may make, for a while: it must be sent with exactly these headers."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One path of a manifest."""

    sha256: Digest
    size_bytes: int
    content_type: str
    immutable: bool  #: its name carries a content hash, so it may be cached for ever


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a deployment serves: percent-decoded paths without a leading slash -> entries."""

    deployment: DeploymentId
    created_at: datetime
    entries: Mapping[str, Entry]
    rules: Rules = field(default_factory=Rules)


class CacheKind(StrEnum):
    """What an archive that builds keep for later ones holds."""

    MODULES = "modules"  #: all that an install made
    DEPENDENCIES = "dependencies"  #: what package managers downloaded
    FRAMEWORK = "framework"  #: what the tools of a framework keep for their next run


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCacheEntry:
    """An archive that a build wants to be kept."""

    kind: CacheKind
    key: str
    blob: Blob
    unpacked_bytes: int  #: of its files in all
    seconds: float  #: what the work took that it spares


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry(NewCacheEntry):
    """An archive that is kept."""

    id: int
    project: ProjectId
    scope: str  #: whose builds wrote it
    made_at: datetime
    used_at: datetime


class HostKind(StrEnum):
    PRODUCTION = "production"
    BRANCH = "branch"
    PERMALINK = "permalink"
    DOMAIN = "domain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where one host leads. Replaced whole, never changed."""

    host: str
    kind: HostKind
    project: ProjectId
    project_name: str
    deployment: DeploymentId | None  #: None: the project has nothing ready yet
    manifest: Digest | None
    waiting: State | None = None  #: state of the newest deployment, where none is ready
    encodings: Digest | None = None  #: blob: the compressed variants of the deployment's files; None: not made yet
    window: Digest | None = None  #: blob: what former production deployments still answer; production hosts only
