"""The settings of the Docker executor."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from builder.packing import default_image
from scalemesh.values import Secret

#: Marks what the daemon fills in from other tables: no setting for people, so no document shows it.
GIVEN: Final[Mapping[str, bool]] = {"given": True}
NO_SECRET: Final = Secret("")
SOCKET: Final = "unix:///var/run/docker.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerConfig:
    """The table ``[executor.docker]``."""

    host: str = ""  #: unix:///path or tcp://host:port; empty: DOCKER_HOST, else the usual socket
    tls_ca: Path | None = None  #: PEM files for tcp with TLS: the engine's authority, our certificate, its key
    tls_cert: Path | None = None
    tls_key: Path | None = None
    image: str = ""  #: empty: the one that `scalemesh builder image build` makes
    pull: Literal["missing", "never", "always"] = "missing"
    registry_user: str = ""
    registry_password: Secret = NO_SECRET
    reach: Literal["auto", "socket", "url"] = "auto"  #: how the builder reaches the daemon
    bridge: str = "bridge"  #: the engine's network that builds with a network of their own are on
    cpus: float = 0.0  #: at most so many processors; 0: as many as there are
    start_as_root: bool = False  #: the builder starts as root, and user commands run as a second user
    tmp_mib: int = 256  #: /tmp, which is memory of the build
    log_mib: int = 16  #: of what a container itself prints
    keep_images: int = 1  #: how many images of former releases are kept
    labels: dict[str, str] = field(default_factory=dict)  #: further ones of containers and volumes
    owner: str = field(default="", metadata=GIVEN)
    socket: str = field(default="", metadata=GIVEN)
    url: str = field(default="", metadata=GIVEN)
    build_network: str = field(default="full", metadata=GIVEN)
    ca_bundle: str = field(default="", metadata=GIVEN)
    allow_networks: tuple[str, ...] = field(default=(), metadata=GIVEN)
    file_root: str = field(default="", metadata=GIVEN)

    def __post_init__(self) -> None:
        self._check_engine()
        if not 0 <= self.cpus <= 1024:
            raise ValueError(f"cpus = {self.cpus}: must be 0 to 1024")
        for name in ("tmp_mib", "log_mib"):
            if not 1 <= getattr(self, name) <= 1 << 20:
                raise ValueError(f"{name} = {getattr(self, name)}: must be 1 to {1 << 20}")
        if mine := [name for name in self.labels if name.startswith("scalemesh.") or not name]:
            raise ValueError(f"labels.{mine[0]}: names that begin with scalemesh. are our own")
        if not 0 <= self.keep_images <= 1000:
            raise ValueError(f"keep_images = {self.keep_images}: must be 0 to 1000")

    def _check_engine(self) -> None:
        if not self.engine.startswith(("unix://", "tcp://")):
            name = "host" if self.host else "DOCKER_HOST, of the environment,"
            raise ValueError(f"{name} = {self.engine!r}: must begin with unix:// or tcp://")
        for name in ("tls_ca", "tls_cert", "tls_key"):
            if getattr(self, name) == Path():
                raise ValueError(f"{name} is empty: name a file, or leave it out")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("tls_cert and tls_key go together")
        if self.bridge in ("host", "none") or self.bridge.startswith("container:"):
            raise ValueError(
                f"bridge = {self.bridge!r}: no network of its own for a build: what is shut for it would be shut "
                "for whose it is; name a network that `docker network ls` lists with the driver bridge"
            )

    @property
    def engine(self) -> str:
        """Where the engine listens."""
        return self.host or os.environ.get("DOCKER_HOST") or SOCKET

    @property
    def has_tls(self) -> bool:
        """Whether the engine is spoken to by TLS."""
        return self.tls_ca is not None or self.tls_cert is not None

    @property
    def is_local(self) -> bool:
        """Whether the engine sees the files of this machine, as far as its address tells."""
        return self.engine.startswith("unix://")

    @property
    def has_socket(self) -> bool:
        """Whether a container finds the daemon by its socket."""
        return self.reach == "socket" or (self.reach == "auto" and self.is_local)

    @property
    def image_name(self) -> str:
        return self.image or default_image()
