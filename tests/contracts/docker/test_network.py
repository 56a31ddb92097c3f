"""What a job reaches, and what it does not: each way is also tried from a plain container, where it is open."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.holder import resolvers
from plugins.executors.docker import DockerExecutor
from plugins.executors.docker.recipe import Recipe
from scalemesh.errors import RefusedError, ScaleMeshError, UnreachableError
from scalemesh.values import EndCause, Network
from tests.contracts.docker.conftest import Run
from tests.contracts.executor.places.docker import DockerPlace
from tests.rigs.docker import docker
from tests.rigs.everywhere import bridge_address

pytestmark = pytest.mark.timeout(300)

#: Prints a JSON object: what became of a connection to each address. A datagram socket only asks the routes.
TRY = """
    import json, socket
    def tried(address, port, kind):
        with socket.socket(socket.AF_INET, kind) as one:
            one.settimeout(3)
            try:
                one.connect((address, port))
                return "open"
            except OSError as error:
                return type(error).__name__ if error.errno is None else os.strerror(error.errno)
    print(json.dumps({
        "service": tried("HOST", PORT, socket.SOCK_STREAM),
        "metadata": tried("169.254.169.254", 80, socket.SOCK_DGRAM),
        "private": tried("10.0.0.1", 80, socket.SOCK_DGRAM),
        "neighbour": tried("172.17.255.254", 80, socket.SOCK_DGRAM),
        "outside": tried("192.0.2.1", 80, socket.SOCK_DGRAM),
        "resolver": tried("HOST", 53, socket.SOCK_DGRAM),
        "interfaces": sorted(os.listdir("/sys/class/net")),
        "ipv6": len(open("/proc/net/if_inet6").read().splitlines()) if os.path.exists("/proc/net/if_inet6") else 0,
    }))
