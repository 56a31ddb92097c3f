"""One TOML file -> a frozen Config. config/scalemesh.toml documents every setting with its default and unit."""

import os
import re
import tomllib
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal

from scalemesh.bounds import check_host, check_network, check_url, listen_address, proxy_network, within
from scalemesh.decode import decode, environment
from scalemesh.errors import ConfigError, InvalidError
from scalemesh.keeping import Disk, Retention
from scalemesh.values import Limits, Network

MIB: Final = 1024 * 1024
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SCHEMES: Final = ("https", "ssh", "http", "git", "file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where the one HTTP port listens: control host and site hosts alike."""

    host: str = "127.0.0.1"
    port: int = 8080
    backlog: int = 1024

    def __post_init__(self) -> None:
        within("port", self.port, 0, 65535)
        within("backlog", self.backlog, 1, 65535)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """Names: sites live below ``base``, API and UI answer on ``control`` alone."""

    base: str = "localhost"
    control: str = "localhost"
    public_url: str | None = None  #: how visitors reach us, where a proxy stands in front
    trusted_proxies: tuple[str, ...] = ()  #: who is believed what it says of visitors: addresses and networks

    def __post_init__(self) -> None:
        for name, value in (("base", self.base), ("control", self.control)):
            if not value or value != value.lower() or ":" in value or "/" in value or value.endswith("."):
                raise ValueError(f"{name} = {value!r}: must be a lower-case host name without port")
        for place, text in enumerate(self.trusted_proxies):
            try:
                proxy_network(text)
            except ValueError as error:
                raise ValueError(f"trusted_proxies[{place}] = {text[:80]!r}: {error}") from None
        check_url("public_url", self.public_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What the site hosts may keep in memory, and how long they wait for a visitor."""

    cache_mib: int = 32
    cached_file_kib: int = 256
    manifest_cache_mib: int = 32
    keepalive_timeout_s: int = 75
    encoded_file_mib: int = 16
    asset_window_days: int = 7

    def __post_init__(self) -> None:
        for name in ("cache_mib", "cached_file_kib", "manifest_cache_mib", "keepalive_timeout_s"):
            within(name, getattr(self, name), 1, 1 << 20)
        within("encoded_file_mib", self.encoded_file_mib, 0, 256)
        within("asset_window_days", self.asset_window_days, 0, 3650)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """What lies on this machine of a store that lies elsewhere."""

    blobs_mib: int = 10_240

    def __post_init__(self) -> None:
        within("blobs_mib", self.blobs_mib, 1, 1 << 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Connections of visitors: how many, and how long one may keep us waiting."""

    workers: Literal["auto"] | int = 1
    connections: int = 20_000
    connections_per_address: int = 500
    head_timeout_s: int = 15
    stall_timeout_s: int = 60

    def __post_init__(self) -> None:
        if isinstance(self.workers, int):
            within("workers", self.workers, 1, 64)
        within("connections", self.connections, 16, 1_000_000)
        within("connections_per_address", self.connections_per_address, 1, 1_000_000)
        for name in ("head_timeout_s", "stall_timeout_s"):
            within(name, getattr(self, name), 1, 3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxying:
    """What rules that lead to another origin may reach, how long they may take and how much they may carry."""

    allow_networks: tuple[str, ...] = ()
    connect_timeout_s: int = 10
    answer_timeout_s: int = 60
    idle_timeout_s: int = 60
    request_mib: int = 100
    answer_mib: int = 1024
    websocket_message_mib: int = 4
    most_at_once: int = 256
    hops: int = 3
    ca_bundle: Path | None = None  #: instead of the system's

    def __post_init__(self) -> None:
        for name in ("connect_timeout_s", "answer_timeout_s", "idle_timeout_s"):
            within(name, getattr(self, name), 1, 24 * 3600)
        for name in ("request_mib", "answer_mib", "most_at_once"):
            within(name, getattr(self, name), 1, 1 << 20)
        within("websocket_message_mib", self.websocket_message_mib, 1, 1024)
        within("hops", self.hops, 1, 20)
        for network in self.allow_networks:
            check_network("allow_networks", network)


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """Which Git URLs users may name."""

    allow: tuple[str, ...] = ("https", "ssh")
    file_root: Path | None = None  #: file:// URLs must lie below it

    def __post_init__(self) -> None:
        for scheme in self.allow:
            if scheme not in SCHEMES:
                raise ValueError(f"allow: {scheme!r} is none of {', '.join(SCHEMES)}")
        if "file" in self.allow and self.file_root is None:
            raise ValueError("allow: file needs file_root, the one folder that file:// URLs may lie in")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorLimits:
    """The table ``[builds.per_executor.<kind>]``: what one executor may do, where it differs from the others."""

    parallel: int | None = None  #: None: builds.parallel
    total_memory_mib: int | None = None  #: None: shared with the machine, or unbounded where builds run elsewhere

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) is not None:
                within(name, getattr(self, name), 1, 1 << 24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Builds:
    """How many builds run at once, and what each may use."""

    parallel: int = 2
    parallel_per_project: int = 1
    queue_length: int = 500
    memory_mib: int = 2048
    reserve_mib: int = 512
    total_memory_mib: int = 0  #: 0: what the machine has
    pids: int = 512
    cpu_weight: int = 50
    time_limit_s: int = 1800
    disk_mib: int = 8192
    output_mib: int = 2048
    output_files: int = 100_000
    log_mib: int = 16
    cache_mib: int = 1024
    cache_days: int = 30
    lease_s: int = 60
    overtake_limit_s: int = 300
    listen: str | None = None  #: host:port of a listener for builders alone
    public_url: str | None = None
    ca_bundle: str = ""
    npm_registry: str | None = None
    network: Network = Network.FULL
    allow_hosts: tuple[str, ...] = ()
    allow_networks: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    per_executor: dict[str, ExecutorLimits] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (
            "parallel",
            "parallel_per_project",
            "queue_length",
            "memory_mib",
            "pids",
            "time_limit_s",
        ):
            within(name, getattr(self, name), 1, 1 << 24)
        for name in (
            "disk_mib",
            "output_mib",
            "output_files",
            "log_mib",
            "cache_mib",
            "cache_days",
            "lease_s",
            "overtake_limit_s",
        ):
            within(name, getattr(self, name), 1, 1 << 24)
        for name in ("reserve_mib", "total_memory_mib"):
            within(name, getattr(self, name), 0, 1 << 24)
        within("cpu_weight", self.cpu_weight, 1, 10_000)
        check_url("public_url", self.public_url)
        check_url("npm_registry", self.npm_registry)
        if self.listen is not None and ip_address(self.listen_address[0]).is_unspecified and not self.public_url:
            raise ValueError(f"listen = {self.listen!r}: builders need one address of it; name it by public_url")
        self._check_each()

    def _check_each(self) -> None:
        for network in self.allow_networks:
            check_network("allow_networks", network)
        for host in self.allow_hosts:
            check_host("allow_hosts", host)
        for name, value in self.env.items():
            if not _VARIABLE.fullmatch(name) or "\0" in value:
                raise ValueError(f"env.{name[:80]!r}: is no variable that a program could be given")

    @property
    def listen_address(self) -> tuple[str, int]:
        """Address and port of ``listen``, which must be set.

        Raises:
            ValueError: it is no address and port.
        """
        return listen_address("listen", self.listen or "")

    @property
    def url(self) -> str | None:
        """Where builders outside this machine find the daemon; None: it is not offered to them."""
        if self.public_url or self.listen is None:
            return self.public_url
        return f"http://{self.listen}"

    def limits(self) -> Limits:
        """The limits of one build, in the units of its job."""
        return Limits(
            memory_bytes=self.memory_mib * MIB,
            pids=self.pids,
            cpu_weight=self.cpu_weight,
            time_s=self.time_limit_s,
            disk_bytes=self.disk_mib * MIB,
            output_bytes=self.output_mib * MIB,
            output_files=self.output_files,
            log_bytes=self.log_mib * MIB,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """Sessions and sign-in."""

    session_days: int = 30
    welcome_minutes: int = 60
    attempts_per_minute: int = 10

    def __post_init__(self) -> None:
        for name in self.__slots__:
            within(name, getattr(self, name), 1, 100_000)


@dataclass(frozen=True, slots=True)
class Plugin:
    """One plug point: which kind fills it, and that kind's own table, decoded when it is opened."""

    kind: str
    settings: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that can be set. Paths are absolute: a relative one counts from the config file's folder."""

    data_dir: Path = Path("data")
    listen: Listen = field(default_factory=Listen)
    hosts: Hosts = field(default_factory=Hosts)
    serving: Serving = field(default_factory=Serving)
    cache: Cache = field(default_factory=Cache)
    edge: Edge = field(default_factory=Edge)
    proxy: Proxying = field(default_factory=Proxying)
    git: Git = field(default_factory=Git)
    builds: Builds = field(default_factory=Builds)
    retention: Retention = field(default_factory=Retention)
    disk: Disk = field(default_factory=Disk)
    accounts: Accounts = field(default_factory=Accounts)
    executor: dict[str, object] = field(default_factory=lambda: {"kind": "local"})
    store: dict[str, object] = field(default_factory=lambda: {"kind": "disk"})
    logs: dict[str, object] = field(default_factory=lambda: {"kind": "sqlite"})
    bus: dict[str, object] = field(default_factory=lambda: {"kind": "memory"})

    def __post_init__(self) -> None:
        for name in ("executor", "store", "logs", "bus"):
            check_plugin_table(name, getattr(self, name), takes_several=name == "executor")
        if unlisted := [kind for kind in self.builds.per_executor if kind not in self.kinds("executor")]:
            listed = ", ".join(self.kinds("executor"))
            lines = (
                f"builds.per_executor.{kind}: executor.kind does not list it; it lists {listed}" for kind in unlisted
            )
            raise ValueError("\n".join(lines))

    def kinds(self, name: str) -> tuple[str, ...]:
        """The kinds chosen for *name* (executor, store, logs, bus): one, but of executors there may be several."""
        kind = getattr(self, name)["kind"]
        return (kind,) if isinstance(kind, str) else tuple(kind)

    def plugin(self, name: str, kind: str | None = None) -> Plugin:
        """*kind* of *name* (None: the first that is chosen for it) and its table ``[name.kind]``."""
        table: dict[str, object] = getattr(self, name)
        kind = self.kinds(name)[0] if kind is None else kind  # an empty one is a mistake, not the default
        settings = table.get(kind, {})
        return Plugin(kind, dict(settings) if isinstance(settings, dict) else {})

    @property
    def serving_processes(self) -> int:
        """How many there are to be beside the daemon: none where it serves the sites itself."""
        wanted = self.edge.workers if isinstance(self.edge.workers, int) else os.cpu_count() or 1
        return wanted if wanted > 1 else 0

    @property
    def run_dir(self) -> Path:
        """Sockets of the running daemon."""
        return self.data_dir / "run"

    @property
    def admin_socket(self) -> Path:
        return self.run_dir / "admin.sock"

    @property
    def builds_socket(self) -> Path:
        """In a folder of its own: local jobs get this folder and nothing else of ours."""
        return self.run_dir / "builds" / "api.sock"


def load(path: Path) -> Config:
    """Read and decode the config file.

    Raises:
        ConfigError: it cannot be read, is no TOML, or has mistakes: all of them, a line each.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read", why=str(error), fix="name the file with --config") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML", why=str(error)) from error
    try:
        config = decode(Config, data, environ=environment())
    except InvalidError as error:
        lines = error.what.splitlines()
        head = f"{path}: {len(lines)} wrong setting{'s' if len(lines) > 1 else ''}"
        raise ConfigError("\n".join([head, *(f"  {line}" for line in lines)])) from None
    return _anchored(config, path.resolve().parent)


def check_plugin_table(name: str, table: dict[str, object], *, takes_several: bool = False) -> None:
    """Raise ValueError unless *table* is ``kind = "..."`` (or a list, where it takes several) and tables of kinds."""
    kind = table.get("kind")
    if isinstance(kind, list) and takes_several:
        _check_kinds(name, kind)
    elif kind is None:
        raise ValueError(f"{name}.kind: missing; it names the plug-in")
    elif not isinstance(kind, str):
        or_list = ", or a list of such names" if takes_several else ""
        raise ValueError(f"{name}.kind = {kind!r}: must be a plug-in's name{or_list}")
    first = kind[0] if isinstance(kind, list) else kind
    for key, value in table.items():
        if key != "kind" and not isinstance(value, dict):
            raise ValueError(f"{name}.{key}: unknown setting; a kind's settings go into [{name}.{first}]")


def _check_kinds(name: str, kinds: list[object]) -> None:
    if not kinds:
        raise ValueError(f"{name}.kind = []: must name at least one plug-in")
    for place, kind in enumerate(kinds):
        if not isinstance(kind, str):
            raise ValueError(f"{name}.kind[{place}] = {kind!r}: must be a plug-in's name")  # noqa: TRY004 -- as decode()
        if kind in kinds[:place]:
            raise ValueError(f"{name}.kind[{place}] = {kind!r}: must be named once")


def _anchored(config: Config, folder: Path) -> Config:
    root = config.git.file_root
    git = replace(config.git, file_root=(folder / root).resolve()) if root else config.git
    bundle = config.proxy.ca_bundle
    proxy = replace(config.proxy, ca_bundle=(folder / bundle).resolve()) if bundle else config.proxy
    trusted = config.builds.ca_bundle
    builds = replace(config.builds, ca_bundle=str((folder / trusted).resolve())) if trusted else config.builds
    return replace(config, data_dir=(folder / config.data_dir).resolve(), git=git, proxy=proxy, builds=builds)
