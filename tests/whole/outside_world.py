"""A network of the tests' own: a machine that builds run on, and the world outside it, in two namespaces.

No packet leaves them: the addresses that a build must not reach are carried by the loopback interfaces in there.

    here   198.51.100.1 and fd00:2::1 (its own), 10.9.8.7, 203.0.113.9 (its own, too), loopback
    world  198.51.100.2 and fd00:2::2, and all of FORBIDDEN and ALLOWED below
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

FORBIDDEN: Final = (
    *("169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1"),
    *("168.63.129.16", "192.0.0.192", "fd00:9::1"),
)
OWN: Final = ("198.51.100.1", "10.9.8.7", "203.0.113.9", "127.0.0.1", "::1", "fd00:2::1")
ALLOWED: Final = "203.0.113.77"
PORT: Final = 80

_SERVER: Final = """
import socket, sys
server = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    client, _ = server.accept()
    client.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nreached\\n")
    client.close()
"""
_NAMES: Final = """
import socket
names = {b"good": "203.0.113.77", b"metadata": "169.254.169.254", b"inside": "127.0.0.1"}
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("10.9.8.7", 53))
print("ready", flush=True)
while True:
    asked, client = server.recvfrom(512)
    name = asked[13:13 + asked[12]].lower()
    end = asked.index(b"\\0", 12) + 5
    is_known = name in names and asked[end - 3] == 1
    head = asked[:2] + (b"\\x81\\x80" if name in names else b"\\x81\\x83") + b"\\0\\1" + bytes([0, is_known]) + bytes(4)
    answer = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\0\\0\\4" + socket.inet_aton(names[name]) if is_known else b""
    server.sendto(head + asked[12:end] + answer, client)
"""


@contextmanager
def open_world() -> Iterator[str]:
    """Make both namespaces and what answers in them; yields the name of the machine's."""
    here, world = f"sm{os.getpid()}h", f"sm{os.getpid()}w"
    with ExitStack() as stack:
        for name in (here, world):
            _run("ip", "netns", "add", name)
            stack.callback(_run, "ip", "netns", "delete", name)
        _connect(here, world)
        for name, program in ((here, _SERVER), (world, _SERVER), (here, _NAMES)):
            stack.enter_context(_serving(name, program))
        yield here


def _connect(here: str, world: str) -> None:
    _run("ip", "link", "add", "a0", "netns", here, "type", "veth", "peer", "name", "b0", "netns", world)
    own = [a for a in OWN[1:] if a not in {"127.0.0.1", "::1", "fd00:2::1"}]
    _carry(here, "a0", "198.51.100.1/24", "fd00:2::1/64", own)
    _carry(world, "b0", "198.51.100.2/24", "fd00:2::2/64", [*FORBIDDEN, ALLOWED])
    _run("ip", "-n", here, "route", "add", "default", "via", "198.51.100.2")
    _run("ip", "-n", here, "-6", "route", "add", "default", "via", "fd00:2::2")


def _carry(name: str, link: str, ipv4: str, ipv6: str, more: list[str]) -> None:
    for device in ("lo", link):
        _run("ip", "-n", name, "link", "set", device, "up")
    for address in (ipv4, ipv6):
        _run("ip", "-n", name, "addr", "add", address, "dev", link, *(["nodad"] if ":" in address else []))
    for address in more:
        bits, nodad = ("128", ["nodad"]) if ":" in address else ("32", [])
        _run("ip", "-n", name, "addr", "add", f"{address}/{bits}", "dev", "lo", *nodad)


@contextmanager
def _serving(name: str, program: str) -> Iterator[None]:
    words = ["nsenter", f"--net=/run/netns/{name}", sys.executable, "-c", program]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.kill()


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