"""


@pytest.fixture
async def service(place: DockerPlace) -> AsyncIterator[str]:
    """A service of this machine on docker's bridge; yields the program that tries to reach it and others."""
    address = bridge_address()

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(greet, address, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield TRY.replace("HOST", address).replace("PORT", str(port))


async def seen_by(executor: DockerExecutor, place: DockerPlace, program: str, network: Network) -> dict[str, Any]:
    ref = await executor.start(replace(place.job(program), network=network))
    end = await executor.wait(ref)
    said = await asyncio.to_thread(docker, "logs", ref.where)
    await executor.stop(ref)
    assert end.cause is EndCause.OK, said
    return dict(json.loads(said))


async def test_without_us_a_container_reaches_this_machine_and_every_private_address(
    place: DockerPlace, service: str
) -> None:
    """As the attack on the network would go: what the next test sees shut is open here."""
    words = ("run", "--rm", "--entrypoint", "python3", place.config.image, "-c")
    program = "import os\n" + "\n".join(line[4:] for line in service.splitlines())
    seen = json.loads(await asyncio.to_thread(docker, *words, program))
    assert [seen[name] for name in ("service", "metadata", "private", "neighbour", "outside")] == ["open"] * 5


async def test_a_job_with_a_network_reaches_the_internet_and_nothing_near(
    executor: DockerExecutor, place: DockerPlace, service: str
) -> None:
    seen = await seen_by(executor, place, service, Network.FULL)
    near = [seen[name] for name in ("service", "metadata", "private", "neighbour", "resolver")]
    assert set(near) <= {"Network is unreachable", "No route to host"}, seen
    assert seen["outside"] == "open"
    assert seen["ipv6"] == 0


async def test_networks_that_the_operator_allows_are_reached(place: DockerPlace, service: str) -> None:
    place.config = replace(place.config, allow_networks=(f"{bridge_address()}/32",))
    async with place.open() as executor:
        seen = await seen_by(executor, place, service, Network.FULL)
    assert seen["service"] == "open"
    assert seen["neighbour"] != "open"
    assert seen["metadata"] != "open"


async def test_a_wide_network_that_is_allowed_opens_neither_this_machine_nor_other_containers(
    place: DockerPlace, service: str
) -> None:
    place.config = replace(place.config, allow_networks=("10.0.0.0/8", "172.16.0.0/12"))
    async with place.open() as executor:
        seen = await seen_by(executor, place, service, Network.FULL)
    assert seen["private"] == "open"
    assert "open" not in {seen["service"], seen["neighbour"], seen["metadata"]}


async def test_where_the_daemon_is_reached_by_its_address_nothing_else_of_that_address_is(
    place: DockerPlace, service: str
) -> None:
    """The service of this test is the daemon in one job, and a stranger on the daemon's address in the other."""
    port = int(service.partition(f'"{bridge_address()}", ')[2].partition(",")[0])
    place.config = replace(place.config, reach="url")

    async def seen_of_daemon_at(daemon: int) -> dict[str, Any]:
        job = place.job(service)
        reached = replace(job, url=f"http://{bridge_address()}:{daemon}", network=Network.FULL)
        async with place.open() as executor:
            ref = await executor.start(reached)
            await executor.wait(ref)
            said = await asyncio.to_thread(docker, "logs", ref.where)
            await executor.stop(ref)
        return dict(json.loads(said))

    assert (await seen_of_daemon_at(port))["service"] == "open"
    stranger = await seen_of_daemon_at(9)
    assert "open" not in {stranger["service"], stranger["neighbour"], stranger["resolver"]}


@pytest.mark.parametrize("network", [Network.PACKAGES, Network.NONE])
async def test_a_network_that_an_address_cannot_keep_is_refused(place: DockerPlace, network: Network) -> None:
    place.config = replace(place.config, reach="url")
    async with place.open() as executor:
        with pytest.raises(RefusedError, match="needs the daemon's socket"):
            await executor.start(replace(place.job("sys.exit(0)"), url="http://192.0.2.1", network=network))
        with pytest.raises(RefusedError, match="cannot reach the daemon") as told:
            await executor.start(replace(place.job("sys.exit(0)"), url=None, network=network))
        assert "builds.public_url" in told.value.fix
    assert await place.leftovers() == []


@pytest.mark.parametrize(
    ("holder", "error", "said"),
    [
        ("sleep 60", UnreachableError, "said nothing within 1 s"),
        ("true", UnreachableError, "said nothing"),
        ("echo the network cannot be shut: no such rule", RefusedError, "the network cannot be shut: no such rule"),
    ],
)
async def test_a_network_is_refused_only_where_it_is_said_that_it_cannot_be_shut(
    place: DockerPlace, holder: str, error: type[ScaleMeshError], said: str
) -> None:
    """One whose holder is slow may be shut in time at the next try, when the machine is less busy."""
    tag = f"scalemesh-holder-{place.owner}:1"
    container = docker("create", place.config.image)
    docker("commit", "--change", f'ENTRYPOINT ["/bin/sh", "-c", "{holder}"]', container, tag)
    docker("rm", "--volumes", container)
    place.config = replace(place.config, image=tag)
    try:
        async with DockerExecutor.open(place.config, holder_s=1) as executor:
            with pytest.raises(error) as told:
                await executor.start(replace(place.job("sys.exit(0)"), network=Network.FULL))
        assert said in told.value.why
        assert await place.leftovers() == []
    finally:
        docker("image", "rm", tag)


async def test_names_are_found_also_on_a_network_of_the_operators_own(place: DockerPlace, service: str) -> None:
    """There the engine itself resolves names, from inside the job's network: by this machine's resolvers, port 53."""
    (resolver, *_) = resolvers(Path("/etc/resolv.conf").read_text()) or pytest.skip("NOT RUN: a resolver of its own")
    name = f"scalemesh-test-{place.owner}"
    docker("network", "create", name)
    place.config = replace(place.config, bridge=name)
    program = service.replace(f'tried("{bridge_address()}", 53,', f'tried("{resolver}", 53,')
    program = program.replace('"10.0.0.1", 80', f'"{resolver}", 54')
    try:
        async with place.open() as executor:
            seen = await seen_by(executor, place, program, Network.FULL)
        assert seen["resolver"] == "open"
        assert "open" not in {seen["private"], seen["service"], seen["metadata"]}
    finally:
        docker("network", "rm", name)


def test_an_engine_elsewhere_is_shut_by_its_own_address(place: DockerPlace) -> None:
    recipe = Recipe(replace(place.config, host="tcp://203.0.113.7:2376"), 0)
    job = replace(place.job("sys.exit(0)"), url="https://203.0.113.9")
    wanted = json.loads(recipe.holder(job)["command"][1])
    assert "203.0.113.7/32" in wanted["shut"]
    assert wanted["daemon"] == "203.0.113.9:443"
    assert wanted["resolvers"] == []


@pytest.mark.parametrize("network", [Network.PACKAGES, Network.NONE])
async def test_a_job_without_a_network_of_its_own_reaches_nothing(
    executor: DockerExecutor, place: DockerPlace, service: str, network: Network
) -> None:
    seen = await seen_by(executor, place, service, network)
    assert "open" not in [seen[name] for name in ("service", "metadata", "private", "neighbour", "outside")]
    assert set(seen["interfaces"]) <= {"lo", "tunl0", "sit0"}  # some kernels show their tunnels everywhere


async def test_a_job_cannot_open_what_was_shut(run: Run, service: str) -> None:
    """Not even as root, which it is not: it has no right to change its network."""
    program = """
        import socket, struct
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
            kernel.bind((0, 0))
            kernel.send(struct.pack("IHHIIBBBBBxxBI", 28, 33, 5, 1, 0, 2, 0, 0, 0, 0, 0, 0))  # delete a rule
            print(-struct.unpack_from("i", kernel.recv(4096), 16)[0])
    """
    _, said = await run(program)
    assert said.strip() == "1"  # EPERM
