"""Calls to the daemon over TCP and unix sockets: repeats, giving up, and who sees the token."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from builder.api import Api, Contact, Refused
from builder.errors import BuildFailed, GivenUp
from builder.heartbeat import Heartbeat
from builder.life import Life


class Server:
    """Answers from a list, and notes what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = []
        self.asked: list[tuple[str, str | None, bytes]] = []
        self.address = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.path_qs, request.headers.get("Authorization"), await request.read()))
        status, body = self.answers.pop(0) if self.answers else (200, {})
        if isinstance(body, str):
            return web.Response(text=body, status=status, content_type="text/html")
        kind = "application/json" if status < 400 else "application/problem+json"
        return web.json_response(body, status=status, content_type=kind)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", served.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


async def test_a_call_is_repeated_until_it_is_taken(server: Server) -> None:
    server.answers = [(503, {}), (500, {}), (200, {"next": 2})]
    api = Api(server.address + "/below", "tok", Contact(Life()))
    assert await asyncio.to_thread(api.post, "/build/v1/lines", {"seq": 1}) == {"next": 2}
    assert server.asked == [("/below/build/v1/lines", "Bearer tok", b'{"seq":1}')] * 3
    api.close()


async def test_a_refusal_carries_the_daemons_words(server: Server) -> None:
    server.answers = [(422, {"title": "No.", "detail": "Too odd", "fix": "Be even"})]
    api = Api(server.address, "tok", Contact(Life()))
    with pytest.raises(Refused, match=r"^No\. Too odd\. Be even$"):
        await asyncio.to_thread(api.post, "/x", {})
    api.close()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 422])
async def test_what_a_proxy_on_the_way_says_is_no_answer(server: Server, status: int) -> None:
    """An ingress that is set up anew knows no such site for a moment."""
    server.answers = [(status, "<html>default backend</html>"), (200, {"cancel": False})]
    api = Api(server.address, "tok", Contact(Life()))
    assert await asyncio.to_thread(api.post, "/build/v1/heartbeat", {}) == {"cancel": False}
    api.close()


@pytest.mark.parametrize(("status", "error"), [(401, GivenUp), (409, GivenUp), (410, GivenUp), (404, Refused)])
async def test_what_the_daemon_itself_says_is_final(server: Server, status: int, error: type[Exception]) -> None:
    server.answers = [(status, {"title": "No."})]
    api = Api(server.address, "tok", Contact(Life()))
    with pytest.raises(error, match="No"):
        await asyncio.to_thread(api.post, "/x", {})
    api.close()


async def test_a_body_that_is_too_large_for_a_proxy_stays_so(server: Server) -> None:
    server.answers = [(413, "<html>too large</html>")]
    api = Api(server.address, "tok", Contact(Life()))
    with pytest.raises(Refused, match="a proxy before it, answered 413"):
        await asyncio.to_thread(api.post, "/x", {})
    api.close()


def test_a_daemon_that_stays_away_is_given_up(tmp_path: Path) -> None:
    api = Api(f"unix:{tmp_path}/none", "tok", Contact(Life(), give_up_s=0.3))
    began = time.monotonic()
    with pytest.raises(GivenUp, match="has not answered for") as raised:
        api.post("/x", {})
    assert raised.value.exit_code == 3
    assert 0.3 < time.monotonic() - began < 30


def test_a_build_that_is_given_up_does_not_go_on_trying(tmp_path: Path) -> None:
    life = Life()
    api = Api(f"unix:{tmp_path}/none", "tok", Contact(life))
    threading.Timer(0.2, life.end, [GivenUp("cancelled")]).start()
    with pytest.raises(GivenUp, match="cancelled"):
        api.post("/x", {})


def test_a_strange_address_is_named() -> None:
    with pytest.raises(GivenUp, match="neither http"):
        Api("ftp://x", "tok", Contact(Life()))


async def test_a_heartbeat_ends_the_build_when_told_to(server: Server) -> None:
    server.answers = [(200, {"cancel": False}), (200, {"cancel": True})]
    life = Life()
    Heartbeat(Api(server.address, "tok", Contact(life)), life, every_s=0.01).start()
    assert await asyncio.to_thread(life.wait, 10)
    with pytest.raises(GivenUp, match="cancelled"):
        life.check()


def test_the_first_cause_wins_and_being_given_up_goes_before_it() -> None:
    life = Life()
    life.end(BuildFailed("disk_full", "full"))
    life.end(BuildFailed("timed_out", "late"))
    with pytest.raises(BuildFailed, match="full"):
        life.check()
    life.end(GivenUp("cancelled"))
    with pytest.raises(GivenUp):
        life.check()


def test_time_counts_from_the_start_of_the_build() -> None:
    now = [100.0]
    life = Life(now=lambda: now[0])
    now[0] = 103.0
    life.limit(5)
    assert life.left_s() == 2
    life.check()
    now[0] = 105.0
    with pytest.raises(BuildFailed, match="after 5 s"):
        life.check()
