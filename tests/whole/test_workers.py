"""Serving processes beside the daemon: they follow a change before its call returns, and come back when they die."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.whole.daemon import RunningDaemon, running_daemon

pytestmark = pytest.mark.timeout(300)


@pytest_asyncio.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RunningDaemon]:
    async with running_daemon(tmp_path, edge="workers = 2") as opened:
        yield opened


def workers(daemon: RunningDaemon) -> list[int]:
    """Process ids of the serving processes."""
    assert daemon.process is not None
    found = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split()
    return [int(pid) for pid in found if b"scalemesh.worker" in words_of(pid)]


def words_of(pid: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


async def publish(daemon: RunningDaemon, text: str) -> str:
    deployment = await daemon.upload("shop", "prebuilt", {"index.html": text.encode(), "film.mp4": b"f" * 900_000})
    await daemon.until(deployment, "ready")
    return deployment


async def visits(daemon: RunningDaemon, path: str = "/", count: int = 16) -> set[str]:
    """What visitors on connections of their own see: enough of them to meet every process."""
    found = await asyncio.gather(*(daemon.visit("shop.localhost", path) for _ in range(count)))
    assert {status for status, _, _ in found} == {200}
    return {body for _, body, _ in found}


async def test_every_process_shows_a_promotion_before_its_call_returns(daemon: RunningDaemon) -> None:
    """Connections that were opened before it included."""
    assert len(workers(daemon)) == 2
    first = await publish(daemon, "one")
    assert await visits(daemon) == {"one"}
    second = await publish(daemon, "two")
    assert await visits(daemon) == {"two"}
    url = f"http://127.0.0.1:{daemon.port}/"
    async with aiohttp.ClientSession(headers={"Host": "shop.localhost"}) as session:
        for _ in range(20):
            for deployment, text in ((first, "one"), (second, "two")):
                await daemon.call("POST", f"/deployments/{deployment}/promote")
                answers = await asyncio.gather(*(_text(session, url) for _ in range(12)))
                assert set(answers) == {text}


async def _text(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as answer:
        return await answer.text()


async def test_files_ranges_and_missing_pages_come_from_workers_too(daemon: RunningDaemon) -> None:
    await publish(daemon, "one")
    assert await visits(daemon, "/film.mp4", 4) == {"f" * 900_000}
    assert (await daemon.visit("shop.localhost", "/film.mp4", Range="bytes=5-9"))[:2] == (206, "fffff")
    assert (await daemon.visit("shop.localhost", "/nothing.js"))[0] == 404
    assert (await daemon.visit("nobody.localhost"))[0] == 404


async def test_the_control_host_answers_by_every_process(daemon: RunningDaemon) -> None:
    for _ in range(8):
        status, body, _ = await daemon.visit("localhost", "/api/v1/health")
        assert status == 200
        assert "ok" in body


async def test_a_connection_may_go_from_a_site_to_the_control_host(daemon: RunningDaemon) -> None:
    """Pipelined even: the answers keep their order."""
    await publish(daemon, "one")
    hosts = ("shop.localhost", "shop.localhost", "localhost", "shop.localhost")
    asked = "".join(f"GET /{'api/v1/health' if h == 'localhost' else ''} HTTP/1.1\r\nHost: {h}\r\n\r\n" for h in hosts)
    last = "GET / HTTP/1.1\r\nHost: shop.localhost\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    writer.write((asked + last).encode())
    async with asyncio.timeout(60):
        answer = (await reader.read()).decode()
    writer.close()
    assert answer.count("HTTP/1.1 200 OK") == 5
    assert [part[:3] for part in answer.split("\r\n\r\n")[1:]] == ["one", "one", '{"s', "one", "one"]


async def test_a_worker_that_dies_comes_back_and_knows_what_it_missed(daemon: RunningDaemon) -> None:
    await publish(daemon, "one")
    before = workers(daemon)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await publish(daemon, "two")
    await daemon.eventually(lambda: len(workers(daemon)) == 2 and not set(workers(daemon)) & set(before))
    assert await visits(daemon) == {"two"}


async def test_a_worker_that_does_not_follow_is_dropped_and_holds_up_no_call(daemon: RunningDaemon) -> None:
    first = await publish(daemon, "one")
    await publish(daemon, "two")
    before = workers(daemon)
    os.kill(before[0], signal.SIGSTOP)
    async with asyncio.timeout(20):
        await daemon.call("POST", f"/deployments/{first}/promote")
    await daemon.eventually(lambda: before[0] not in workers(daemon) and len(workers(daemon)) == 2)
    assert await visits(daemon) == {"one"}
    assert "does not follow" in daemon.log()


async def test_workers_end_with_the_daemon_however_it_ends(daemon: RunningDaemon) -> None:
    pids = workers(daemon)
    await daemon.kill()
    await daemon.eventually(lambda: not any(b"scalemesh.worker" in words_of(str(pid)) for pid in pids))
    await daemon.start()
    pids = workers(daemon)
    await daemon.stop()
    await daemon.eventually(lambda: not any(b"scalemesh.worker" in words_of(str(pid)) for pid in pids))


async def test_visits_of_workers_are_counted(daemon: RunningDaemon) -> None:
    await publish(daemon, "one")
    await visits(daemon, count=8)

    async def counted() -> bool:
        async with daemon.session() as session, session.get("http://x/metrics") as answer:
            return 'scalemesh_visits_total{status="200"} 8.0' in await answer.text()

    await daemon.eventually(counted)
