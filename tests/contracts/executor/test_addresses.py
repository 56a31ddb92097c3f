"""Which addresses a build may reach: the same answer for routes and for the proxy."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.addresses import FORBIDDEN, Reach

CLOSED = Reach(allowed=(), own=("198.51.100.1", "127.0.0.1", "::1", "2001:db8:5::1"))


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.31.0.1", "192.168.0.1", "100.100.100.200"),
        *("169.254.169.254", "224.0.0.1", "255.255.255.255", "198.51.100.1", "168.63.129.16"),
        *("::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254"),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8:5::1", "::7f00:1", "::ffff:198.51.100.1"),
    ],
)
def test_an_address_of_the_machine_or_its_neighbours_is_shut(address: str) -> None:
    assert not CLOSED.permits(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "172.32.0.1", "11.0.0.1"])
def test_an_address_of_the_outside_is_open(address: str) -> None:
    assert CLOSED.permits(address)


def test_an_allowed_network_is_opened_and_nothing_beside_it() -> None:
    reach = Reach(allowed=("10.1.0.0/16",), own=("10.1.0.5",))
    assert reach.permits("10.1.2.3")
    assert not reach.permits("10.2.0.1")


def test_the_machines_own_address_is_opened_only_by_its_very_name() -> None:
    assert not Reach(allowed=("10.1.0.0/16",), own=("10.1.0.5",)).permits("10.1.0.5")
    assert Reach(allowed=("10.1.0.5/32",), own=("10.1.0.5",)).permits("10.1.0.5")


@given(st.ip_addresses(v=4).map(str), st.sampled_from(["10.1.0.0/16", "192.168.7.0/24", "10.0.0.0/8", ""]))
def test_routes_and_proxy_agree(address: str, allowed: str) -> None:
    """The longest prefix wins among routes; loopback has no route, since the namespace has one of its own."""
    reach = Reach(allowed=(allowed,) if allowed else (), own=("192.168.7.9", "203.0.113.5"))
    shut, opened = reach.routes()
    assert routed(address, shut, opened) == reach.permits(address) or ip_address(address).is_loopback


@given(st.sampled_from([n for n in FORBIDDEN if ":" not in n and not n.startswith("127.")]), st.data())
def test_every_forbidden_network_has_a_route_that_shuts_it(network: str, data: st.DataObject) -> None:
    size = ip_network(network).num_addresses
    address = ip_network(network)[data.draw(st.integers(0, size - 1))]
    shut, opened = CLOSED.routes()
    assert not routed(str(address), shut, opened)


def routed(address: str, shut: list[str], opened: list[str]) -> bool:
    """What a routing table makes of it."""
    matching = [
        (ip_network(text).prefixlen, is_open)
        for texts, is_open in ((shut, False), (opened, True))
        for text in texts
        if ip_network(text).version == 4 and ip_address(address) in ip_network(text)
    ]
    return max(matching, default=(0, True))[1]
