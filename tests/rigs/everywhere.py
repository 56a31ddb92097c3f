"""All kinds of executors at once, for whole daemons: what their services need, as settings of one config."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from scalemesh.cli.image import build_image
from tests.rigs.docker import docker, need_docker
from tests.rigs.images import base_image
from tests.rigs.ministack import KEYS, REGION, ministack

DOCKER: Final = """
[executor.docker]
image = "{image}"
pull = "never"
keep_images = 1000
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
SYSTEM_CA: Final = Path("/etc/ssl/certs/ca-certificates.crt")


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
    need_docker()
    image = await asyncio.to_thread(builder_image)
    aws = await asyncio.to_thread(ministack)
    address = bridge_address()
    builds = f'listen = "{address}:{free_port(address)}"\nparallel = 4\ndisk_mib = 512\nmemory_mib = 1024\n'
    builds += system_authorities()
    tables = [DOCKER.format(image=image), ECS.format(image=image, aws=aws, region=REGION)]
    yield Settings(builds, "".join(tables), ("local", "docker", "ecs"), KEYS)


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


def free_port(address: str) -> int:
    with socket.socket() as found:
        found.bind((address, 0))
        return int(found.getsockname()[1])


def jobs_of(deployment: str) -> list[str]:
    """Names of the containers that the deployment has in the engine, whoever made them."""
    mine = f"label=scalemesh.deployment={deployment}"
    return docker("ps", "--all", "--filter", mine, "--format", "{{.Names}}").split()
