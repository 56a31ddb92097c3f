"""The daemon's proxy for builds without a network: whom it carries, to what, what it refuses and outlives."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from builder.forwarder import open_forwarder
from builder.protocol import proxy_greeting
from scalemesh.errors import ConflictError
from scalemesh.services.outgoing import Way
from scalemesh.values import DeploymentId, Network
from scalemesh.web.outlet import CONNECTIONS, CONNECTIONS_PER_BUILD, IDLE_S, Outlet, open_outlet
from scalemesh.web.upstream import Upstreams
from tests.rigs.company_proxy import company_proxy

GREETING = proxy_greeting("token", "nonce")
LOOPBACK = ("127.0.0.1/32",)


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
    async with open_outlet(folder, outlet(OneBuild(ports=ports), allowed)):
        yield


def outlet(
    build: OneBuild,
    allowed: tuple[str, ...] = LOOPBACK,
    *,
    env: Mapping[str, str] | None = None,
    connections: int = CONNECTIONS,
    per_build: int = CONNECTIONS_PER_BUILD,
    idle_s: float = IDLE_S,
) -> Outlet:
    limits = {"connections": connections, "per_build": per_build}
    return Outlet(build, allowed, Upstreams(env or {}), **limits, idle_s=idle_s)


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
    async with asyncio.timeout(30):
        for part in parts:
            writer.write(part.encode())
            said += await reader.read(4000)
        with suppress(ConnectionError):  # refused before all of it was read
            writer.write_eof()
            said += await reader.read()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return said.decode()


async def test_a_permitted_connection_is_carried_both_ways(tmp_path: Path) -> None:
    async with echo_server() as port, open_proxy(tmp_path, LOOPBACK, {port}):
        said = await ask(tmp_path, f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n", "hello", " you")
    assert said == "HTTP/1.1 200 Connected\r\n\r\nHELLO YOU"


async def test_a_plain_request_goes_on_without_the_proxys_own_headers(tmp_path: Path) -> None:
    async with echo_server() as port, open_proxy(tmp_path, LOOPBACK, {port}):
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
    async with echo_server() as port, open_proxy(tmp_path, LOOPBACK, {port}):
        assert "200 Connected" in await ask(tmp_path, f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n")


async def test_the_forwarder_leads_to_the_proxy(tmp_path: Path) -> None:
    async with echo_server() as port, open_proxy(tmp_path, LOOPBACK, {port}):
        with open_forwarder(f"unix:{tmp_path}/proxy.sock", GREETING) as local:
            reader, writer = await asyncio.open_connection("127.0.0.1", local)
            writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\nhello".encode())
            writer.write_eof()
            async with asyncio.timeout(30):
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
                async with asyncio.timeout(30):
                    assert await heard.get() == b"SCALEMESH token nonce\r\n" + words
                writer.close()
                await writer.wait_closed()


@pytest.mark.parametrize(
    "greeting", [b"", proxy_greeting("token", "other"), proxy_greeting("x", "nonce"), b"GET / HTTP/1.1\r\n"]
)
async def test_whoever_is_no_build_is_turned_away(tmp_path: Path, greeting: bytes) -> None:
    async with echo_server() as port, open_proxy(tmp_path, LOOPBACK, {port}):
        said = await ask(tmp_path, f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n", greeting=greeting)
    assert said.startswith("HTTP/1.1 407 ")


async def test_with_packages_only_their_hosts_are_reached_and_the_others_are_told(tmp_path: Path) -> None:
    async with echo_server() as port:
        build = OneBuild("localhost", "*.example.com", ports={port}, network=Network.PACKAGES)
        async with open_outlet(tmp_path, outlet(build)):
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
        async with open_outlet(tmp_path, outlet(build)):
            assert (await ask(tmp_path, f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n")).startswith("HTTP/1.1 403 ")


def test_a_star_stands_for_all_hosts_below_and_not_for_the_name_itself() -> None:
    way = Way(DeploymentId("dpl_one"), Network.PACKAGES, frozenset({"*.example.com"}), frozenset({443}))
    assert [way.refusal(host, 443) == "" for host in ("a.example.com", "a.b.example.com", "example.com", "com")] == [
        *(True, True),
        *(False, False),
    ]
    assert "port 25" in way.refusal("a.example.com", 25)


@pytest.mark.parametrize(("connections", "per_build"), [(2, 9), (9, 2)])
async def test_past_its_room_a_connection_is_told_to_come_later(
    tmp_path: Path, connections: int, per_build: int
) -> None:
    async with AsyncExitStack() as opened:
        port = await opened.enter_async_context(echo_server())
        few = outlet(OneBuild(ports={port}), connections=connections, per_build=per_build)
        await opened.enter_async_context(open_outlet(tmp_path, few))
        asked = f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n"
        async with AsyncExitStack() as held:
            for _ in range(2):
                await held.enter_async_context(connected(tmp_path, asked))
            assert (await ask(tmp_path, asked)).startswith("HTTP/1.1 503 ")
        said = ""
        async with asyncio.timeout(30):
            while not said.startswith("HTTP/1.1 200 "):  # until the two are seen to be gone
                said = await ask(tmp_path, asked)


@asynccontextmanager
async def connected(folder: Path, asked: str) -> AsyncIterator[None]:
    reader, writer = await asyncio.open_unix_connection(str(folder / "proxy.sock"))
    writer.write(GREETING + asked.encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connected\r\n\r\n"
    yield
    writer.close()
    await writer.wait_closed()


async def test_an_address_that_may_not_be_reached_is_told_in_the_log_like_a_host(tmp_path: Path) -> None:
    build = OneBuild("localhost", ports={80}, network=Network.PACKAGES)
    async with open_outlet(tmp_path, outlet(build, ())):
        assert (await ask(tmp_path, "CONNECT localhost:80 HTTP/1.1\r\n\r\n")).startswith("HTTP/1.1 403 ")
    assert [(host, "allow_networks" in why) for host, why in build.told] == [("localhost", True)]


async def test_a_refused_name_is_not_even_looked_up(tmp_path: Path) -> None:
    async with open_outlet(tmp_path, outlet(OneBuild(network=Network.PACKAGES))):
        said = await ask(tmp_path, "CONNECT no-such-name.test:443 HTTP/1.1\r\n\r\n")
    assert said.startswith("HTTP/1.1 403 ")  # else 502: no such host


async def test_behind_a_company_proxy_the_way_leads_through_it_also_to_names_that_it_alone_knows(
    tmp_path: Path,
) -> None:
    async with echo_server() as port:
        with company_proxy({"npm.company.test:443": port, "npm.company.test:80": port}) as proxy:
            address = proxy.url.replace("http://", "http://us%40er:se%3Acret@")
            env = {"HTTPS_PROXY": address, "http_proxy": address}
            async with open_outlet(tmp_path, outlet(OneBuild(ports={80, 443}), (), env=env)):
                tunnel = await ask(tmp_path, "CONNECT npm.company.test:443 HTTP/1.1\r\n\r\n", "hello")
                plain = await ask(tmp_path, "GET http://npm.company.test/x HTTP/1.1\r\nHost: a\r\n\r\n")
                unknown = await ask(tmp_path, "CONNECT other.company.test:443 HTTP/1.1\r\n\r\n")
    assert tunnel == "HTTP/1.1 200 Connected\r\n\r\nHELLO"
    assert plain.startswith("GET /X HTTP/1.1\r\n")
    assert unknown.startswith("HTTP/1.1 502 ")
    assert proxy.asked == [
        "CONNECT npm.company.test:443 HTTP/1.1",
        "GET http://npm.company.test:80/x HTTP/1.1",
        "CONNECT other.company.test:443 HTTP/1.1",
    ]
    assert proxy.authorizations == {"Basic dXNAZXI6c2U6Y3JldA=="}


@pytest.mark.parametrize("target", ["localhost", "127.0.0.1", "169.254.169.254", "[::1]"])
async def test_a_company_proxy_is_not_asked_for_what_may_not_be_reached(tmp_path: Path, target: str) -> None:
    with company_proxy({}) as proxy:
        build = OneBuild(ports={443})
        async with open_outlet(tmp_path, outlet(build, (), env={"HTTPS_PROXY": proxy.url})):
            said = await ask(tmp_path, f"CONNECT {target}:443 HTTP/1.1\r\n\r\n")
    assert said.startswith("HTTP/1.1 403 ")
    assert proxy.asked == []


async def test_hosts_of_no_proxy_are_reached_straight(tmp_path: Path) -> None:
    async with echo_server() as port:
        with company_proxy({}) as proxy:
            env = {"ALL_PROXY": proxy.url, "no_proxy": "localhost,.company.test"}
            async with open_outlet(tmp_path, outlet(OneBuild(ports={port}), env=env)):
                said = await ask(tmp_path, f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n", "hi")
    assert said.endswith("HI")
    assert proxy.asked == []


async def test_a_company_proxy_that_is_gone_is_named(tmp_path: Path) -> None:
    with company_proxy({}) as proxy:
        gone = proxy.url
    async with open_outlet(tmp_path, outlet(OneBuild(), (), env={"HTTPS_PROXY": gone})):
        said = await ask(tmp_path, "CONNECT npm.company.test:443 HTTP/1.1\r\n\r\n")
    assert said.startswith("HTTP/1.1 502 ")


@asynccontextmanager
async def slow_server(pauses: int) -> AsyncIterator[int]:
    """Gives a byte after each tenth of a second, and stops at once when whoever asked has closed a side."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(3)
        gone = asyncio.create_task(reader.read())
        for _ in range(pauses):
            if (await asyncio.wait([gone], timeout=0.1))[0]:
                break
            writer.write(b".")
        gone.cancel()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def tunnel(
    folder: Path, port: int, idle_s: float
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with open_outlet(folder, outlet(OneBuild(ports={port}), idle_s=idle_s)), asyncio.timeout(10):
        reader, writer = await asyncio.open_unix_connection(str(folder / "proxy.sock"))
        writer.write(GREETING + f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        yield reader, writer
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_long_download_goes_on_though_nothing_is_said_meanwhile(tmp_path: Path) -> None:
    """Some servers take a side that is closed for the end of all."""
    async with slow_server(12) as port, tunnel(tmp_path, port, idle_s=0.5) as (reader, writer):
        writer.write(b"get")
        assert await reader.read(-1) == b"." * 12


async def test_a_connection_on_which_nothing_passes_either_way_ends(tmp_path: Path) -> None:
    async with slow_server(12) as port, tunnel(tmp_path, port, idle_s=0.3) as (reader, _):
        assert await reader.read(-1) == b""
