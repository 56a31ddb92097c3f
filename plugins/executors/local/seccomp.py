"""The system calls that no build needs, refused by the kernel: a filter program for bubblewrap. Stdlib only.

Refused are ways around what namespaces hold: socket families that know no network namespace (a VM's vsock leads
to its host), io_uring (its operations pass no filter), and large parts of the kernel that web builds never use.
"""

import errno
import platform
import struct
from dataclasses import dataclass
from typing import Final

_FAMILIES: Final = (1, 2, 10, 16)  # unix, IPv4, IPv6, and netlink to list one's own interfaces
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000  # | errno
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_X32: Final = 0x40000000  # the second ABI of x86-64, with numbers of its own


@dataclass(frozen=True, slots=True)
class _Architecture:
    audit: int
    socket: int
    #: add_key, request_key, keyctl, perf_event_open, bpf, userfaultfd, io_uring_setup
    refused: tuple[int, ...]


_ARCHITECTURES: Final = {
    "x86_64": _Architecture(0xC000003E, 41, (248, 249, 250, 298, 321, 323, 425)),
    "aarch64": _Architecture(0xC00000B7, 198, (217, 218, 219, 241, 280, 282, 425)),
}


def program(machine: str = platform.machine()) -> bytes:
    """The filter for *machine* as the kernel reads it; empty where we do not know its numbers."""
    known = _ARCHITECTURES.get(machine)
    if known is None:
        return b""
    unknown_call = _step(_RETURN, _REFUSE | errno.ENOSYS)
    words = [
        _step(_LOAD, _ARCHITECTURE_AT),
        _step(_EQUAL, known.audit, then=1, otherwise=0),
        unknown_call,
        _step(_LOAD, _NUMBER_AT),
        _step(_AT_LEAST, _X32, then=0, otherwise=1),
        unknown_call,
    ]
    for number in known.refused:
        words += [_step(_EQUAL, number, then=0, otherwise=1), unknown_call]
    words += [_step(_EQUAL, known.socket, then=1, otherwise=0), _step(_RETURN, _ALLOW)]
    words += [_step(_LOAD, _FIRST_ARGUMENT_AT)]
    for family in _FAMILIES:
        words += [_step(_EQUAL, family, then=0, otherwise=1), _step(_RETURN, _ALLOW)]
    return b"".join([*words, _step(_RETURN, _REFUSE | errno.EAFNOSUPPORT)])


def _step(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("HBBI", code, then, otherwise, value)
