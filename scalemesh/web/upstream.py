"""The proxy of the operator's company, where builds go through the daemon's: then that one goes through it in turn.

It is what ``builds.env`` names for every build: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in either case.
"""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import unquote, urlsplit

_MOST_HEAD: Final = 16 * 1024
_USUAL_PORT: Final = 3128


class UpstreamError(Exception):
    """The company's proxy answered, and not with a connection; its text is what it said."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """One proxy and how to speak to it."""

    host: str
    port: int
    authorization: str = ""  #: of a name and password in its URL

    @classmethod
    def at(cls, url: str) -> Self | None:
        """The proxy at *url*; None where it is none that is spoken to by plain HTTP."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            return None
        who = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        secret = f"Basic {base64.b64encode(who.encode()).decode()}" if parts.username else ""
        return cls(parts.hostname, parts.port or _USUAL_PORT, secret)

    async def tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
        """Have the connection to the proxy lead to *host* from now on.

        Raises:
            UpstreamError: it refuses.
            OSError, EOFError: it went away.
        """
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        writer.write(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{self._line()}\r\n".encode())
        line, _, _ = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
        words = line.decode("latin-1").split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].startswith("2"):
            raise UpstreamError(" ".join(words[1:])[:200])

    def asking(self, host: str, port: int, request: bytes) -> bytes:
        """*request* (a head in origin form) as it is said to a proxy."""
        line, _, rest = request.partition(b"\r\n")
        method, path, version = line.split(b" ", 2)
        place = f"[{host}]" if ":" in host else host
        target = f"http://{place}:{port}".encode() + path
        return b" ".join((method, target, version)) + b"\r\n" + self._line().encode() + rest

    def _line(self) -> str:
        return f"Proxy-Authorization: {self.authorization}\r\n" if self.authorization else ""


class Upstreams:
    """Which proxy leads where."""

    def __init__(self, env: Mapping[str, str]) -> None:
        """*env*: variables as programs read them."""
        said = {name.lower().removesuffix("_proxy"): value for name, value in env.items() if _is_proxy(name) and value}
        self._straight = [name.strip().lower() for name in said.get("no", "").split(",") if name.strip()]
        self._secure = Upstream.at(said.get("https") or said.get("all", ""))
        self._plain = Upstream.at(said.get("http") or said.get("all", ""))

    def to(self, host: str, port: int, *, is_plain: bool) -> Upstream | None:
        """The proxy to ask for *host*; None: none. *is_plain*: for a request of http, not a tunnel."""
        found = self._plain if is_plain else self._secure
        is_straight = any(_holds(entry, host.lower().rstrip("."), port) for entry in self._straight)
        return None if is_straight else found


def _holds(entry: str, host: str, port: int) -> bool:
    """Whether *entry* of NO_PROXY (``*``, a host that stands for all below it too, with a port or without) is meant."""
    if entry == "*":
        return True
    name = entry.removesuffix(f":{port}").removeprefix("*").removeprefix(".")
    return host == name or host.endswith(f".{name}")


def _is_proxy(name: str) -> bool:
    return name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
