"""Ports for what a test starts a moment later."""

import random
import socket


def free_port(address: str = "127.0.0.1") -> int:
    """One that nothing holds now, and that the kernel gives to nobody who asks for any.

    Those that it gives away itself begin above 32,000: one of them may be another's before it is bound.
    """
    while True:
        port = random.randrange(20_000, 29_000)
        if is_free(port, address):
            return port


def is_free(port: int, address: str = "127.0.0.1") -> bool:
    with socket.socket() as asked:
        try:
            asked.bind((address, port))
        except OSError:
            return False
        return True
