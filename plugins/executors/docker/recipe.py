"""What a job's containers are made of: everything that holds a build is said here."""

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from docker.types import LogConfig, Mount, Ulimit

from builder.addresses import Reach
from builder.holder import resolvers
from builder.netlink import Netlink
from plugins.executors.docker.config import DockerConfig
from scalemesh.errors import RefusedError, UnreachableError
from scalemesh.values import BuildJob, DeploymentId, JobRef, Network

SOCKETS: Final = "/run/scalemesh"
AUTHORITIES: Final = "/run/scalemesh-ca.pem"
OWNER: Final = "scalemesh.owner"
DEPLOYMENT: Final = "scalemesh.deployment"
ATTEMPT: Final = "scalemesh.attempt"
PART: Final = "scalemesh.part"  #: "job" or "network"
NEVER_BEGAN: Final = "created"  #: the engine's word for a container that was made, no more
PROOF_PREFIX: Final = "proof-"  #: of deployments of check's tiny jobs; none of ours begins with it
DEADLINE: Final = "scalemesh.deadline_s"  #: from its start, after which a job's container is killed
#: To become the second user and to end its processes; to read and hand over files of both.
ROOT_CAPABILITIES: Final = ("SETUID", "SETGID", "SETPCAP", "KILL", "CHOWN", "DAC_OVERRIDE")
NORMAL_WEIGHT: Final = 100
NORMAL_SHARES: Final = 1024
HOLDER_MIB: Final = 64
IPV6: Final = Path("/proc/sys/net/ipv6")
OPEN_FILES: Final = 4096  #: of one process; an engine that may have few more itself refuses to give more
#: Of systemd's resolver, where that is in the way, or of the machine itself.
RESOLVERS: Final = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


