"""Holds idle connections: ``python -m tests.bench.serving.holder PORT COUNT REQUEST``.

Each asks once, reads the answer and then says nothing more. ``held N`` is printed when all do; after a line on
the standard input, ``open N`` tells how many still are, and all are closed.
"""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

BY_ADDRESS: Final = 100  #: from each address of this machine: servers bound how many one address may have


def main(arguments: Sequence[str]) -> None:
    """Hold, say so, wait, count."""
    port, count, request = int(arguments[0]), int(arguments[1]), Path(arguments[2]).read_bytes()
    held = [_opened(port, number, request) for number in range(count)]
    print(f"held {len(held)}", flush=True)
    sys.stdin.readline()
    print(f"open {sum(map(_is_open, held))}", flush=True)


def _opened(port: int, number: int, request: bytes) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(10)
    block = number // BY_ADDRESS
    connection.bind((f"127.1.{block // 200}.{1 + block % 200}", 0))
    connection.connect(("127.0.0.1", port))
    connection.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _more(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += _more(connection)
    return connection


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionResetError("the server closed a connection")
    return data


def _is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


if __name__ == "__main__":
    main(sys.argv[1:])
