"""A small real reverse proxy, which tells the daemon of its visitors as nginx and Caddy do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

HOP_BY_HOP: Final = {"connection", "host", "transfer-encoding", "content-length", "keep-alive", "upgrade"}
WEBSOCKET: Final = "sec-websocket-"


@dataclass
class ReverseProxy:
    """Asks the daemon at *target*, coming from *address*; says that its own visitors came by *scheme*."""

    target: URL
    address: str
    scheme: str = "https"
    keeps_host: bool = True  #: or names the daemon by its address, and the visitor's host in X-Forwarded-Host alone
    url: str = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["ReverseProxy"]:
        """Serve on a port of the system's choice; ``url`` is then where."""
        connector = aiohttp.TCPConnector(local_addr=(self.address, 0))
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as self._session:
            server = web.Server(self._pass_on)
            runner = web.ServerRunner(server, shutdown_timeout=1)
            await runner.setup()
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                yield self
            finally:
                await runner.cleanup()

    async def _pass_on(self, request: web.BaseRequest) -> web.StreamResponse:
        target, headers = self.target.join(URL(request.raw_path, encoded=True)), self._headers(request)
        if request.headers.get("Upgrade") == "websocket":
            return await self._pass_socket(request, target, headers)
        async with self._session.request(
            request.method, target, headers=headers, data=await request.read(), allow_redirects=False
        ) as answer:
            kept = CIMultiDict((name, value) for name, value in answer.headers.items() if _passes(name))
            return web.Response(status=answer.status, headers=kept, body=await answer.read())

    async def _pass_socket(
        self, request: web.BaseRequest, target: URL, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        try:
            inner = await self._session.ws_connect(target, headers=headers)
        except aiohttp.WSServerHandshakeError as refused:
            return web.Response(status=refused.status)
        async with inner:
            outer = web.WebSocketResponse()
            await outer.prepare(request)
            coming = asyncio.create_task(_copy(inner, outer))
            async for _ in outer:
                pass
            coming.cancel()
            await asyncio.wait({coming})
        return outer

    def _headers(self, request: web.BaseRequest) -> CIMultiDict[str]:
        headers = CIMultiDict((name, value) for name, value in request.headers.items() if _passes(name))
        before = headers.popall("X-Forwarded-For", [])
        headers["X-Forwarded-For"] = ", ".join([*before, request.remote or ""])  # nginx: $proxy_add_x_forwarded_for
        headers["X-Forwarded-Proto"] = self.scheme
        headers["X-Forwarded-Host"] = request.host
        if self.keeps_host:
            headers["Host"] = request.host
        return headers


async def _copy(inner: aiohttp.ClientWebSocketResponse, outer: web.WebSocketResponse) -> None:
    async for message in inner:
        await outer.send_str(message.data)
    await outer.close(code=inner.close_code or 1011)


def _passes(name: str) -> bool:
    return name.lower() not in HOP_BY_HOP and not name.lower().startswith(WEBSOCKET)
