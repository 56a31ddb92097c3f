"""What the holder of a job's network shuts and opens, and in which order."""

import sys

from builder.addresses import Reach
from builder.holder import neighbours, ordered, resolvers


def test_the_narrower_network_goes_first_and_what_stands_in_both_is_open() -> None:
    rules = ordered(
        ["10.0.0.0/8", "10.1.0.5/32", "fc00::/7", "10.2.0.0/16"], ["10.1.0.0/16", "10.2.0.0/16", "fd00::/8"]
    )
    assert rules[0] == ("10.1.0.5/32", False)
    assert rules[-1] == ("10.0.0.0/8", False)
    assert set(rules[1:3]) == {("10.1.0.0/16", True), ("10.2.0.0/16", True)}
    assert len(rules) == 4


def test_the_machines_own_address_stays_shut_in_an_allowed_network() -> None:
    shut, let = Reach(allowed=("10.0.0.0/8",), own=("10.0.0.5",)).routes()
    rules = ordered(shut, let)
    assert rules.index(("10.0.0.5/32", False)) < rules.index(("10.0.0.0/8", True))


def test_gateways_and_the_networks_on_the_link_are_near() -> None:
    def hexed(address: str) -> str:
        return f"{int.from_bytes(bytes(map(int, address.split('.'))), sys.byteorder):08X}"

    rows = [("0.0.0.0", "172.18.0.1", "0.0.0.0"), ("172.18.0.0", "0.0.0.0", "255.255.0.0")]
    table = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n" + "".join(
        f"eth0 {hexed(to)} {hexed(by)} 0003 0 0 0 {hexed(mask)} 0 0 0\n" for to, by, mask in rows
    )
    assert neighbours(table) == ["172.18.0.1/32", "172.18.0.0/16"]


def test_resolvers_in_the_namespace_itself_and_those_of_ipv6_are_none_to_open() -> None:
    text = "search x\nnameserver 127.0.0.11\nnameserver fd00::1\nnameserver 192.0.2.1\nnameserver nonsense\nnameserver"
    assert resolvers(text) == ["192.0.2.1"]
