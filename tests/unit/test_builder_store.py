"""A build and a store that misbehaves: what is tried again or asked for anew, and when the daemon takes the rest."""

import asyncio
import hashlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from aiohttp import web

from builder import store as store_module
from builder.errors import BuildFailed, GivenUp
from builder.job import Job, Limits, Settings, UploadSource
from builder.store import Signed
from builder.trust import authorities
from builder.upload import Sent
from tests.rigs.tls import certificate, serving
from tests.unit.builder_uploads import Build, Daemon, serving_daemon

XML = "<Error><Code>{}</Code></Error>"


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    async with serving_daemon() as served:
        yield served


@pytest.fixture
def build(tmp_path: Path) -> Build:
    (tmp_path / "index.html").write_bytes(b"page")
    return Build(tmp_path)


@pytest.fixture
def refusing() -> Iterator[str]:
    """An address where nobody listens, and nobody else can."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


DIGEST = hashlib.sha256(b"page").hexdigest()


async def test_the_store_gets_exactly_the_headers_given_and_never_our_token(build: Build, daemon: Daemon) -> None:
    assert await build.upload(daemon) == Sent(1, 4, is_direct=True)
    ((target, headers, body),) = daemon.puts
    assert (target, body) == (f"/bucket/{DIGEST}?sig=1", b"page")
    assert set(headers) == {"Host", "X-Amz-Extra", "Content-Length"}
    assert daemon.taken == {}
    assert build.said == []


async def test_many_files_and_empty_and_large_ones_arrive_whole(build: Build, daemon: Daemon) -> None:
    contents = [b"", b"x" * 3_000_000, *(b"file %d" % number for number in range(1200))]
    for number, content in enumerate(contents):
        (build.folder / f"{number}.txt").write_bytes(content)
    assert (await build.upload(daemon)).count == 1203
    assert daemon.kept == {hashlib.sha256(data).hexdigest(): data for data in (*contents, b"page")}
    assert [len(asked) for asked in daemon.asked] == [500, 500, 203]


async def test_what_is_there_already_is_a_success(build: Build, daemon: Daemon) -> None:
    daemon.answers = [(412, XML.format("PreconditionFailed"))]
    assert (await build.upload(daemon)).is_direct
    assert len(daemon.puts) == 1


@pytest.mark.parametrize(
    "answer",
    [(500, ""), (503, XML.format("SlowDown")), (429, ""), (409, ""), (400, XML.format("RequestTimeout"))],
    ids=lambda answer: str(answer[0]),
)
async def test_a_busy_store_is_asked_again(build: Build, daemon: Daemon, answer: tuple[int, str]) -> None:
    daemon.answers = [answer, answer]
    assert (await build.upload(daemon)).is_direct
    assert [target for target, _, _ in daemon.puts] == [f"/bucket/{DIGEST}?sig=1"] * 3
    assert build.said == []


async def test_a_connection_that_breaks_is_made_anew(build: Build, daemon: Daemon) -> None:
    (build.folder / "large.bin").write_bytes(b"x" * 3_000_000)
    daemon.aborts = 2
    assert (await build.upload(daemon)).is_direct
    assert len(daemon.kept) == 2


async def test_a_url_that_is_refused_is_asked_for_again(build: Build, daemon: Daemon) -> None:
    daemon.answers = [(403, XML.format("AccessDenied"))]
    assert (await build.upload(daemon)).is_direct
    assert [target for target, _, _ in daemon.puts] == [f"/bucket/{DIGEST}?sig=1", f"/bucket/{DIGEST}?sig=2"]


async def test_an_old_url_is_asked_for_again_before_it_is_used(
    build: Build, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    ages = iter((store_module.FRESH_S + 1, 0.0))
    real = store_module.signed
    monkeypatch.setattr("builder.upload.signed", lambda said: _aged(real(said), next(ages)))
    assert (await build.upload(daemon)).is_direct
    assert [target for target, _, _ in daemon.puts] == [f"/bucket/{DIGEST}?sig=2"]


async def test_a_store_that_goes_on_refusing_leaves_the_rest_to_the_daemon(build: Build, daemon: Daemon) -> None:
    for number in range(8):
        (build.folder / f"{number}.txt").write_text(str(number))
    daemon.answers = [(403, XML.format("AccessDenied"))] * 100
    assert await build.upload(daemon) == Sent(9, 12, is_direct=False)
    assert len(daemon.taken) == 9
    assert len(build.said) == 1
    assert "refuses what it is sent (403 AccessDenied), so its files go through the daemon" in build.said[0]


async def test_bytes_that_changed_fail_the_build_in_plain_words(build: Build, daemon: Daemon) -> None:
    daemon.answers = [(400, XML.format("BadDigest"))]
    files = build.files
    (build.folder / "index.html").write_bytes(b"evil")
    with pytest.raises(BuildFailed, match=r"The output changed while it was sent: 'index.html' \(its bytes changed\)"):
        await build.upload(daemon, files)
    assert daemon.taken == {}


async def test_bytes_that_are_right_and_refused_all_the_same_go_to_the_daemon(build: Build, daemon: Daemon) -> None:
    daemon.answers = [(400, XML.format("BadDigest"))] * 3
    assert not (await build.upload(daemon)).is_direct
    assert daemon.taken == {DIGEST: b"page"}


async def test_a_file_that_shrinks_while_it_is_sent_fails_the_build(build: Build, daemon: Daemon) -> None:
    large = build.folder / "large.bin"
    large.write_bytes(b"x" * 3_000_000)
    files = build.files
    large.write_bytes(b"x" * 2_000_000)
    with pytest.raises(BuildFailed, match="its size changed"):
        await build.upload(daemon, files)


async def test_a_store_out_of_reach_costs_one_line_and_its_files_go_to_the_daemon(
    build: Build, daemon: Daemon, refusing: str
) -> None:
    for number in range(20):
        (build.folder / f"{number}.txt").write_text(str(number))
    daemon.store = refusing
    async with asyncio.timeout(20):
        assert (await build.upload(daemon)).count == 21
    assert len(daemon.taken) == 21
    (line,) = build.said
    assert line.startswith(f"This build does not reach the store at {refusing} (")
    assert "so its files go through the daemon. To send them straight, let builds reach 127.0.0.1" in line


async def test_a_name_that_nobody_knows_is_a_store_out_of_reach(build: Build, daemon: Daemon) -> None:
    daemon.store = "http://store.invalid"
    assert not (await build.upload(daemon)).is_direct
    assert "does not reach the store at http://store.invalid" in build.said[0]


async def test_a_store_that_is_never_connected_costs_seconds(
    build: Build, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "TRY_S", 0.2)
    with ExitStack() as opened:
        full = opened.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # who connects now waits: nobody accepts, and there is no room to wait in
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        daemon.store = f"http://127.0.0.1:{full.getsockname()[1]}"
        assert not (await build.upload(daemon)).is_direct
    assert "timed out" in build.said[0]


async def test_a_build_without_a_network_does_not_try(build: Build, daemon: Daemon) -> None:
    build.has_network = False
    assert not (await build.upload(daemon)).is_direct
    assert daemon.puts == []
    assert build.said == [
        "This build has no network of its own, so its files go through the daemon. "
        'builds.network = "full" lets files go straight to the store'
    ]


async def test_a_daemon_without_such_a_store_gets_all_and_nothing_is_said(build: Build, daemon: Daemon) -> None:
    daemon.store = ""
    assert await build.upload(daemon) == Sent(1, 4, is_direct=False)
    assert daemon.taken == {DIGEST: b"page"}
    assert build.said == []


async def test_a_store_that_stays_away_is_waited_for_and_then_left_to_the_daemon(
    build: Build, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BACK_OFF_S", (0.0, 0.05))
    monkeypatch.setattr(store_module, "TOLD_S", 0.1)
    monkeypatch.setattr(store_module, "PATIENCE_S", 3.0)
    daemon.answers = [(503, "")] * 1000
    assert not (await build.upload(daemon)).is_direct
    assert len(build.said) == 2
    assert build.said[0].startswith("Waiting: the store at")
    assert "has not answered for" in build.said[1]


async def test_a_build_that_is_over_does_not_go_on_trying(build: Build, daemon: Daemon) -> None:
    daemon.answers = [(503, "")] * 1000
    threading.Timer(0.2, build.life.end, [GivenUp("cancelled")]).start()
    with pytest.raises(GivenUp, match="cancelled"):
        await build.upload(daemon)


async def test_an_answer_that_is_no_http_is_a_store_that_does_not_answer(
    build: Build, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_S", 0.2)
    monkeypatch.setattr(store_module, "BACK_OFF_S", (0.0, 0.1))

    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        daemon.store = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert not (await build.upload(daemon)).is_direct
    assert "is no HTTP" in build.said[0] or "closed" in build.said[0] or "reset" in build.said[0]


def test_a_store_is_trusted_by_the_systems_authorities_the_builders_and_the_jobs(tmp_path: Path) -> None:
    (tmp_path / "named").mkdir()
    named, job = certificate(tmp_path / "named", "named.example"), certificate(tmp_path, "job.example")
    found = authorities(_job(job.read_text()), {"SSL_CERT_FILE": str(named)}).get_ca_certs()
    assert all(name in str(found) for name in ("named.example", "job.example"))
    system = Path(ssl.get_default_verify_paths().openssl_cafile)
    assert not system.is_file() or len(found) > 2


async def test_a_store_behind_tls_is_used_where_its_authority_is_known(
    build: Build, daemon: Daemon, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pem = certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1")
    app = web.Application()
    app.router.add_put("/bucket/{sha256}", daemon.put)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=serving(pem)).start()
    daemon.store = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        assert not (await build.upload(daemon)).is_direct
        assert "name the store's authority in builds.ca_bundle" in build.said[0]
        daemon.taken.clear()
        build.trusts = lambda: authorities(_job(pem.read_text()), {})
        assert (await build.upload(daemon)).is_direct
    finally:
        await runner.cleanup()


async def test_a_proxy_of_the_operators_leads_to_the_store(build: Build, daemon: Daemon) -> None:
    seen = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.decode())
        await reader.readexactly(4)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(carry, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        build.environ = {"HTTP_PROXY": f"http://me:pa%20ss@127.0.0.1:{port}", "NO_PROXY": "127.0.0.1"}
        daemon.store = "http://store.example"
        assert (await build.upload(daemon)).is_direct
        assert seen[0].startswith(f"PUT http://store.example/bucket/{DIGEST}?sig=1 HTTP/1.1\r\nHost: store.example\r\n")
        assert "Proxy-Authorization: Basic bWU6cGEgc3M=" in seen[0]
        daemon.store = daemon.address
        assert (await build.upload(daemon)).is_direct
    assert len(seen) == 1


async def test_what_is_fetched_arrives_whole_or_not_at_all(build: Build, daemon: Daemon, tmp_path: Path) -> None:
    daemon.kept = {"a": b"x" * 1_000_000}
    target = Signed(f"{daemon.address}/bucket/a", {}, float("inf"))

    def fetch(max_bytes: int) -> bytes | None:
        with closing(build.store.lane()) as lane, (tmp_path / "fetched").open("w+b") as file:
            if not lane.fetch(target, file, max_bytes):
                return None
            file.seek(0)
            return file.read()

    assert await asyncio.to_thread(fetch, 1_000_000) == daemon.kept["a"]
    assert await asyncio.to_thread(fetch, 999_999) is None
    daemon.answers = [(404, XML.format("NoSuchKey"))]
    assert await asyncio.to_thread(fetch, 1_000_000) is None
    daemon.answers = [(503, ""), (503, "")]
    assert await asyncio.to_thread(fetch, 1_000_000) == daemon.kept["a"]


def _aged(given: Signed | None, age_s: float) -> Signed | None:
    assert given is not None
    return Signed(given.url, given.headers, given.asked_at - age_s)


def _job(ca_bundle: str) -> Job:
    limits = Limits(time_s=1, disk_bytes=1, pids=1, output_bytes=1, output_files=1, log_bytes=1)
    return Job(
        source=UploadSource(files=()), settings=Settings(), env={}, public_env={}, limits=limits, ca_bundle=ca_bundle
    )
