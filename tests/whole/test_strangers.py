"""What strangers send to the one port of a real daemon: who is answered by what, and what it costs."""

import asyncio
import gzip

from tests.whole.daemon import RunningDaemon

SESSION = b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
HEALTH = "/api/v1/health HTTP/1.1\r\nConnection: close\r\nHost: "


async def ask(daemon: RunningDaemon, data: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to raw *data*."""
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        writer.write(data)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]


async def test_no_trick_with_the_host_shows_the_api_to_another_host_or_hides_it(daemon: RunningDaemon) -> None:
    for target, host, status in (
        ("", "localhost", 200),
        ("", "LOCALHOST.:99", 200),
        ("", "site.localhost", 404),
        ("", "localhost.evil.example", 404),
        ("", "127.0.0.1", 404),
        ("", "localhost@evil", 404),
        ("", "", 404),
        ("http://localhost", "site.localhost", 404),
        ("http://localhost", "evil.example", 404),
        ("", "localhost\r\nHost: site.localhost", 400),
        ("", "site.localhost\r\nHost: localhost", 400),
        ("", "site.localhost\r\nX-Forwarded-Host: localhost", 404),
    ):
        found, body = await ask(daemon, f"GET {target}{HEALTH}{host}\r\n\r\n".encode())
        assert (found, b'"status"' in body) == (status, status == 200), (target, host)
    assert (await ask(daemon, b"POST /build/v1/claim HTTP/1.0\r\nHost: site.localhost\r\n\r\n"))[0] == 404


async def test_a_body_is_taken_as_it_came(daemon: RunningDaemon) -> None:
    """Content-Length bounds what is written and read: nothing swells on its way in."""
    sent = gzip.compress(b'{"code": "x"}')
    status, body = await ask(
        daemon, SESSION + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(sent) + sent
    )
    assert (status, b"no JSON" in body) == (400, True)


async def test_who_does_not_speak_http_is_told_so_and_fills_no_log(daemon: RunningDaemon) -> None:
    for said in (b"\x16\x03\x01\x02\x00\x01\x00", b"SSH-2.0-x\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n"):
        assert (await ask(daemon, said))[0] == 400
    status, _ = await ask(daemon, SESSION + b"Origin: http://[\r\nContent-Length: 2\r\n\r\n{}")
    assert status == 403
    assert "Traceback" not in daemon.log()
