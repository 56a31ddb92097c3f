"""All kinds of executors at once, for whole daemons: what their services need, as settings of one config."""

import asyncio
import secrets
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from scalemesh.cli.image import build_image
from tests.rigs.cluster import has_cluster, kubeconfig, namespace
from tests.rigs.docker import docker, need_docker
from tests.rigs.images import base_image
from tests.rigs.ministack import KEYS, REGION, ministack
from tests.rigs.ports import free_port

DOCKER: Final = """
[executor.docker]
image = "{image}"
pull = "never"
keep_images = 1000
labels = {{ test = "{mark}" }}
"""
ECS: Final = """
[executor.ecs]
image = "{image}"
region = "{region}"
cluster = "{aws.cluster}"
endpoint_url = "{aws.url}"
subnets = ["{aws.subnet}"]
execution_role_arn = "{aws.role_arn}"
"""
KUBERNETES: Final = """
[executor.kubernetes]
image = "{image}"
kubeconfig = "{kubeconfig}"
namespace = "{namespace}"
cpu_request = 0.05
"""
SYSTEM_CA: Final = Path("/etc/ssl/certs/ca-certificates.crt")


#: npm waits five minutes for an answer that has got lost, and up to one until it asks again: longer than a test may.
_PATIENCE_MS: Final = {"timeout": 20_000, "retry_mintimeout": 500, "retry_maxtimeout": 2000}
IMPATIENT: Final = (
    "env = { " + ", ".join(f'npm_config_fetch_{name} = "{value}"' for name, value in _PATIENCE_MS.items()) + " }\n"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Of a config: the lines of [builds], the tables of the executors, and which there are."""

    builds: str
    tables: str
    kinds: tuple[str, ...]
    environ: Mapping[str, str]  #: of the daemon: credentials that no config holds


@asynccontextmanager
async def all_kinds() -> AsyncIterator[Settings]:
    """Start what they need."""
    async with docker_table() as docker_settings:
        image = await asyncio.to_thread(builder_image)
        aws = await asyncio.to_thread(ministack)
        address = bridge_address()
        builds = f'listen = "{address}:{free_port(address)}"\nparallel = 4\ndisk_mib = 512\nmemory_mib = 1024\n'
        builds += system_authorities() + IMPATIENT
        tables = docker_settings + ECS.format(image=image, aws=aws, region=REGION)
        if not has_cluster():
            yield Settings(builds, tables, ("local", "docker", "ecs"), KEYS)
            return
        tables += KUBERNETES.format(image=image, kubeconfig=kubeconfig(), namespace=namespace())
        yield Settings(builds, tables, ("local", "docker", "kubernetes", "ecs"), KEYS)


@asynccontextmanager
async def docker_table() -> AsyncIterator[str]:
    """The table of the docker executor; in the end what daemons with it left in the engine is removed.

    Each would do that at its next start, which those of tests never come to.
    """
    need_docker()
    mark = secrets.token_hex(6)
    try:
        yield DOCKER.format(image=await asyncio.to_thread(builder_image), mark=mark)
    finally:
        await asyncio.to_thread(_remove_marked, mark)


def _remove_marked(mark: str) -> None:
    mine = ("--quiet", "--filter", f"label=test={mark}")
    if containers := docker("ps", "--all", *mine).split():
        docker("rm", "--force", "--volumes", *containers)
    if volumes := docker("volume", "ls", *mine).split():
        docker("volume", "rm", *volumes)


def system_authorities() -> str:
    """The line of [builds] by which containers trust what this machine trusts."""
    return f'ca_bundle = "{SYSTEM_CA}"\n' if SYSTEM_CA.exists() else ""


def builder_image() -> str:
    """The true builder's image, on the root file system of the tests."""
    from builder.packing import default_image  # noqa: PLC0415 - reads all of the builder's source

    tag = default_image()
    build_image(tag, base_image(), lambda _: None)
    return tag


def bridge_address() -> str:
    """This machine's address on docker's own bridge: containers find a daemon there."""
    subnet = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}")
    return str(next(ip_network(subnet).hosts()))


def jobs_of(deployment: str) -> list[str]:
    """The running containers of the engine that tell of the deployment, whoever made them: each kind ends in one."""
    running = docker("ps", "--quiet").split()
    names = (deployment, deployment.replace("_", "-"))
    return [one for one in running if any(name in _told_of(one) for name in names)]


def _told_of(container: str) -> str:
    done = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""  # it is gone
