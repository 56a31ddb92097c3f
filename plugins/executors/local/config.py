"""The settings of the local executor."""

from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Final

SANDBOXES: Final = ("bwrap", "off")
NETWORKS: Final = ("auto", "slirp4netns", "pasta", "proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalConfig:
    """The table ``[executor.local]``."""

    sandbox: str = "bwrap"  #: "off" runs every build unprotected, as the daemon's own user
    network: str = "auto"  #: how a build reaches packages and Git: slirp4netns, pasta, or the daemon's proxy
    build_uid: int = 62000  #: user (and group) id of builds where the daemon is root; shared with nothing else
    work_dir: Path = Path("jobs")  #: one folder for each job that exists
    allow_networks: tuple[str, ...] = ()  #: private networks that builds may reach all the same (CIDR)
    node_dirs: tuple[str, ...] = ()  #: folders that hold node, npm and npx; empty: look for them
    file_root: str = ""  #: the folder of Git repositories that file:// URLs may name; empty: none
    ca_bundle: str = ""  #: certificates that builds trust; empty: the system's bundle

    def __post_init__(self) -> None:
        if self.sandbox not in SANDBOXES:
            raise ValueError(f"sandbox must be one of {', '.join(SANDBOXES)}")
        if self.network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}")
        if not 1 <= self.build_uid < 2**32 - 2:
            raise ValueError("build_uid must be between 1 and 4294967293: builds never run as root")
        for network in self.allow_networks:
            ip_network(network)  # its ValueError names the mistake
