"""Which addresses a build must not reach: one list for routes and for the proxy."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

#: Special-purpose ranges (IANA registries) that lead to this machine, its neighbours or its provider.
FORBIDDEN: Final = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"),
    *("168.63.129.16/32",),  # a provider's metadata service on a public address
    *("::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2002::/16"),
    *("fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
)


@dataclass(frozen=True, slots=True)
class Reach:
    """What builds may reach: not *forbidden* unless *allowed*; never *own* unless allowed by itself."""

    allowed: tuple[str, ...]
    own: tuple[str, ...]

    def routes(self) -> tuple[list[str], list[str]]:
        """(networks to shut, networks to open again), for routing by longest prefix."""
        shut = [network for network in FORBIDDEN if network not in {"127.0.0.0/8", "::/96"}]
        shut += [f"{address}/{32 if '.' in address else 128}" for address in self._own_shut()]
        opened = [str(ip_network(network)) for network in self.allowed]
        return [network for network in shut if network not in opened], opened

    def permits(self, address: str) -> bool:
        """Whether a connection to *address* may be made."""
        asked = ip_address(address.partition("%")[0])
        if isinstance(asked, IPv6Address) and asked.ipv4_mapped is not None:
            asked = asked.ipv4_mapped
        if str(asked) in self._own_shut():
            return False
        if _within(asked, self.allowed):
            return True
        return not _within(asked, FORBIDDEN)

    def _own_shut(self) -> list[str]:
        single = {str(ip_network(n).network_address) for n in self.allowed if ip_network(n).num_addresses == 1}
        return [a for a in self.own if a not in single and not ip_address(a).is_loopback]


def _within(address: IPv4Address | IPv6Address, networks: Iterable[str]) -> bool:
    for text in networks:
        network = ip_network(text)
        if isinstance(network, IPv6Network) == isinstance(address, IPv6Address) and address in network:
            return True
    return False
