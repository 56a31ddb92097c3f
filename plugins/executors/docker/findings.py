"""What ``check`` tells of an engine and of the job of seconds that it ran."""

import json
import secrets
from pathlib import Path
from typing import Any, Final

from builder.protocol import EXIT_OK, EXIT_UNREACHED
from plugins.executors.docker.config import DockerConfig
from plugins.executors.docker.recipe import PROOF_PREFIX
from scalemesh.ports import Finding
from scalemesh.values import BuildEnd, BuildJob, DeploymentId, EndCause, Limits, Network, Secret

_LIMITS: Final = Limits(
    memory_bytes=256 << 20,
    pids=64,
    cpu_weight=100,
    time_s=8,
    disk_bytes=64 << 20,
    output_bytes=1,
    output_files=1,
    log_bytes=1,
)
_FLAGS: Final = (("MemoryLimit", "memory"), ("PidsLimit", "processes"), ("CPUShares", "processors"))


def of_engine(client: Any, config: DockerConfig) -> list[Finding]:
    """The engine, and what it cannot hold builds to."""
    info = client.info()
    version = info.get("ServerVersion", "?")
    found = [
        Finding(ok=True, what=f"docker engine {version} at {config.engine}, cgroup {info.get('CgroupVersion', '1')}")
    ]
    lacking = [word for name, word in _FLAGS if not info.get(name)]
    if lacking:
        what = f"this engine cannot limit {', '.join(lacking)} of builds"
        found.append(
            Finding(ok=False, what=what, fix="switch those controllers on in the kernel (docker info has warnings)")
        )
    filters = [text for text in info.get("SecurityOptions") or () if "seccomp" in text]
    if not filters or "unconfined" in filters[0]:
        what = "this engine filters no system calls of builds"
        found.append(Finding(ok=False, what=what, fix="start dockerd without --seccomp-profile=unconfined"))
    return [*found, *of_elsewhere(config)]


def of_elsewhere(config: DockerConfig) -> list[Finding]:
    """What is not to be had where the engine sees no files of this machine."""
    found = []
    if not config.is_local and not config.has_tls:
        what = (
            f"the engine at {config.engine} is spoken to without TLS: whoever is on the way rules it and reads tokens"
        )
        fix = "let it listen with --tlsverify, and set executor.docker.tls_ca, tls_cert and tls_key"
        found.append(Finding(ok=True, what=what, fix=fix))
    if not config.is_local and config.file_root:
        what = "git.file_root cannot be mounted elsewhere: builds of file:// URLs fail there"
        found.append(Finding(ok=True, what=what, fix="use an engine on this machine for those projects"))
    if not config.is_local and config.ca_bundle:
        what = "builds.ca_bundle cannot be mounted elsewhere: fetch and commands get it, the way to the daemon does not"
        found.append(Finding(ok=True, what=what, fix="put it into the image: scalemesh builder image build --base"))
    return found


def image_later(config: DockerConfig) -> Finding:
    """A check has no time to pull an image."""
    what = f"image {config.image_name} is not there yet: the first build pulls it, and no job was run"
    return Finding(ok=True, what=what, fix=f"docker pull {config.image_name}, then check again")


def proof_job(config: DockerConfig) -> BuildJob:
    """The job of seconds, held as builds are."""
    return BuildJob(
        deployment=DeploymentId(f"{PROOF_PREFIX}{secrets.token_hex(4)}"),
        attempt=1,
        socket=config.socket,
        url=config.url or None,
        token=Secret("proof"),
        limits=_LIMITS,
        network=Network(config.build_network),
    )


def of_proof(end: BuildEnd, said: str, config: DockerConfig) -> list[Finding]:
    """What the job saw."""
    try:
        seen = json.loads(said)
        why, nodes = str(seen["why"]), ", ".join(seen["node"]) or "none"
    except (ValueError, KeyError, TypeError):
        return [
            Finding(ok=False, what=f"a job ran but ended badly ({end.cause}): {end.detail or said or 'no word'}"[:500])
        ]
    if end.exit_code == EXIT_UNREACHED and not _is_serving(config):
        what = f"jobs run as user {seen['uid']}; that they reach the daemon is proven only while it runs"
        return [Finding(ok=True, what=what, fix="start the daemon and check again")]
    if end.cause is not EndCause.OK or end.exit_code != EXIT_OK:
        fix = (
            "see builds.public_url and executor.docker.reach"
            if end.exit_code == EXIT_UNREACHED
            else "scalemesh builder image build"
        )
        return [Finding(ok=False, what=f"a job ran, but {why}", fix=fix)]
    held = f'user {seen["uid"]}, network "{config.build_network}", Node {nodes}'
    return [Finding(ok=True, what=f"a job ran and reached the daemon: {held}")]


def _is_serving(config: DockerConfig) -> bool:
    return not config.has_socket or Path(config.socket).exists()
