"""Routes, rules and addresses of the network namespace that we are in, by rtnetlink. Stdlib only.

No ``ip`` program is needed on the machine, and a hundred routes are set in a millisecond.
"""

import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final

_RTM_NEWLINK: Final = 16
_RTM_NEWADDR: Final = 20
_RTM_GETADDR: Final = 22
_RTM_NEWROUTE: Final = 24
_RTM_NEWRULE: Final = 32

_REQUEST, _ACK, _DUMP = 1, 4, 0x300
_CREATE, _REPLACE, _EXCLUSIVE = 0x400, 0x100, 0x200
_ERROR, _DONE = 2, 3

_TABLE_MAIN: Final = 254
_UNICAST, _UNREACHABLE = 1, 7
_FR_TO_TABLE, _FR_UNREACHABLE = 1, 7
_RTA_DST, _RTA_GATEWAY = 1, 5
_FRA_DST, _FRA_PRIORITY, _FRA_IP_PROTO, _FRA_DPORT = 1, 6, 22, 24
_IFA_ADDRESS, _IFA_LOCAL = 1, 2


class Netlink:
    """One open rtnetlink socket; every change waits for the kernel's yes and raises OSError for its no."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._seq = 0

    def __enter__(self) -> "Netlink":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def bring_up(self, name: str) -> None:
        """Switch the interface *name* on."""
        up = struct.pack("BxHiII", socket.AF_UNSPEC, 0, socket.if_nametoindex(name), 1, 1)
        self._change(_RTM_NEWLINK, 0, up)

    def forbid(self, network: str) -> None:
        """Answer "unreachable" for *network* (``address/bits``), whatever other way may exist to it."""
        self._route(network, _UNREACHABLE, None)

    def allow(self, network: str, gateway: str) -> None:
        """Send *network* (``address/bits``) to *gateway*; the longest prefix wins over ``forbid``."""
        self._route(network, _UNICAST, gateway)

    def only_ports(self, address: str, ports: Iterable[int], first_priority: int) -> None:
        """Let nothing but UDP and TCP to *ports* of the IPv4 *address* out."""
        priority = self.let_ports(address, ports, first_priority)
        self.shut(f"{address}/32", priority)

    def let_ports(self, address: str, ports: Iterable[int], first_priority: int) -> int:
        """Let UDP and TCP to *ports* of the IPv4 *address* out, before rules of later priorities; returns the next."""
        priority = first_priority
        for protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP):
            for port in ports:
                narrow = _attribute(_FRA_IP_PROTO, bytes([protocol])) + _attribute(
                    _FRA_DPORT, struct.pack("HH", port, port)
                )
                self._rule(f"{address}/32", _FR_TO_TABLE, priority, narrow)
                priority += 1
        return priority

    def let(self, network: str, priority: int) -> None:
        """Let what goes to the IPv4 *network* (``address/bits``) out, before rules of later priorities."""
        self._rule(network, _FR_TO_TABLE, priority, b"")

    def shut(self, network: str, priority: int) -> None:
        """Answer "unreachable" for the IPv4 *network*, also for neighbours on the same link, before any route."""
        self._rule(network, _FR_UNREACHABLE, priority, b"")

    def addresses(self) -> list[str]:
        """Every address, IPv4 and IPv6, of every interface here."""
        self._send(_RTM_GETADDR, _DUMP, struct.pack("BxxxI", socket.AF_UNSPEC, 0))
        found: dict[str, None] = {}
        for kind, body in self._answers():
            if kind == _RTM_NEWADDR:
                for attribute, value in _attributes(body[8:]):
                    if attribute in {_IFA_ADDRESS, _IFA_LOCAL}:
                        found[socket.inet_ntop(body[0], value)] = None
        return list(found)

    def _route(self, network: str, kind: int, gateway: str | None) -> None:
        family, address, bits = _parsed(network)
        head = struct.pack("BBBBBBBBI", family, bits, 0, 0, _TABLE_MAIN, 3, 0, kind, 0)
        body = head + _attribute(_RTA_DST, address)
        if gateway is not None:
            body += _attribute(_RTA_GATEWAY, socket.inet_pton(family, gateway))
        self._change(_RTM_NEWROUTE, _CREATE | _REPLACE, body)

    def _rule(self, network: str, action: int, priority: int, more: bytes) -> None:
        _, address, bits = _parsed(network)
        head = struct.pack("BBBBBxxBI", socket.AF_INET, bits, 0, 0, _TABLE_MAIN, action, 0)
        body = head + _attribute(_FRA_DST, address)
        body += _attribute(_FRA_PRIORITY, struct.pack("I", priority)) + more
        self._change(_RTM_NEWRULE, _CREATE | _EXCLUSIVE, body)

    def _change(self, kind: int, flags: int, body: bytes) -> None:
        self._send(kind, flags | _ACK, body)
        for _ in self._answers():
            pass

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._seq += 1
        head = struct.pack("IHHII", 16 + len(body), kind, flags | _REQUEST, self._seq, 0)
        self._socket.send(head + body)

    def _answers(self) -> Iterator[tuple[int, bytes]]:
        while True:
            data = self._socket.recv(1 << 17)
            while data:
                length, kind = struct.unpack_from("IH", data)
                body, data = data[16:length], data[_aligned(length) :]
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    _raise_unless_done(body)
                    return
                yield kind, body


def _raise_unless_done(body: bytes) -> None:
    (code,) = struct.unpack_from("i", body)
    if code != 0:
        raise OSError(-code, "the kernel refused a change of the network namespace")


def _parsed(network: str) -> tuple[int, bytes, int]:
    address, _, bits = network.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address), int(bits)


def _attribute(kind: int, value: bytes) -> bytes:
    return (struct.pack("HH", 4 + len(value), kind) + value).ljust(_aligned(4 + len(value)), b"\0")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("HH", data)
        if length < 4:
            return
        yield kind, data[4:length]
        data = data[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
