"""A program: answers whatever comes with one constant answer, by the event loop that the daemon uses. PORT BYTES"""

import asyncio
import sys
from typing import cast

import uvloop


def answer_of(size_bytes: int) -> bytes:
    """A whole answer of about so many bytes."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size_bytes + b"a" * size_bytes


class Constant(asyncio.Protocol):
    answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(self.answer)


async def serve(port: int, size_bytes: int) -> None:
    """Until the process is ended."""
    Constant.answer = answer_of(size_bytes)
    server = await asyncio.get_running_loop().create_server(Constant, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(*map(int, sys.argv[1:])))
