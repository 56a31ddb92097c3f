"""What the daemon asks for, decoded once from the answer to ``claim``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class BuildSettings(Protocol):
    """What a person set by hand; None means: detect. An empty command means: run none."""

    @property
    def root_directory(self) -> str: ...
    @property
    def framework(self) -> str | None: ...
    @property
    def install_command(self) -> str | None: ...
    @property
    def build_command(self) -> str | None: ...
    @property
    def output_directory(self) -> str | None: ...
    @property
    def node_version(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The builder's own BuildSettings."""

    root_directory: str = ""
    framework: str | None = None
    install_command: str | None = None
    build_command: str | None = None
    output_directory: str | None = None
    node_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    username: str
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GitSource:
    url: str
    branch: str | None = None
    commit: str | None = None
    credentials: Credentials | None = None
    allow: tuple[str, ...] = ("https", "ssh")  #: schemes a URL may have, also those of submodules and LFS
    file_root: str | None = None  #: the only folder below which file:// URLs may point


@dataclass(frozen=True, slots=True)
class SourceFile:
    path: str
    sha256: str
    size: int
    is_executable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSource:
    files: tuple[SourceFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What this build may use; see protocol.py."""

    time_s: int
    disk_bytes: int
    pids: int  #: processes and threads at once
    output_bytes: int
    output_files: int
    log_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRules:
    """What this build may do with what builds keep for later ones."""

    reads: bool = False
    writes: bool = False
    archive_bytes: int = 0  #: the most that one archive may have


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    source: GitSource | UploadSource
    settings: Settings
    env: Mapping[str, str]  #: secret: masked in lines
    public_env: Mapping[str, str]
    limits: Limits
    operator_env: Mapping[str, str] = field(default_factory=dict)  #: for the fetch too
    ca_bundle: str | None = None  #: PEM: authorities to trust instead of the system's
    cache: CacheRules = field(default_factory=CacheRules)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every value that may not appear in a line."""
        credentials = self.source.credentials if isinstance(self.source, GitSource) else None
        return (*self.env.values(), *((credentials.password,) if credentials else ()))


def read_job(claim: Mapping[str, Any]) -> Job:
    """Decode a Claim; what the daemon adds in later versions is ignored."""
    return Job(
        source=_source(claim["source"]),
        settings=_known(Settings, claim["settings"]),
        env=claim["env"],
        public_env=claim["public_env"],
        limits=_known(Limits, claim["limits"]),
        operator_env=claim.get("operator_env") or {},
        ca_bundle=claim.get("ca_bundle"),
        cache=_known(CacheRules, claim.get("cache") or {}),
    )


def _source(raw: Mapping[str, Any]) -> GitSource | UploadSource:
    if raw["kind"] == "upload":
        return UploadSource(files=tuple(SourceFile(*row) for row in raw["files"]))
    credentials = raw.get("credentials")
    return GitSource(
        url=raw["url"],
        branch=raw.get("branch"),
        commit=raw.get("commit"),
        credentials=Credentials(**credentials) if credentials else None,
        allow=tuple(raw["allow"]),
        file_root=raw.get("file_root"),
    )


def _known(kind: type[Any], raw: Mapping[str, Any]) -> Any:
    return kind(**{name: raw[name] for name in kind.__dataclass_fields__ if name in raw})
