"""The settings of the local executor."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Final

#: Marks what the daemon fills in from ``[builds]`` and ``[git]``: no setting for people, so no document shows it.
GIVEN: Final[Mapping[str, bool]] = {"given": True}
SANDBOXES: Final = ("bwrap", "off")
NETWORKS: Final = ("auto", "slirp4netns", "pasta", "proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalConfig:
    """The table ``[executor.local]``."""

    sandbox: str = "bwrap"  #: "off" runs every build unprotected, as the daemon's own user
    network: str = "auto"  #: how a build reaches packages and Git: slirp4netns, pasta, or the daemon's proxy
    build_uid: int = 62000  #: user (and group) id of builds where the daemon is root; shared with nothing else
    work_dir: Path = Path("jobs")  #: one folder for each job that exists
    node_dirs: tuple[str, ...] = ()  #: folders that hold node, npm and npx; empty: look for them
    #: private networks that builds may reach all the same (CIDR)
    allow_networks: tuple[str, ...] = field(default=(), metadata=GIVEN)
    #: the folder of Git repositories that file:// URLs may name; empty: none
    file_root: str = field(default="", metadata=GIVEN)
    build_network: str = field(default="full", metadata=GIVEN)
    #: certificates that builds trust; empty: the system's bundle
    ca_bundle: str = field(default="", metadata=GIVEN)

    def __post_init__(self) -> None:
        if self.sandbox not in SANDBOXES:
            raise ValueError(f"sandbox must be one of {', '.join(SANDBOXES)}")
        if self.network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}")
        if not 1 <= self.build_uid < 2**32 - 2:
            raise ValueError("build_uid must be between 1 and 4294967293: builds never run as root")
        for network in self.allow_networks:
            ip_network(network)  # its ValueError names the mistake
