"""A registry with one tiny image, for engines of this machine: they take plain HTTP from its loopback address."""

import asyncio
import base64
import gzip
import hashlib
import io
import json
import platform
import secrets
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

_TYPES: Final = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_CODES: Final = {404: "MANIFEST_UNKNOWN", 429: "TOOMANYREQUESTS", 503: "UNAVAILABLE"}
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


class Registry:
    """Asks for one user's password. Holds its layer back while ``flowing`` is not set.

    ``broken`` are statuses that are answered instead: for ``manifests``, or for the image's ``config``.
    """

    def __init__(self, labels: Mapping[str, str], user: str, password: str) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.asked_for_layer = asyncio.Event()
        self.pulls = 0
        self.broken: dict[str, int] = {}
        self.address = ""
        self._entry = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self._manifest, self._blobs = _image(labels)

    @property
    def image(self) -> str:
        return f"{self.address}/builders:1"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != self._entry:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="a test"'})
        kind, _, name = request.path.removeprefix("/v2/builders/").partition("/")
        part = "config" if self._blobs.get(name, b"").startswith(b"{") else kind
        if part in self.broken:
            told = {"code": _CODES[self.broken[part]], "message": _CODES[self.broken[part]].lower().replace("_", " ")}
            return web.json_response({"errors": [told]}, status=self.broken[part])
        if kind == "manifests":
            self.pulls += 1
            headers = {"Content-Type": _TYPES, "Docker-Content-Digest": _digest(self._manifest)}
            return web.Response(body=self._manifest, headers=headers)
        if kind == "blobs" and name in self._blobs:
            if self._blobs[name][:2] == b"\x1f\x8b":
                self.asked_for_layer.set()
                await self.flowing.wait()
            return web.Response(body=self._blobs[name], content_type="application/octet-stream")
        return web.Response(status=200 if request.path == "/v2/" else 404)


@asynccontextmanager
async def serving(labels: Mapping[str, str], user: str, password: str) -> AsyncIterator[Registry]:
    registry = Registry(labels, user, password)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", registry.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        registry.address = f"127.0.0.1:{runner.addresses[0][1]}"
        yield registry
    finally:
        registry.flowing.set()
        await runner.cleanup()


def _image(labels: Mapping[str, str]) -> tuple[bytes, dict[str, bytes]]:
    """Its manifest, and its parts by digest: one folder is in it, whose name no engine has seen before."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        folder = tarfile.TarInfo(secrets.token_hex(8))
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    layer = gzip.compress(packed.getvalue(), mtime=0)
    config = json.dumps(
        {
            "architecture": _MACHINES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Labels": dict(labels), "Cmd": ["/nothing"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(packed.getvalue())]},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": _TYPES,
        "config": _part(_CONFIG, config),
        "layers": [_part(_LAYER, layer)],
    }
    return json.dumps(manifest).encode(), {_digest(config): config, _digest(layer): layer}


def _part(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(data), "digest": _digest(data)}


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
