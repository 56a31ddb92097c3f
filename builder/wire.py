"""One keep-alive connection to a store: requests written, and their answers read, with as little work as can be.

http.client opens it, with TLS and through proxies, but does not do the talking: ten thousand small files pass here, and
its reading of headers alone takes more of the processor than a whole request does so (176 µs a PUT, and 62 µs here).
"""

import http.client
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Final
from urllib.parse import unquote, urlsplit

ANSWER_S: Final = 120
BLOCK_BYTES: Final = 256 * 1024
MOST_SAID: Final = 64 * 1024  #: bytes of an answer that are read; more than any error needs
_MOST_LINE: Final = 16 * 1024
_MOST_FIELDS: Final = 100


class Changed(Exception):  # noqa: N818
    """The bytes at hand are no longer as many as were announced."""


@dataclass(frozen=True, slots=True)
class Said:
    status: int
    body: bytes


class Wire:
    """Talks to the origin of *url* alone; opened when it is first needed, and again after each failure.

    Every method raises OSError for whatever goes wrong on the way.
    """

    def __init__(self, url: str, authorities: Callable[[], ssl.SSLContext], proxy: str = "") -> None:
        """*proxy*: ``http://[name:password@]host:port`` to go through."""
        self.origin = origin_of(url)
        self._host = self.origin.partition("://")[2]
        self._is_plain_proxied = bool(proxy) and url.startswith("http:")
        self._authorities, self._proxy = authorities, proxy
        self._http: http.client.HTTPConnection | None = None
        self._reader: IO[bytes] | None = None

    def connect(self, timeout_s: float) -> None:
        """Open it, unless it is."""
        if self._http is not None:
            return
        opening = self._opening(timeout_s)
        try:
            opening.connect()
            opening.sock.settimeout(ANSWER_S)
            self._reader = opening.sock.makefile("rb")
        except OSError:  # first: a certificate that does not hold is a ValueError as well
            opening.close()
            raise
        except (http.client.HTTPException, ValueError) as error:
            opening.close()
            raise OSError(str(error)) from error
        self._http = opening

    def put(self, url: str, headers: Mapping[str, str], body: IO[bytes], size: int) -> Said:
        """PUT *size* bytes of *body* with exactly *headers*, their length and their host.

        Raises:
            Changed: *body* has another size.
        """
        head = self._head("PUT", url, headers, (f"Content-Length: {size}",))
        try:
            self._send(head, body, size)
        except (BrokenPipeError, ConnectionResetError):
            return self._early()
        except OSError:
            self.close()
            raise
        return self._answered(self._said)

    def get(self, url: str, headers: Mapping[str, str], file: IO[bytes], max_bytes: int) -> Said:
        """GET; the bytes of a good answer go to *file*, and no more of them than *max_bytes*."""

        def read() -> Said:
            status, fields = self._status()
            if status != 200:
                return Said(status, self._rest(fields))
            size = int(fields.get(b"content-length", b"-1"))
            if not 0 <= size <= max_bytes:
                raise OSError(f"{size} bytes were announced, where at most {max_bytes} are taken")
            self._copy(file, size)
            self._keep(fields)
            return Said(status, b"")

        try:
            self._sock().sendall(self._head("GET", url, headers, ()))
        except OSError:
            self.close()
            raise
        return self._answered(read)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._http is not None:
            self._http.close()
        self._http = self._reader = None

    def _opening(self, timeout_s: float) -> http.client.HTTPConnection:
        parts = urlsplit(self.origin)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        via = urlsplit(self._proxy)
        to = (via.hostname or "", via.port or 80) if self._proxy else (host, port)
        if parts.scheme == "http":
            return http.client.HTTPConnection(*to, timeout=timeout_s)
        secure = http.client.HTTPSConnection(*to, timeout=timeout_s, context=self._authorities())
        if self._proxy:
            secure.set_tunnel(host, port, headers=dict(_credentials(self._proxy)))
        return secure

    def _sock(self) -> socket.socket:
        if self._http is None:
            raise OSError("not connected")
        found: socket.socket = self._http.sock
        return found

    def _head(self, method: str, url: str, headers: Mapping[str, str], more: Iterable[str]) -> bytes:
        target = url if self._is_plain_proxied else url[len(self.origin) :] or "/"
        fields = [
            f"{name}: {value}" for name, value in headers.items() if name.lower() not in {"content-length", "host"}
        ]
        if self._is_plain_proxied:
            fields += [f"{name}: {value}" for name, value in _credentials(self._proxy)]
        lines = (f"{method} {target} HTTP/1.1", f"Host: {self._host}", *fields, *more, "", "")
        return "\r\n".join(lines).encode("ascii")

    def _send(self, head: bytes, body: IO[bytes], size: int) -> None:
        sock, data = self._sock(), body.read(min(size, BLOCK_BYTES))
        sock.sendall(head + data)  # as one: a small file is one packet, or a few
        left = size - len(data)
        while left and (data := body.read(min(left, BLOCK_BYTES))):
            sock.sendall(data)
            left -= len(data)
        if left or body.read(1):
            self.close()
            raise Changed

    def _early(self) -> Said:
        """What it said before it stopped listening; that is why it did."""
        try:
            return self._answered(self._said)
        finally:
            self.close()

    def _answered(self, read: Callable[[], Said]) -> Said:
        try:
            return read()
        except ValueError as error:
            self.close()
            raise OSError(f"what it answers is no HTTP: {error}") from error
        except OSError:
            self.close()
            raise

    def _said(self) -> Said:
        status, fields = self._status()
        return Said(status, self._rest(fields))

    def _status(self) -> tuple[int, dict[bytes, bytes]]:
        while True:
            line = self._line()
            if not line.startswith(b"HTTP/1."):
                raise OSError("the connection was closed" if not line else "what it answers is no HTTP")
            status = int(line[9:12])
            fields: dict[bytes, bytes] = {}
            while (line := self._line().strip()) and len(fields) <= _MOST_FIELDS:
                name, _, value = line.partition(b":")
                fields[name.lower()] = value.strip()
            if line:
                raise OSError("too many header fields")
            if status >= 200:
                return status, fields

    def _rest(self, fields: Mapping[bytes, bytes]) -> bytes:
        """The body of an answer, or its beginning."""
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            return self._chunked(fields)
        size = int(fields.get(b"content-length", b"-1"))
        data = self._read(min(size, MOST_SAID) if size >= 0 else MOST_SAID)
        if 0 <= size == len(data):
            self._keep(fields)
        else:
            self.close()
        return data

    def _chunked(self, fields: Mapping[bytes, bytes]) -> bytes:
        data = b""
        while size := int(self._line().partition(b";")[0], 16):
            if len(data) + size > MOST_SAID:
                self.close()
                return data
            data += self._read(size)
            self._line()
        while self._line().strip():  # trailers
            pass
        self._keep(fields)
        return data

    def _copy(self, file: IO[bytes], size: int) -> None:
        while size:
            data = self._read(min(size, BLOCK_BYTES))
            if not data:
                raise OSError("the connection was closed in the middle of a file")
            file.write(data)
            size -= len(data)

    def _keep(self, fields: Mapping[bytes, bytes]) -> None:
        if fields.get(b"connection", b"").lower() == b"close":
            self.close()

    def _line(self) -> bytes:
        return self._reader.readline(_MOST_LINE) if self._reader else b""

    def _read(self, size: int) -> bytes:
        return self._reader.read(size) if self._reader else b""


def origin_of(url: str) -> str:
    """Scheme, host and port of an absolute URL."""
    return "/".join(url.split("/", 3)[:3])


def _credentials(proxy: str) -> Iterable[tuple[str, str]]:
    parts = urlsplit(proxy)
    if parts.username is None:
        return ()
    from base64 import b64encode  # noqa: PLC0415  (few builds have such a proxy)

    said = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return (("Proxy-Authorization", f"Basic {b64encode(said.encode()).decode('ascii')}"),)
