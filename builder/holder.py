"""Holds the network of one job's container: shuts in it what builds may not reach, then sleeps until it is ended.

The job shares this container's network namespace but none of its capabilities, so what is shut here stays shut.
Argument: JSON, {"shut": [network...], "let": [network...], "resolvers": [address...], "daemon": "address:port" or ""}.
Prints "ready".
"""

import json
import signal
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from typing import Any, Final

from builder.netlink import Netlink
from builder.protocol import EXIT_LACKING, EXIT_OK

DNS: Final = (53,)
RESOLVERS: Final = Path("/etc/resolv.conf")
ROUTES: Final = Path("/proc/net/route")
FIRST_RULE: Final = 100


def main(words: Sequence[str]) -> int:
    """Do it; returns when it is told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_OK))  # as the first process we would not hear it else
    try:
        shut(json.loads(words[0]))
    except (OSError, ValueError, IndexError, KeyError) as error:
        sys.stdout.write(f"the network cannot be shut: {error}\n")
        return EXIT_LACKING
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        signal.pause()


def shut(wanted: dict[str, Any]) -> None:
    """Set the rules. What names ports goes first; of networks the narrower wins over the wider, as among routes."""
    near = neighbours(ROUTES.read_text())
    with Netlink() as netlink:
        priority = FIRST_RULE
        for resolver in dict.fromkeys([*resolvers(RESOLVERS.read_text()), *filter(_is_outside, wanted["resolvers"])]):
            priority = netlink.let_ports(resolver, DNS, priority)
        if wanted["daemon"]:
            address, _, port = str(wanted["daemon"]).rpartition(":")
            priority = netlink.let_ports(address, (int(port),), priority)
        for network, is_open in ordered([*wanted["shut"], *near], wanted["let"]):
            (netlink.let if is_open else netlink.shut)(network, priority)
            priority += 1


def ordered(shut: Sequence[str], let: Sequence[str]) -> list[tuple[str, bool]]:
    """(IPv4 network, whether it is open), the narrower first; one that stands in both is open."""
    known = {IPv4Network(network): False for network in shut if ":" not in network}
    known |= {IPv4Network(network): True for network in let if ":" not in network}
    return [(str(network), known[network]) for network in sorted(known, key=lambda each: -each.prefixlen)]


def neighbours(routes: str) -> list[str]:
    """Of the kernel's table of IPv4 routes: gateways, which are the engine's machine, and the networks on our link."""
    found = []
    for line in routes.splitlines()[1:]:
        network, gateway, mask = (_address(line.split()[column]) for column in (1, 2, 7))
        if gateway != IPv4Address(0):
            found.append(f"{gateway}/32")
        elif mask != IPv4Address(0):
            found.append(str(IPv4Network(f"{network}/{mask}")))
    return found


def resolvers(text: str) -> list[str]:
    """The IPv4 name servers of a resolv.conf that are not in the namespace itself."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and _is_outside(words[1]):
            found.append(words[1])
    return found[:3]  # no resolver asks more of them


def _is_outside(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return isinstance(address, IPv4Address) and not address.is_loopback


def _address(text: str) -> IPv4Address:
    """Of eight digits, as the kernel prints the bytes of its memory."""
    return IPv4Address(int(text, 16).to_bytes(4, sys.byteorder))
