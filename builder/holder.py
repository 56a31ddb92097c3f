"""Holds the network of one job's container: shuts in it what builds may not reach, then sleeps until it is ended.

The job shares this container's network namespace but none of its capabilities, so what is shut here stays shut.
Argument: JSON, {"shut": [network...], "let": [network...], "daemon": "address:port" or ""}. Prints "ready".
"""

import json
import signal
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any, Final

from builder.netlink import Netlink
from builder.protocol import EXIT_LACKING, EXIT_OK

DNS: Final = (53,)
RESOLVERS: Final = Path("/etc/resolv.conf")
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
    """Set the rules, the narrower before the wider."""
    with Netlink() as netlink:
        priority = FIRST_RULE
        for resolver in resolvers(RESOLVERS.read_text()):
            priority = netlink.let_ports(resolver, DNS, priority)
        if wanted["daemon"]:
            address, _, port = str(wanted["daemon"]).rpartition(":")
            priority = netlink.let_ports(address, (int(port),), priority)
        for network in _of_version_4(wanted["let"]):
            netlink.let(network, priority)
            priority += 1
        for network in _of_version_4(wanted["shut"]):
            netlink.shut(network, priority)
            priority += 1


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


def _of_version_4(networks: Sequence[str]) -> list[str]:
    """The namespace has no IPv6."""
    return [network for network in networks if ":" not in network]
