"""The proxy for builds without a network: what it carries, what it refuses, what it outlives."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from builder.forwarder import open_forwarder
from builder.protocol import proxy_greeting
from plugins.executors.local.proxy import open_proxy


@asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    """Says back what it hears, in capitals, and nothing more."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data.upper())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def ask(folder: Path, *parts: str) -> str:
    """Send *parts*, waiting for an answer after each; all that came back."""
    reader, writer = await asyncio.open_unix_connection(str(folder / "proxy.sock"))
    said = b""
    async with asyncio.timeout(5):
        for part in parts:
            writer.write(part.encode())
            said += await reader.read(4000)
        writer.write_eof()
        said += await reader.read()
    writer.close()
    await writer.wait_closed()
    return said.decode()


async def test_a_permitted_connection_is_carried_both_ways(tmp_path: Path) -> None:
    async with echo_server() as port, open_proxy(tmp_path, ("127.0.0.1/32",), {port}):
        said = await ask(tmp_path, f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n", "hello", " you")
    assert said == "HTTP/1.1 200 Connected\r\n\r\nHELLO YOU"


async def test_a_plain_request_goes_on_without_the_proxys_own_headers(tmp_path: Path) -> None:
    async with echo_server() as port, open_proxy(tmp_path, ("127.0.0.1/32",), {port}):
        head = f"GET http://localhost:{port}/x?y=1 HTTP/1.1\r\nHost: localhost\r\nProxy-Authorization: no\r\n\r\n"
        said = await ask(tmp_path, head)
    assert said == "GET /X?Y=1 HTTP/1.1\r\nHOST: LOCALHOST\r\nCONNECTION: CLOSE\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("CONNECT localhost:{port} HTTP/1.1", "403"),
        ("CONNECT 127.0.0.1:{port} HTTP/1.1", "403"),
        ("CONNECT [::ffff:127.0.0.1]:{port} HTTP/1.1", "403"),
        ("CONNECT 0x7f.1:{port} HTTP/1.1", "403"),
        ("CONNECT 2130706433:{port} HTTP/1.1", "403"),
        ("CONNECT 127.0.0.1:6379 HTTP/1.1", "403"),
        ("GET http://127.0.0.1:{port}/ HTTP/1.1", "403"),
        ("GET /etc/passwd HTTP/1.1", "400"),
        ("GET file:///etc/passwd HTTP/1.1", "400"),
        ("CONNECT nowhere HTTP/1.1", "400"),
        ("CONNECT a:99999 HTTP/1.1", "400"),
        ("nonsense", "400"),
    ],
)
async def test_a_forbidden_or_strange_request_is_refused(tmp_path: Path, head: str, status: str) -> None:
    async with echo_server() as port, open_proxy(tmp_path, (), {port}):
        said = await ask(tmp_path, head.format(port=port) + "\r\n\r\n")
    assert said.startswith(f"HTTP/1.1 {status} ")


async def test_a_head_without_end_is_cut_off(tmp_path: Path) -> None:
    async with open_proxy(tmp_path, ()):
        assert await ask(tmp_path, "CONNECT " + "x" * 40_000) == ""


async def test_a_successor_takes_the_sockets_place(tmp_path: Path) -> None:
    async with open_proxy(tmp_path, ()), open_proxy(tmp_path, ()):
        pass
    async with echo_server() as port, open_proxy(tmp_path, ("127.0.0.1/32",), {port}):
        assert "200 Connected" in await ask(tmp_path, f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize("greeting", [b"", proxy_greeting("token", "nonce")])
async def test_the_forwarder_leads_to_the_proxy(tmp_path: Path, greeting: bytes) -> None:
    async with echo_server() as port, open_proxy(tmp_path, ("127.0.0.1/32",), {port}):
        with open_forwarder(f"unix:{tmp_path}/proxy.sock", greeting) as local:
            reader, writer = await asyncio.open_connection("127.0.0.1", local)
            writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\nhello".encode())
            writer.write_eof()
            async with asyncio.timeout(5):
                assert await reader.read() == b"HTTP/1.1 200 Connected\r\n\r\nHELLO"
            writer.close()
            await writer.wait_closed()


async def test_a_proxy_hears_first_whose_build_it_is_for(tmp_path: Path) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.put_nowait(await reader.read())
        writer.close()

    async with await asyncio.start_unix_server(listen, tmp_path / "proxy.sock"):
        with open_forwarder(f"unix:{tmp_path}/proxy.sock", proxy_greeting("token", "nonce")) as local:
            for words in (b"CONNECT a:1 HTTP/1.1\r\n\r\n", b""):
                _, writer = await asyncio.open_connection("127.0.0.1", local)
                writer.write(words)
                writer.write_eof()
                async with asyncio.timeout(5):
                    assert await heard.get() == b"SCALEMESH token nonce\r\n" + words
                writer.close()
                await writer.wait_closed()
