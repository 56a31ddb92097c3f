"""Which addresses rules of sites may lead to, and which are this machine's own."""

import asyncio
import socket
from ipaddress import ip_address, ip_network

import pytest

from builder import addresses as of_builds
from scalemesh.edge.origins.addresses import FORBIDDEN, ForbiddenAddressError, IPAddress, Reach, own_addresses
from scalemesh.edge.origins.resolver import MOST_LOOK_UPS, CheckedResolver, SystemLookUps, checked_socket

NOTHING_OWN: list[IPAddress] = []


def reach(*allowed: str, own: tuple[str, ...] = ()) -> Reach:
    return Reach(allowed, lambda: [ip_address(address) for address in own])


def test_sites_and_builds_are_shut_out_of_the_same_networks() -> None:
    assert set(FORBIDDEN) == set(of_builds.FORBIDDEN)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
        *("192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.8", "198.18.0.1"),
        *("224.0.0.1", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
        *("::", "::1", "::127.0.0.1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "100::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:93.184.216.34"),
        *("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1"),
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)
def test_what_leads_to_this_machine_or_its_neighbours_is_shut(address: str) -> None:
    assert not reach().permits(ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.0.1", "2606:4700::1", "2a00::1"]
)
def test_public_addresses_are_open(address: str) -> None:
    assert reach().permits(ip_address(address))


def test_the_operator_opens_a_network_and_no_more() -> None:
    opened = reach("10.1.0.0/16", "fd00::/8")
    assert opened.permits(ip_address("10.1.2.3"))
    assert opened.permits(ip_address("fd12::1"))
    assert not opened.permits(ip_address("10.2.0.1"))
    assert not opened.permits(ip_address("::ffff:10.1.2.3"))


@pytest.mark.parametrize("address", ["64:ff9b::a00:1", "64:ff9b::7f00:1", "64:ff9b::cb00:7107"])
def test_opening_what_carries_ipv4_opens_no_ipv4_that_is_shut(address: str) -> None:
    opened = reach("64:ff9b::/96", own=("203.0.113.7",))
    assert opened.permits(ip_address("64:ff9b::5db8:d822"))
    assert not opened.permits(ip_address(address))


def test_an_own_address_is_opened_only_by_itself() -> None:
    own = ("203.0.113.7", "10.1.0.7", "2a00::7")
    assert not any(reach("10.0.0.0/8", own=own).permits(ip_address(address)) for address in own)
    assert not reach("::ffff:0:0/96", own=own).permits(ip_address("::ffff:203.0.113.7"))
    assert reach("10.0.0.0/8", own=own).permits(ip_address("10.1.0.8"))
    assert all(reach(*own, own=own).permits(ip_address(address)) for address in own)


def test_the_kernel_tells_this_machines_addresses() -> None:
    own = own_addresses()
    assert ip_address("127.0.0.1") in own
    for address in own:
        if address.version == 4:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind((str(address), 0))  # only an own address can be bound to


async def test_of_several_addresses_only_those_that_may_be_reached_are_tried() -> None:
    async def look_up(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
        return [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "2a00::1"), (socket.AF_INET, "93.184.216.34")]

    found = await CheckedResolver(reach(), look_up).resolve("mixed.example", 80)
    assert [one["host"] for one in found] == ["2a00::1", "93.184.216.34"]


def test_no_socket_is_made_to_a_shut_address() -> None:
    for family, place in ((socket.AF_INET, ("10.0.0.1", 80)), (socket.AF_INET6, ("fe80::1%2", 80, 0, 2))):
        with pytest.raises(ForbiddenAddressError):
            checked_socket(reach(), (family, socket.SOCK_STREAM, 0, "", place))
    checked_socket(reach(), (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("93.184.216.34", 80))).close()


async def test_the_system_finds_names_and_says_where_there_are_none() -> None:
    look_up = SystemLookUps()
    assert (socket.AF_INET, "127.0.0.1") in await look_up("localhost", 80)
    assert (socket.AF_INET, "127.0.0.1") in await look_up("0x7f000001", 80)
    with pytest.raises(OSError, match="no host name"):
        await look_up("a" * 64 + ".example", 80)


async def test_a_look_up_that_nobody_waits_for_any_more_gives_its_place_back() -> None:
    look_up = SystemLookUps()
    for _ in range(2 * MOST_LOOK_UPS):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await look_up("localhost", 80)
    async with asyncio.timeout(30):
        assert await look_up("localhost", 80)


def test_every_shut_network_is_one() -> None:
    assert all(ip_network(network) for network in FORBIDDEN)
