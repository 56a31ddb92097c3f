"""The proxy of a company: an ordinary HTTP proxy that alone knows the way, and remembers what it was asked."""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class CompanyProxy:
    """*ways*: where a name with its port leads; nothing else is known."""

    ways: Mapping[str, int]
    url: str = ""
    asked: list[str] = field(default_factory=list)  #: first lines of requests
    authorizations: set[str] = field(default_factory=set)  #: what was shown to it

    def carry(self, client: socket.socket) -> None:
        """One connection, from its request to its end."""
        head, rest = _head(client)
        line, _, fields = head.partition(b"\r\n")
        self.asked.append(line.decode())
        named = (each.partition(b":") for each in fields.split(b"\r\n"))
        self.authorizations |= {value.decode().strip() for name, _, value in named if name == b"Proxy-Authorization"}
        method, target, version = line.decode().split()
        place, slash, path = target.removeprefix("http://").partition("/")
        port = self.ways.get(place if ":" in place else f"{place}:80")
        if port is None:
            client.sendall(b"HTTP/1.1 502 Unknown\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", port)) as far:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Go on\r\n\r\n")
            else:
                kept = [
                    each for each in fields.split(b"\r\n") if not each.lower().startswith((b"proxy-", b"connection:"))
                ]
                first = f"{method} {slash}{path} {version}".encode()
                far.sendall(b"\r\n".join([first, *kept, b"Connection: close", b"", b""]))
            far.sendall(rest)
            back = threading.Thread(target=_copy, args=(far, client))
            back.start()
            _copy(client, far)
            back.join()


@contextmanager
def company_proxy(ways: Mapping[str, int]) -> Iterator[CompanyProxy]:
    """One that runs until left."""
    proxy, threads = CompanyProxy(ways), []
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy.url = f"http://127.0.0.1:{server.getsockname()[1]}"

        def accept() -> None:
            with suppress(OSError):  # shut down: the test is over
                while True:
                    client, _ = server.accept()
                    threads.append(threading.Thread(target=_served, args=(proxy, client)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield proxy
        finally:
            server.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def _served(proxy: CompanyProxy, client: socket.socket) -> None:
    with client, suppress(OSError, ValueError):
        client.settimeout(20)
        proxy.carry(client)


def _head(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(65536)
        if not part:
            raise OSError("no request")
        data += part
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
