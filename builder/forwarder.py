"""A port on the sandbox's own 127.0.0.1 that leads to the daemon's proxy, for programs that know no unix socket.

Only where a build has no network: npm, Git and the like are told ``http://127.0.0.1:<port>`` as their proxy. Each
connection begins with the builder's greeting, which the programs never see.
"""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

_MOST_CONNECTIONS: Final = 256
_CHUNK: Final = 65536


@contextmanager
def open_forwarder(target: str, greeting: bytes = b"") -> Iterator[int]:
    """Listen until left; yields the port. *target*: ``unix:/path/of/the/proxy``; it hears *greeting* first."""
    path = target.removeprefix("unix:")
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        room = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        threading.Thread(target=_accept, args=(server, path, greeting, room), daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)


def proxy_environment(port: int) -> Mapping[str, str]:
    """What tells npm, pnpm, yarn, Git, curl, pip and Node itself to use the forwarder."""
    url = f"http://127.0.0.1:{port}"
    names = (
        *("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"),
        *("npm_config_proxy", "npm_config_https_proxy", "YARN_HTTP_PROXY", "YARN_HTTPS_PROXY"),
    )
    local = "localhost,127.0.0.1,::1"
    return dict.fromkeys(names, url) | {
        "NO_PROXY": local,
        "no_proxy": local,
        "npm_config_noproxy": local,
        "NODE_USE_ENV_PROXY": "1",
    }


def _accept(server: socket.socket, path: str, greeting: bytes, room: threading.BoundedSemaphore) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return  # closed: the build is over
        room.acquire()  # given back when the connection ends
        threading.Thread(target=_carry, args=(client, path, greeting, room), daemon=True).start()


def _carry(client: socket.socket, path: str, greeting: bytes, room: threading.BoundedSemaphore) -> None:
    try:
        with client, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as proxy:
            proxy.connect(path)
            proxy.sendall(greeting)
            back = threading.Thread(target=_copy, args=(proxy, client), daemon=True)
            back.start()
            _copy(client, proxy)
            back.join()
    except OSError:
        pass  # the daemon restarts: the program that asked tries again
    finally:
        room.release()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