@dataclass(frozen=True, slots=True)
class Recipe:
    """Knows the settings; describes containers in the words of the client's ``containers.create``."""

    config: DockerConfig
    grace_s: float

    def name(self, deployment: DeploymentId, attempt: int) -> str:
        return f"scalemesh-{self.config.owner}-{deployment.lower().replace('_', '-')}-{attempt}"

    def labels(self, deployment: DeploymentId, attempt: int, part: str) -> dict[str, str]:
        own = {OWNER: self.config.owner, DEPLOYMENT: deployment, ATTEMPT: str(attempt), PART: part}
        return {**self.config.labels, **own}

    def holder(self, job: BuildJob) -> dict[str, Any]:
        """The container that shuts the job's network and keeps it."""
        shut, let = self._reach().routes()
        wanted = {"shut": shut, "let": let, "resolvers": self._resolvers(), "daemon": self._daemon(job)}
        return {
            "command": ["holder", json.dumps(wanted)],
            "user": "0:0",
            "cap_drop": ["ALL"],
            "cap_add": ["NET_ADMIN"],
            "network_mode": self.config.bridge,
            "sysctls": self._no_ipv6(),
            "mem_limit": HOLDER_MIB << 20,
            "memswap_limit": HOLDER_MIB << 20,
            "pids_limit": 8,
            "hostname": "build",
            **self._common(job, "network"),
        }

    def job(self, job: BuildJob, *, holder: str | None, volume: str, words: list[str]) -> dict[str, Any]:
        """The job's own container. *holder*: whose network it shares; None: it has none."""
        limits, as_root = job.limits, self.config.start_as_root
        shown: dict[str, Any] = {"network_mode": f"container:{holder}"}
        if holder is None:
            shown = {"network_mode": "none", "hostname": "build"}
        return {
            "command": words,
            "user": "0:0" if as_root else "1000:1000",
            "cap_drop": ["ALL"],
            "cap_add": list(ROOT_CAPABILITIES) if as_root else [],
            "environment": self._environment(job),
            "mounts": [Mount("/work", volume, type="volume"), *self._mounts(job)],
            "tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,size={self.config.tmp_mib}m,mode=1777"},  # noqa: S108 - inside
            "mem_limit": limits.memory_bytes,
            "memswap_limit": limits.memory_bytes,
            "pids_limit": limits.pids,
            "cpu_shares": max(2, limits.cpu_weight * NORMAL_SHARES // NORMAL_WEIGHT),
            "nano_cpus": int(self.config.cpus * 1e9),
            "ulimits": [Ulimit(name="nofile", soft=OPEN_FILES, hard=OPEN_FILES), Ulimit(name="core", soft=0, hard=0)],
            "oom_score_adj": 500,  # rather a build than the daemon or a site
            "init": True,
            **shown,
            **self._common(job, "job"),
        }

    def _no_ipv6(self) -> dict[str, str]:
        if self.config.is_local and not IPV6.exists():  # a kernel without it refuses to hear of it
            return {}
        return {f"net.ipv6.conf.{name}.disable_ipv6": "1" for name in ("all", "default")}

    def _common(self, job: BuildJob, part: str) -> dict[str, Any]:
        labels = self.labels(job.deployment, job.attempt, part)
        if part == "job":
            labels[DEADLINE] = f"{job.limits.time_s + self.grace_s:g}"
        return {
            "image": self.config.image_name,
            "labels": labels,
            "use_config_proxy": False,  # what the client's own settings say of proxies: builds.env is for that
            "read_only": True,
            "security_opt": ["no-new-privileges"],
            "ipc_mode": "private",
            "log_config": LogConfig(type="json-file", config={"max-size": f"{self.config.log_mib}m", "max-file": "1"}),
        }

    def _environment(self, job: BuildJob) -> dict[str, str]:
        found = {
            "SCALEMESH_URL": self._url(job),
            "SCALEMESH_TOKEN": str(job.token),
            "SCALEMESH_WORK": "/work",
            "SCALEMESH_SANDBOX": "container",
            "HOME": "/work/home",
            "TMPDIR": "/work/tmp",
            "LANG": "C.UTF-8",
        }
        if job.network is Network.PACKAGES:
            found["SCALEMESH_PROXY"] = f"unix:{SOCKETS}/proxy.sock"
        if self.config.ca_bundle and self.config.is_local:
            found["SCALEMESH_CA"] = AUTHORITIES
        return found

    def _url(self, job: BuildJob) -> str:
        if self.config.has_socket:
            return f"unix:{SOCKETS}/{Path(job.socket).name}"
        if job.url is None:
            raise RefusedError(
                "builds in this docker engine cannot reach the daemon",
                why="it is not on this machine, and builds.public_url is not set",
                fix="set builds.listen or builds.public_url to an address that containers there can reach",
            )
        if job.network is not Network.FULL:
            raise RefusedError(
                f'builds.network = "{job.network}" needs the daemon\'s socket in the container',
                why="this docker engine is reached by an address, and so is the daemon from it",
                fix='use an engine on this machine, or builds.network = "full"',
            )
        return job.url

    def _mounts(self, job: BuildJob) -> list[Any]:
        found = []
        if self.config.has_socket:
            folder = Path(job.socket).parent
            if not folder.is_dir():
                raise UnreachableError("the daemon's socket for builds is not there", why=str(folder))
            found.append(_bound(str(folder), SOCKETS))
        if self.config.is_local and self.config.ca_bundle:
            found.append(_bound(self.config.ca_bundle, AUTHORITIES))
        if self.config.is_local and job.repository:
            found.append(self._repository(job.repository))
        return found

    def _repository(self, folder: str) -> Any:
        """That one alone: commands see what the builder sees, and the others are other projects'."""
        source = Path(folder).resolve()
        if not source.is_relative_to(Path(self.config.file_root).resolve()):
            raise RefusedError(f"{folder} lies outside git.file_root", fix="deploy from a repository below it")
        return _bound(str(source), folder)

    def _reach(self) -> Reach:
        """What is near: the addresses of this machine, and of the engine's where that is another.

        Public ones too: no service that runs there beside sites is a stranger's build's business.
        """
        if self.config.is_local:
            with Netlink() as netlink:
                own = netlink.addresses()
        else:
            own = _looked_up(urlsplit(self.config.engine).hostname or "", 0, "executor.docker.host")
        return Reach(self.config.allow_networks, tuple(address for address in own if "." in address))

    def _resolvers(self) -> list[str]:
        """This machine's: a network of the engine's own shows containers a resolver of the engine, which asks these."""
        if not self.config.is_local:
            return []
        return next((found for path in RESOLVERS if path.exists() if (found := resolvers(path.read_text()))), [])

    def _daemon(self, job: BuildJob) -> str:
        """``address:port`` of the daemon, where it is reached by one; empty where its socket is in the container."""
        if self.config.has_socket or job.url is None:
            return ""
        parts = urlsplit(job.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found = _looked_up(parts.hostname or "", port, "builds.public_url")
        return f"{found[0]}:{port}"


def ref_of(labels: dict[str, str], name: str) -> JobRef:
    """The job that a container of ours belongs to."""
    return JobRef(deployment=DeploymentId(labels[DEPLOYMENT]), attempt=int(labels[ATTEMPT]), where=name)


def _looked_up(host: str, port: int, setting: str) -> list[str]:
    """The IPv4 addresses of *host*, at least one."""
    try:
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise UnreachableError(f"{host}: no such host", why=f"{setting} names it: {error}") from error
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def _bound(source: str, target: str) -> Any:
    return Mount(target, source, type="bind", read_only=True)
