"""The daemon's proxy for builds without a network: whom it carries, to what, what it refuses and outlives."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from builder.forwarder import open_forwarder
from builder.protocol import proxy_greeting
from scalemesh.errors import ConflictError
from scalemesh.services.outgoing import Way
from scalemesh.values import DeploymentId, Network
from scalemesh.web.outlet import open_outlet

GREETING = proxy_greeting("token", "nonce")


class OneBuild:
    """Lets one build in, by its token and nonce."""

    def __init__(self, *hosts: str, ports: Collection[int] = (443,), network: Network = Network.FULL) -> None:
        self._way = Way(DeploymentId("dpl_one"), network, frozenset(hosts), frozenset(ports))
        self.told: list[tuple[str, str]] = []

    async def admit(self, token: str, nonce: str) -> Way:
        if (token, nonce) != ("token", "nonce"):
            raise ConflictError("another builder has attempt 1 of dpl_one")
        return self._way

    async def tell(self, way: Way, host: str, why: str) -> None:
        assert way is self._way
        self.told.append((host, why))


@asynccontextmanager
async def open_proxy(folder: Path, allowed: tuple[str, ...], ports: Collection[int] = (443,)) -> AsyncIterator[None]:
    async with open_outlet(folder, OneBuild(ports=ports), allowed):
        yield


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


async def ask(folder: Path, *parts: str, greeting: bytes = GREETING) -> str:
    """Send *parts*, waiting for an answer after each; all that came back."""
    reader, writer = await asyncio.open_unix_connection(str(folder / "proxy.sock"))
    writer.write(greeting)
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


async def test_the_forwarder_leads_to_the_proxy(tmp_path: Path) -> None:
    async with echo_server() as port, open_proxy(tmp_path, ("127.0.0.1/32",), {port}):
        with open_forwarder(f"unix:{tmp_path}/proxy.sock", GREETING) as local:
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


@pytest.mark.parametrize(
    "greeting", [b"", proxy_greeting("token", "other"), proxy_greeting("x", "nonce"), b"GET / HTTP/1.1\r\n"]
)
async def test_whoever_is_no_build_is_turned_away(tmp_path: Path, greeting: bytes) -> None:
    async with echo_server() as port, open_proxy(tmp_path, ("127.0.0.1/32",), {port}):
        said = await ask(tmp_path, f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n", greeting=greeting)
    assert said.startswith("HTTP/1.1 407 ")


async def test_with_packages_only_their_hosts_are_reached_and_the_others_are_told(tmp_path: Path) -> None:
    async with echo_server() as port:
        build = OneBuild("localhost", "*.example.com", ports={port}, network=Network.PACKAGES)
        async with open_outlet(tmp_path, build, ("127.0.0.1/32",)):
            assert "200 Connected" in await ask(tmp_path, f"CONNECT LOCALHOST:{port} HTTP/1.1\r\n\r\n")
            for host in ("127.0.0.1", "example.com", "evil-example.com", "a.example.com.evil.test"):
                said = await ask(tmp_path, f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n")
                assert said.startswith("HTTP/1.1 403 "), host
            assert [host for host, _ in build.told] == [
                "127.0.0.1",
                "example.com",
                "evil-example.com",
                "a.example.com.evil.test",
            ]


async def test_with_no_network_nothing_is_reached(tmp_path: Path) -> None:
    async with echo_server() as port:
        build = OneBuild("localhost", ports={port}, network=Network.NONE)
        async with open_outlet(tmp_path, build, ("127.0.0.1/32",)):
            assert (await ask(tmp_path, f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n")).startswith("HTTP/1.1 403 ")


def test_a_star_stands_for_all_hosts_below_and_not_for_the_name_itself() -> None:
    way = Way(DeploymentId("dpl_one"), Network.PACKAGES, frozenset({"*.example.com"}), frozenset({443}))
    assert [way.refusal(host, 443) == "" for host in ("a.example.com", "a.b.example.com", "example.com", "com")] == [
        *(True, True),
        *(False, False),
    ]
    assert "port 25" in way.refusal("a.example.com", 25)
