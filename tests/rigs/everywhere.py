"""All kinds of executors at once, for whole daemons: what their services need, as settings of one config."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from scalemesh.cli.image import build_image
from tests.rigs.docker import docker, need_docker
from tests.rigs.images import base_image

SYSTEM_CA: Final = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True, slots=True)
class Settings:
    """Of a config: the lines of [builds], the tables of the executors, and which there are."""

    builds: str
    tables: str
    kinds: tuple[str, ...]


@asynccontextmanager
async def all_kinds() -> AsyncIterator[Settings]:
    """Start what they need."""
    need_docker()
    image = await asyncio.to_thread(builder_image)
    builds = "parallel = 4\ndisk_mib = 512\nmemory_mib = 1024\n"
    if SYSTEM_CA.exists():
        builds += f'ca_bundle = "{SYSTEM_CA}"\n'
    yield Settings(builds, f'[executor.docker]\nimage = "{image}"\npull = "never"\n', ("local", "docker"))


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
