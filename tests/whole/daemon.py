"""A real daemon in a process of its own, a real Git repository, and the calls that a test makes of them."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

CONFIG = """
data_dir = "data"
[listen]
port = 0
[git]
allow = ["https", "ssh", "http", "file"]
file_root = "git"
[builds]
{builds}
[executor]
kind = "local"
[executor.local]
{executor}
"""


@dataclass
class RunningDaemon:
    """Below *home*: config, data and repositories. May be stopped, killed and started again."""

    home: Path
    builds: str = ""
    executor: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None
    port: int = 0

    @property
    def config(self) -> Path:
        return self.home / "scalemesh.toml"

    @property
    def socket(self) -> Path:
        return self.home / "data" / "run" / "admin.sock"

    async def start(self, **environ: str) -> None:
        """Start and wait until it listens."""
        (self.home / "git").mkdir(parents=True, exist_ok=True)
        self.config.write_text(CONFIG.format(builds=self.builds, executor=self.executor))
        with (self.home / "daemon.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "scalemesh", "serve", "--config", str(self.config),
                stdout=subprocess.PIPE, stderr=log, env={**os.environ, **self.environ, **environ},
            )  # fmt: skip
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            line = (await self.process.stdout.readline()).decode()
        assert "http://" in line, f"no address: {line!r}\n{self.log()}"
        self.port = int(line.rsplit(":", 1)[1].strip().strip("/"))

    async def stop(self) -> None:
        """As systemd does: SIGTERM, and running builds go on."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        await self.ended()

    async def kill(self) -> None:
        """As a power switch does."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
        await self.ended()

    async def ended(self, within_s: float = 20) -> int:
        """Wait for the process's end and return its exit code."""
        assert self.process is not None
        async with asyncio.timeout(within_s):
            await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode

    def log(self) -> str:
        """What the daemon said of itself."""
        path = self.home / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """One API call over the admin socket; the decoded answer."""
        async with self._session() as session, session.request(method, f"http://x/api/v1{path}", json=body) as answer:
            found = await answer.json() if answer.content_type.endswith("json") else await answer.text()
            assert answer.status < 400, (answer.status, found)
            return found

    async def deploy(self, url: str, **wanted: object) -> str:
        """Queue a deployment of a Git URL and return its id."""
        return str((await self.call("POST", "/deployments", {"git_url": url, **wanted}))["id"])

    async def until(self, deployment: str, *states: str, within_s: float = 50) -> dict[str, Any]:
        """The deployment, once it is in one of *states* (any final one, where none is named)."""
        wanted = states or ("ready", "failed", "canceled", "superseded")
        deadline = time.monotonic() + within_s
        while (found := await self.call("GET", f"/deployments/{deployment}"))["state"] not in wanted:
            assert time.monotonic() < deadline, (found, await self.lines(deployment), self.log()[-3000:])
            assert found["state"] not in ("failed", "canceled", "superseded"), (found, await self.lines(deployment))
            await asyncio.sleep(0.02)
        return dict(found)

    async def lines(self, deployment: str) -> list[dict[str, Any]]:
        """All lines of the log."""
        found: list[dict[str, Any]] = []
        while page := await self.call("GET", f"/deployments/{deployment}/logs?after={len(found)}&limit=1000"):
            if not page["lines"]:
                return found
            found += page["lines"]
        return found

    async def text(self, deployment: str) -> str:
        return "\n".join(line["text"] for line in await self.lines(deployment))

    async def visit(self, host: str, path: str = "/", **headers: str) -> tuple[int, str, Mapping[str, str]]:
        """What a visitor gets: status, body, headers."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(
                f"http://127.0.0.1:{self.port}{path}", headers={"Host": host, **headers}, allow_redirects=False
            ) as answer,
        ):
            return answer.status, await answer.text(), dict(answer.headers)

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self.socket)), timeout=aiohttp.ClientTimeout(total=30)
        )


@asynccontextmanager
async def running_daemon(home: Path, *, builds: str = "", executor: str = "") -> AsyncIterator[RunningDaemon]:
    """Start one; at the end it is stopped, and its builds with it."""
    daemon = RunningDaemon(home, builds=builds, executor=executor)
    await daemon.start()
    try:
        yield daemon
    finally:
        await end_all(daemon)


async def end_all(daemon: RunningDaemon) -> None:
    """Cancel what builds (a daemon that is gone is started for it), then stop."""
    if daemon.process is None or daemon.process.returncode is not None:
        await daemon.start()
    for deployment in (await daemon.call("GET", "/deployments?limit=100"))["deployments"]:
        if deployment["state"] in ("queued", "building", "publishing"):
            await daemon.call("POST", f"/deployments/{deployment['id']}/cancel")
    await daemon.stop()


def repository(home: Path, name: str, files: Mapping[str, str | bytes], branch: str = "main") -> str:
    """Make (or add a commit to) a bare repository from *files*; return its file:// URL."""
    bare, work = home / "git" / f"{name}.git", home / "work" / name
    if not bare.exists():
        git("init", "-q", "--bare", "-b", branch, str(bare))
        git("-C", str(bare), "config", "uploadpack.allowAnySHA1InWant", "true")
        git("clone", "-q", str(bare), str(work))
    git("-C", str(work), "checkout", "-q", "-B", branch)
    for path, content in files.items():
        target = work / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
    git("-C", str(work), "add", "-A")
    git("-C", str(work), "commit", "-q", "--allow-empty", "-m", f"Change {name}")
    git("-C", str(work), "push", "-q", "origin", branch)
    return f"file://{bare}"


def git(*arguments: str) -> str:
    """Run git as nobody in particular; return what it prints."""
    who = {
        "GIT_AUTHOR_NAME": "Test", "GIT_AUTHOR_EMAIL": "test@example.com",
        "GIT_COMMITTER_NAME": "Test", "GIT_COMMITTER_EMAIL": "test@example.com",
    }  # fmt: skip
    done = subprocess.run(
        ["git", *arguments], check=True, capture_output=True, text=True, env={**os.environ, **who}, timeout=60
    )
    return done.stdout
