"""A store on disk that builders reach by URLs of their own: a real server that takes what was signed, and no more."""

import hashlib
import hmac
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from plugins.stores.disk import DiskConfig, DiskStore
from scalemesh.errors import RefusedError
from scalemesh.ports import Direct
from scalemesh.values import Blob, DeploymentId, Digest, SignedRequest
from tests.contracts.life import once


class DirectDisk(DiskStore):
    """Vouches for what it takes, as S3 does: bound to digest and length, once, for a while."""

    address = ""
    life_s = 900.0
    most_bytes = 1 << 30  #: of one upload by URL
    signed = 0  #: URLs given
    key = os.urandom(16)

    async def upload_urls(
        self, deployment: DeploymentId, attempt: int, blobs: Sequence[Blob]
    ) -> Sequence[SignedRequest | None]:
        self.signed += len(blobs)
        until = time.time() + self.life_s
        return [
            self._request("staged", deployment, str(attempt), blob.sha256, str(blob.size_bytes), f"{until:.0f}")
            if blob.size_bytes <= self.most_bytes
            else None
            for blob in blobs
        ]

    async def download_url(self, sha256: Digest) -> SignedRequest:
        return self._request("blobs", sha256)

    async def take(self, request: web.Request) -> web.Response:
        deployment, attempt, sha256, size, until = (
            request.match_info[name] for name in ("deployment", "attempt", "sha256", "size", "until")
        )
        mark = self._mark("staged", deployment, attempt, sha256, size, until)
        data = await request.read()
        if request.query.get("mark") != mark or len(data) != int(size) or time.time() > float(until):
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        blob, of = Blob(sha256=Digest(sha256), size_bytes=int(size)), DeploymentId(deployment)
        if blob.sha256 in await self.received(of, int(attempt)):
            return web.Response(status=412)
        try:
            await self.receive(of, int(attempt), blob, once(data))
        except RefusedError:
            return web.Response(status=400, text="<Error><Code>BadDigest</Code></Error>")
        return web.Response()

    def _request(self, *words: str) -> SignedRequest:
        return SignedRequest(
            url=f"{self.address}/{'/'.join(words)}?mark={self._mark(*words)}", headers={"Content-Type": "x/y"}
        )

    def _mark(self, *words: str) -> str:
        return hmac.new(self.key, "/".join(words).encode(), hashlib.sha256).hexdigest()


@asynccontextmanager
async def open_direct(folder: Path) -> AsyncIterator[DirectDisk]:
    async with DirectDisk.open(DiskConfig(path=folder / "store")) as store:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_put("/staged/{deployment}/{attempt}/{sha256}/{size}/{until}", store.take)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        store.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield store
        finally:
            await runner.cleanup()


async def put(target: SignedRequest | None, data: bytes) -> int:
    """What a builder that does as it likes does with a URL."""
    assert target is not None
    headers = {name: value for name, value in target.headers.items() if name.lower() != "content-length"}  # its own
    async with aiohttp.ClientSession() as session, session.put(target.url, data=data, headers=headers) as answer:
        return answer.status


if TYPE_CHECKING:
    _fits: type[Direct] = DirectDisk
