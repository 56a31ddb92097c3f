"""A small daemon that speaks the builder's protocol for real, over a unix socket, with the faults of bad days."""

import asyncio
import hashlib
import json
import os
import ssl
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from builder.packing import fingerprint
from builder.protocol import MAX_BLOCK_BYTES, MAX_BLOCK_LINES, MAX_DIGESTS, MAX_LINE_BYTES, STEPS, STREAMS

ROOT = Path(__file__).parents[2]
LIMITS = {
    "time_s": 150,
    "disk_bytes": 2_000_000_000,
    "pids": 512,
    "output_bytes": 50_000_000,
    "output_files": 5_000,
    "log_bytes": 4_000_000,
}
#: npm waits five minutes for an answer that has got lost, which is longer than a test may take.
IMPATIENT = {
    "npm_config_fetch_timeout": "20000",
    "npm_config_fetch_retry_mintimeout": "500",
    "npm_config_fetch_retry_maxtimeout": "2000",
}
SETTINGS = {
    "root_directory": "",
    "framework": None,
    "install_command": None,
    "build_command": None,
    "output_directory": None,
    "node_version": None,
}


@dataclass
class FakeDaemon:
    """Holds what it was told; ``faults`` are the statuses that the next calls of a path are answered with."""

    socket: Path
    source: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    public_env: dict[str, str] = field(default_factory=dict)
    operator_env: dict[str, str] = field(default_factory=lambda: dict(IMPATIENT))
    uploads: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    cancels: bool = False
    builder: str = field(default_factory=fingerprint)
    ca_bundle: str | None = None

    lines: list[list[Any]] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    facts: dict[str, Any] | None = None
    cache_rules: dict[str, Any] = field(
        default_factory=lambda: {"reads": True, "writes": True, "archive_bytes": 1 << 28}
    )
    cache: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)  # kind and key -> entry
    archives: dict[str, bytes] = field(default_factory=dict)
    finished: dict[str, Any] | None = None
    nonces: set[str] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 30, middlewares=[self._faulty])
        app.add_routes(
            [
                web.get("/build/v1/hello", self._hello),
                web.post("/build/v1/claim", self._claim),
                web.post("/build/v1/lines", self._lines),
                web.post("/build/v1/heartbeat", self._heartbeat),
                web.post("/build/v1/blobs", self._blobs),
                web.put("/build/v1/blobs/{sha256}", self._put),
                web.get("/build/v1/source/{sha256}", self._source),
                web.get("/build/v1/cache", self._find),
                web.post("/build/v1/cache", self._keep),
                web.post("/build/v1/cache/blobs", self._place),
                web.get("/build/v1/cache/blobs/{sha256}", self._archive),
                web.put("/build/v1/cache/blobs/{sha256}", self._put_archive),
                web.post("/build/v1/finish", self._finish),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()

    async def listen(self, address: str, context: ssl.SSLContext) -> int:
        """Listen for TLS as well; returns the port."""
        assert self._runner is not None
        await web.TCPSite(self._runner, address, 0, ssl_context=context).start()
        return int(self._runner.addresses[-1][1])

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
        self.socket.unlink(missing_ok=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(120):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    @property
    def text(self) -> str:
        return "\n".join(line[3] for line in self.lines)

    @property
    def printed(self) -> list[str]:
        """What the commands printed, without our own lines (which show the commands)."""
        return [text for _, stream, _, text in self.lines if stream == "out"]

    def files(self) -> dict[str, bytes]:
        assert self.finished is not None
        return {path: self.blobs[sha256] for path, sha256, _ in self.finished["files"]}

    @web.middleware
    async def _faulty(self, request: web.Request, handler: Any) -> web.StreamResponse:
        name = request.path.split("/")[3]
        assert name == "hello" or request.headers["Authorization"] == "Bearer let-me-in"
        if self.faults[name]:
            await request.read()
            status = self.faults[name].pop(0)
            if status == 0:
                assert request.transport is not None
                request.transport.abort()
            return problem({"title": "A fault", "detail": "as ordered", "code": "x"}, status or 500)
        response: web.StreamResponse = await handler(request)
        self.changed.set()
        return response

    async def _hello(self, _: web.Request) -> web.Response:
        return web.json_response({"builder": self.builder})

    async def _claim(self, request: web.Request) -> web.Response:
        self.nonces.add((await request.json())["nonce"])
        return web.json_response(
            {
                "deployment": "dpl_1",
                "attempt": 1,
                "source": self.source,
                "settings": SETTINGS | self.settings,
                "env": self.env,
                "public_env": self.public_env,
                "operator_env": self.operator_env,
                "limits": LIMITS | self.limits,
                "nodes": [],
                "cache": self.cache_rules,
                "ca_bundle": self.ca_bundle,
            }
        )

    async def _lines(self, request: web.Request) -> web.Response:
        data = await request.read()
        block = json.loads(data)
        assert len(data) <= MAX_BLOCK_BYTES
        assert len(block["lines"]) <= MAX_BLOCK_LINES
        if block["seq"] not in self.seqs:
            self.seqs.append(block["seq"])
            self.lines += block["lines"]
        for _, stream, step, text in block["lines"]:
            assert stream in STREAMS
            assert step in STEPS
            assert len(text.encode()) <= MAX_LINE_BYTES
        return web.json_response({"next": block["seq"] + 1})

    async def _heartbeat(self, request: web.Request) -> web.Response:
        self.facts = (await request.json()).get("facts") or self.facts
        return web.json_response({"cancel": self.cancels})

    async def _blobs(self, request: web.Request) -> web.Response:
        digests = (await request.json())["digests"]
        assert len(digests) <= MAX_DIGESTS
        missing = [each["sha256"] for each in digests if each["sha256"] not in self.blobs]
        return web.json_response(
            {"missing": [{"sha256": s, "put": {"url": f"/build/v1/blobs/{s}", "headers": {}}} for s in missing]}
        )

    async def _put(self, request: web.Request) -> web.Response:
        data = await request.read()
        if hashlib.sha256(data).hexdigest() != request.match_info["sha256"]:
            return problem({"title": "Other bytes than named"}, 422)
        self.blobs[request.match_info["sha256"]] = data
        return web.Response(status=204)

    async def _source(self, request: web.Request) -> web.Response:
        return web.Response(body=self.uploads[request.match_info["sha256"]])

    async def _find(self, request: web.Request) -> web.Response:
        kind, key, prefix = (request.query[name] for name in ("kind", "key", "prefix"))
        near = [entry for (k, name), entry in self.cache.items() if k == kind and prefix and name.startswith(prefix)]
        entry = self.cache.get((kind, key)) or (near[-1] if near else None)
        if entry:
            entry = {**entry, "get": {"url": f"/build/v1/cache/blobs/{entry['sha256']}", "headers": {}}}
        return web.json_response({"entry": entry})

    async def _place(self, request: web.Request) -> web.Response:
        asked = await request.json()
        put = {"url": f"/build/v1/cache/blobs/{asked['sha256']}", "headers": {}}
        return web.json_response({"put": None if asked["sha256"] in self.archives else put})

    async def _archive(self, request: web.Request) -> web.Response:
        return web.Response(body=self.archives[request.match_info["sha256"]])

    async def _put_archive(self, request: web.Request) -> web.Response:
        data = await request.read()
        assert hashlib.sha256(data).hexdigest() == request.match_info["sha256"]
        self.archives[request.match_info["sha256"]] = data
        return web.Response(status=204)

    async def _keep(self, request: web.Request) -> web.Response:
        entry = await request.json()
        assert len(self.archives[entry["sha256"]]) == entry["size"]
        self.cache[entry["kind"], entry["key"]] = entry
        return web.json_response({"kept": True})

    async def _finish(self, request: web.Request) -> web.Response:
        self.finished = await request.json()
        return web.json_response({"state": "publishing"})


def problem(body: dict[str, str], status: int) -> web.Response:
    return web.json_response(body, status=status, content_type="application/problem+json")


@asynccontextmanager
async def daemon(folder: Path, source: dict[str, Any], **what: Any) -> AsyncIterator[FakeDaemon]:
    """A started daemon that wants *source* built."""
    fake = FakeDaemon(socket=folder / "d.sock", source=source, **what)
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()


def files_source(**files: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """An uploaded source of these files (``__`` in a name stands for a dot, ``___`` for a slash)."""
    named = {name.replace("___", "/").replace("__", "."): text.encode() for name, text in files.items()}
    return uploaded(named)


def uploaded(named: dict[str, bytes]) -> tuple[dict[str, Any], dict[str, bytes]]:
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in named.items()}
    rows = [[path, digests[path], len(data), False] for path, data in named.items()]
    return {"kind": "upload", "files": rows}, {digests[path]: data for path, data in named.items()}


@asynccontextmanager
async def builder_process(
    work: Path, socket: Path, extra: dict[str, str] | None = None, inside: Sequence[str] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The real builder, as the executor starts it (without a sandbox unless *extra* says so), *inside* of a program."""
    reader, writer = os.pipe()
    os.write(writer, b"let-me-in")
    os.close(writer)
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "SCALEMESH_URL": f"unix:{socket}",
        "SCALEMESH_TOKEN_FD": str(reader),
        "SCALEMESH_WORK": str(work),
        "SCALEMESH_SANDBOX": "off",
        **{name: os.environ[name] for name in ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE") if name in os.environ},
        **(extra or {}),
    }
    process = await asyncio.create_subprocess_exec(
        *inside, sys.executable, "-m", "builder", env=environ, pass_fds=(reader,), stderr=asyncio.subprocess.PIPE
    )
    os.close(reader)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def build(fake: FakeDaemon, work: Path, extra: dict[str, str] | None = None, inside: Sequence[str] = ()) -> int:
    """Run one build to its end; returns the exit code."""
    async with builder_process(work, fake.socket, extra, inside) as process, asyncio.timeout(170):
        _, err = await process.communicate()
        if b"Traceback" in err:
            raise AssertionError(err.decode())
        assert process.returncode is not None
        return process.returncode
