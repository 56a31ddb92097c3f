"""Finds the addresses of an origin, and lets no socket be made to one that sites may not reach."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType

from scalemesh.edge.origins.addresses import ForbiddenAddressError, Reach

LookUp = Callable[[str, int], Awaitable[Sequence[tuple[socket.AddressFamily, str]]]]  #: host, port -> addresses

MOST_LOOK_UPS: Final = 16


class SystemLookUps:
    """The system's own way of finding addresses, in threads of its own.

    A name whose servers do not answer holds its thread for many seconds: here it holds up neither what else the
    daemon does in threads, nor its end.
    """

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(MOST_LOOK_UPS)

    async def __call__(self, host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
        """All addresses of *host*.

        Raises:
            OSError: it has none, or nobody knows.
        """
        await self._room.acquire()  # given back when the thread ends, even if nobody waits for it any more
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[tuple[socket.AddressFamily, str]]] = loop.create_future()

        def settle(addresses: list[tuple[socket.AddressFamily, str]], error: OSError | None) -> None:
            self._room.release()
            if found.done():
                return
            if error is None:
                found.set_result(addresses)
            else:
                found.set_exception(error)

        def run() -> None:
            outcome = _ask_system(host, port)
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(settle, *outcome)

        threading.Thread(target=run, name="look-up", daemon=True).start()
        return await found


class CheckedResolver(AbstractResolver):
    """Gives the connector only addresses that may be reached, so that it tries no other."""

    def __init__(self, reach: Reach, look_up: LookUp) -> None:
        self._reach, self._look_up = reach, look_up

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of *host* that may be reached.

        Raises:
            ForbiddenAddressError: it has others only.
            OSError: it has none.
        """
        found = [one for one in await self._look_up(host, port) if family in (socket.AF_UNSPEC, one[0])]
        open_ones = [one for one in found if self._reach.permits(ip_address(one[1]))]
        if found and not open_ones:
            raise ForbiddenAddressError(f"{host} leads to {found[0][1]}, which sites may not reach")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for kind, address in open_ones
        ]

    async def close(self) -> None:
        """Nothing is held."""


def checked_socket(reach: Reach, wanted: AddrInfoType) -> socket.socket:
    """A socket that will be connected to *wanted*: the last look, also at addresses that were written in numbers.

    Raises:
        ForbiddenAddressError: sites may not reach it.
    """
    family, kind, protocol, _, place = wanted
    address = str(place[0]).partition("%")[0]
    if not reach.permits(ip_address(address)):
        raise ForbiddenAddressError(f"sites may not reach {address}")
    return socket.socket(family=family, type=kind, proto=protocol)


def _ask_system(host: str, port: int) -> tuple[list[tuple[socket.AddressFamily, str]], OSError | None]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return [], error
    except UnicodeError:  # a label of more than 63 characters
        return [], OSError(f"{host} is no host name")
    return [(entry[0], str(entry[4][0]).partition("%")[0]) for entry in found], None
