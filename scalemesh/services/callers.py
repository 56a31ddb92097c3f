"""Who a visitor is, and by which address they came: as the connection shows, or as a believed proxy says.

X-Forwarded-For, -Proto and -Host are anybody's to send. They count only where the connection itself comes from one of
``hosts.trusted_proxies``, and then:

- **For** is read from the right, each proxy having added whom it was asked by. Believed proxies are passed over; the
  first other address is the visitor, whatever stands left of it. An entry that is no address ends the walk at the
  last one that was.
- **Proto** and **Host** are single words of the proxy next to us; in a list, the rightmost is its own. One that makes
  no sense counts as not sent. What a proxy hands on unread is the visitor's word: it must set all three.

``Forwarded`` (RFC 7239) and X-Forwarded-Port are not read.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, TypeAlias

from scalemesh.bounds import proxy_network
from scalemesh.services.hosts import normal_host

Address: TypeAlias = IPv4Address | IPv6Address
HeaderLines: TypeAlias = Callable[[str, list[str]], Sequence[str]]  #: a multidict's ``getall``: by name, or the default

MAX_HOPS: Final = 32  #: proxies in a row that are passed over; whoever stands behind more is called by the last of them
MAX_ENTRY: Final = 64  #: characters of one; the longest IPv6 address with brackets and a port has 53
SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}  # Traefik tells websockets by ws

_PORT: Final = re.compile(r":[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request, as far as it is believed."""

    address: str  #: in its shortest form, IPv4 also where it came mapped into IPv6; empty for a unix socket
    scheme: str  #: that of the visitor's own connection: http or https
    host: str  #: with the port, as the visitor wrote it: not checked where it is the Host header itself

    @property
    def network(self) -> str:
        """Whose tries count together: an address; of IPv6 its /64, which is what one person is given."""
        address = _read_peer(self.address)
        if address is None or address.version == 4:
            return self.address
        return str(ip_network((int(address), 64), strict=False))


class Callers:
    """Tells the caller of a request. *trusted* are addresses and networks as ``hosts.trusted_proxies`` has them.

    An https *public_url* makes every caller's scheme https: nobody is meant to come another way.
    """

    def __init__(self, trusted: Sequence[str] = (), public_url: str | None = None) -> None:
        self._trusted = tuple(proxy_network(text) for text in trusted)
        self._is_https = (public_url or "").startswith("https://")

    def trusts(self, peer: str) -> bool:
        """Whether the other end of a connection is believed. Holds for as long as the connection does."""
        return bool(self._trusted) and self._is_trusted(_read_peer(peer))

    def of(self, peer: str, lines: HeaderLines, *, scheme: str, host: str) -> Caller:
        """The caller of a request that came from *peer*.

        *scheme* and *host* are what the connection and the request's Host header (or absolute target) say; *lines*
        gives the lines of a header, such as ``request.headers.getall``.
        """
        address = _read_peer(peer)
        if self._is_trusted(address):
            address = self._walk(address, lines("X-Forwarded-For", []))
            scheme = SCHEMES.get(_last(lines("X-Forwarded-Proto", [])).lower(), scheme)
            told = _last(lines("X-Forwarded-Host", []))
            host = told if normal_host(told) else host
        return Caller("" if address is None else str(address), "https" if self._is_https else scheme, host)

    def _is_trusted(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)

    def _walk(self, peer: Address | None, lines: Sequence[str]) -> Address | None:
        entries = ",".join(lines).rsplit(",", MAX_HOPS)[-MAX_HOPS:] if lines else []
        found = peer
        for entry in reversed(entries):
            address = _read_entry(entry.strip(" \t"))
            if address is None:
                return found
            found = address
            if not self._is_trusted(address):
                return found
        return found


def _last(lines: Sequence[str]) -> str:
    return lines[-1].rpartition(",")[2].strip(" \t") if lines else ""


def _read_peer(text: str) -> Address | None:
    """An address of the kernel's; None for the other end of a unix socket."""
    return _read_address(text.partition("%")[0])


def _read_entry(text: str) -> Address | None:
    """``192.0.2.1``, ``192.0.2.1:555``, ``2001:db8::1``, ``[2001:db8::1]`` or ``[2001:db8::1]:555``."""
    if len(text) > MAX_ENTRY:
        return None
    if text.startswith("["):
        text, bracket, rest = text[1:].partition("]")
        is_whole = bracket and ":" in text and (not rest or _PORT.fullmatch(rest))
        return _read_address(text) if is_whole else None
    if text.count(":") == 1:
        text, colon, port = text.partition(":")
        return _read_address(text) if _PORT.fullmatch(colon + port) else None
    return _read_address(text)


def _read_address(text: str) -> Address | None:
    if "%" in text:  # a zone is of one machine, and tells another nothing
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
