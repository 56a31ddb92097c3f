"""Which addresses a rule of a site may lead to: none of this machine, its neighbours or its provider."""

from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Final

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

#: Special-purpose ranges (IANA registries). Builds are shut out of the same; a test compares the two lists.
FORBIDDEN: Final = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"),
    *("168.63.129.16/32",),  # a provider's metadata service on a public address
    *("::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2002::/16"),
    *("fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
)
_SHUT: Final = tuple(ip_network(network) for network in FORBIDDEN)
_NAT64: Final = ip_network("64:ff9b::/96")
_LOW_32_BITS: Final = 0xFFFFFFFF


class ForbiddenAddressError(OSError):
    """Sites may not reach the address of an origin. An OSError, so that it passes through code that connects."""


class Reach:
    """What sites may reach: nothing FORBIDDEN and no address of this machine, unless the operator allows it."""

    def __init__(self, allowed: Iterable[str], own: Callable[[], Collection[IPAddress]]) -> None:
        self._allowed = tuple(ip_network(network) for network in allowed)
        self._own = own

    def permits(self, address: IPAddress) -> bool:
        """Whether a connection to *address* may be made.

        An address that carries another one (IPv4-mapped, NAT64, 6to4, Teredo) needs permission for both. An own
        address is opened by itself alone, not by the network that it lies in.
        """
        inner = _carried(address)
        if inner is not None and not self.permits(inner):
            return False
        if self._is_own(address):
            return False
        return _within(address, self._allowed) or not _within(address, _SHUT)

    def _is_own(self, address: IPAddress) -> bool:
        if address.is_loopback or address not in self._own():
            return False  # loopback is FORBIDDEN as a whole, so one network opens it
        return not any(network.num_addresses == 1 and address in network for network in self._allowed)


def own_addresses() -> set[IPAddress]:
    """All addresses of this machine's interfaces now, as the kernel lists them.

    Raises:
        OSError: /proc does not tell them.
    """
    return _own_ipv4(Path("/proc/net/fib_trie").read_text()) | _own_ipv6(Path("/proc/net/if_inet6"))


def _own_ipv4(trie: str) -> set[IPAddress]:
    found: set[IPAddress] = set()
    leaf = ""
    for line in trie.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            leaf = words[1]
        elif words == ["/32", "host", "LOCAL"]:
            found.add(IPv4Address(leaf))
    return found


def _own_ipv6(table: Path) -> set[IPAddress]:
    if not table.exists():  # a kernel without IPv6
        return set()
    return {IPv6Address(bytes.fromhex(line.split()[0])) for line in table.read_text().splitlines()}


def _carried(address: IPAddress) -> IPv4Address | None:
    """The IPv4 address that traffic to *address* would be turned into on its way."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & _LOW_32_BITS)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def _within(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
