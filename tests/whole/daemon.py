"""A real daemon in a process of its own, a real Git repository, and the calls that a test makes of them."""

import asyncio
import ctypes
import hashlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from builder.protocol import NONCE_HEADER

SERVE: Final = (sys.executable, "-m", "scalemesh", "serve", "--config")
START_S: Final = 60.0
CLONE_NEWNET: Final = 0x40000000
FINAL: Final = ("ready", "failed", "canceled", "superseded")
CONFIG: Final = """
data_dir = "data"
[listen]
port = 0
[hosts]
{hosts}
[edge]
{edge}
[git]
allow = ["https", "ssh", "http", "file"]
file_root = "git"
[builds]
{builds}
[executor]
kind = {kinds}
[executor.local]
{executor}
{tables}
"""


@dataclass
class RunningDaemon:
    """Below *home*: config, data and repositories. May be stopped, killed and started again."""

    home: Path
    builds: str = ""
    executor: str = ""
    hosts: str = ""
    edge: str = ""
    kinds: Sequence[str] = ("local",)  #: of executors; the first is the default
    tables: str = ""  #: more of the config, behind the executor's
    environ: Mapping[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()  #: words before the daemon's; they must exec it
    netns: str = ""  #: the name of the network namespace that it runs in; empty: ours
    is_mounted_apart: bool = False  #: its data lie in a mount namespace of its own, which *prefix* makes
    process: subprocess.Popen[bytes] | None = None
    port: int = 0

    @property
    def config(self) -> Path:
        return self.home / "scalemesh.toml"

    @property
    def data(self) -> Path:
        if self.is_mounted_apart and self.process is not None:
            return Path(f"/proc/{self.process.pid}/root{self.home}/data")
        return self.home / "data"

    @property
    def socket(self) -> Path:
        return self.data / "run" / "admin.sock"

    @property
    def jobs(self) -> list[Path]:
        """The folders of the jobs that exist."""
        folder = self.data / "jobs"
        return [path for path in folder.glob("*") if not path.name.startswith(".")] if folder.exists() else []

    async def start(self, **environ: str) -> None:
        """Start and wait until it listens."""
        self.launch(**environ)
        line = await asyncio.to_thread(self._first_line)
        found = re.search(r"https?://[^/\s]+:(\d+)", line)
        assert found, f"no address: {line!r}\n{self.log()[-3000:]}"
        self.port = int(found[1])

    def launch(self, **environ: str) -> None:
        """Start it and do not wait: for one that may never listen."""
        (self.home / "git").mkdir(parents=True, exist_ok=True)
        self.config.write_text(CONFIG.format_map({**vars(self), "kinds": json.dumps(list(self.kinds))}))
        self._let_go()
        inside = ("nsenter", f"--net=/run/netns/{self.netns}") if self.netns else ()
        with (self.home / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*inside, *self.prefix, *SERVE, str(self.config)],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self.environ, **environ},
            )

    async def stop(self) -> None:
        """As systemd does: SIGTERM, and running builds go on."""
        self._signal(signal.SIGTERM)
        await self.ended()

    async def kill(self) -> None:
        """As a power switch does."""
        self._signal(signal.SIGKILL)
        await self.ended()

    async def ended(self, within_s: float = 60) -> int:
        """Wait for the process's end and return its exit code."""
        assert self.process is not None
        code = await asyncio.to_thread(self.process.wait, within_s)
        self._let_go()
        return code

    def kill_all(self) -> None:
        """For a test that failed: end the daemon and its jobs by their process ids, whatever state they are in."""
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(60)
        self._let_go()
        for job in self.jobs:
            with suppress(OSError, ValueError):
                self.kill_supervisor(job.name)
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_supervisor(self, deployment: str) -> None:
        """SIGKILL to the process that holds the build's job; all of the build dies with it."""
        facts = json.loads((self.data / "jobs" / deployment / "job.json").read_bytes())
        os.kill(int(facts["pid"]), signal.SIGKILL)

    def log(self) -> str:
        """What the daemon said of itself."""
        path = self.home / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def processes(self, deployment: str = "") -> dict[int, str]:
        """Processes of this daemon's jobs, or of one deployment's; each with its words.

        Whatever runs in a sandbox, or helps one, sees the mount of its job's folder.
        """
        jobs = "/".join(self.data.parts[-3:]) + f"/jobs/{deployment}"
        own = {os.getpid(), *([self.process.pid] if self.process else [])}
        return dict(_processes_with({jobs, f"-{deployment}"} if deployment else {jobs}, own))

    def temporary_files(self) -> list[str]:
        """Files that nobody needs any more once all deployments have come to their end.

        Not those of the executor's look at itself (``.probe-…``): one that was cut off is swept a minute later.
        """
        places = ("store/tmp", "store/staging", "jobs", "jobs/.trash")
        found = [path for place in places for path in (self.data / place).glob("*")]
        kept = (".state", ".trash", ".probe-")
        return [str(path.relative_to(self.data)) for path in found if not path.name.startswith(kept)]

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """One API call over the admin socket; the decoded answer, which must not be an error."""
        status, found = await self.try_call(method, path, body)
        assert status < 400, (status, found)
        return found

    async def try_call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """The same, errors included: status and decoded answer."""
        async with self.session() as session, session.request(method, f"http://x/api/v1{path}", json=body) as answer:
            return answer.status, await _decoded(answer)

    async def build_call(self, token: str, path: str, body: object, nonce: str = "") -> tuple[int, Any]:
        """What a builder with *token* that claimed with *nonce* says over the builds' socket."""
        socket = str(self.data / "run" / "builds" / "api.sock")
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket)) as session,
            session.post(
                f"http://x/build/v1/{path}",
                json=body,
                headers={"Authorization": f"Bearer {token}", NONCE_HEADER: nonce},
            ) as answer,
        ):
            return answer.status, await _decoded(answer)

    async def deploy(self, url: str, **wanted: object) -> str:
        """Queue a deployment of a Git URL and return its id."""
        return str((await self.call("POST", "/deployments", {"git_url": url, **wanted}))["id"])

    async def upload(self, project: str, kind: str, files: Mapping[str, bytes], **wanted: object) -> str:
        """Deploy *files* as an upload, ``source`` or ``prebuilt``; return the deployment's id."""
        with suppress(AssertionError):
            await self.call("POST", "/projects", {"name": project})
        begun = await self.call("POST", f"/projects/{project}/deployments", {"upload": kind, **wanted})
        one = f"/deployments/{begun['id']}"
        by_digest = {hashlib.sha256(content).hexdigest(): content for content in files.values()}
        digests = [{"sha256": digest, "size": len(content)} for digest, content in by_digest.items()]
        for digest in (await self.call("POST", f"{one}/blobs", {"digests": digests}))["missing"]:
            await self._put(f"{one}/blobs/{digest}", by_digest[digest])
        listed = [[path, hashlib.sha256(content).hexdigest(), len(content), False] for path, content in files.items()]
        await self.call("POST", f"{one}/finish", {"files": listed})
        return str(begun["id"])

    async def get(self, deployment: str) -> dict[str, Any]:
        return dict(await self.call("GET", f"/deployments/{deployment}"))

    async def until(self, deployment: str, *states: str, within_s: float = 120) -> dict[str, Any]:
        """The deployment, once it is in one of *states* (any final one, where none is named)."""
        wanted = states or FINAL
        deadline = time.monotonic() + within_s
        while (found := await self.get(deployment))["state"] not in wanted:
            is_over = found["state"] in FINAL or time.monotonic() > deadline
            assert not is_over, (found, await self.text(deployment), self.log()[-3000:])
            await asyncio.sleep(0.02)
        return found

    async def until_said(self, deployment: str, text: str, within_s: float = 60) -> None:
        """Return once the deployment's log holds *text*."""
        await self.eventually(lambda: self._says(deployment, text), within_s, f"the log never said {text!r}")

    async def eventually(self, holds: Callable[[], Any], within_s: float = 60, what: str = "") -> None:
        """Return once *holds* (a function or a coroutine function) is true."""
        deadline = time.monotonic() + within_s
        while True:
            found = holds()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            assert time.monotonic() < deadline, f"{what}\n{self.log()[-3000:]}"
            await asyncio.sleep(0.02)

    async def _says(self, deployment: str, text: str) -> bool:
        return text in await self.text(deployment)

    async def lines(self, deployment: str) -> list[dict[str, Any]]:
        """All lines of the log, their numbers proven to have no gap."""
        found: list[dict[str, Any]] = []
        while page := await self.call("GET", f"/deployments/{deployment}/logs?after={len(found)}&limit=5000"):
            if not page["lines"]:
                break
            found += page["lines"]
        assert [line["number"] for line in found] == list(range(1, len(found) + 1)), "a gap in the log's numbers"
        return found

    async def text(self, deployment: str) -> str:
        return "\n".join(line["text"] for line in await self.lines(deployment))

    async def visit(self, host: str, path: str = "/", **headers: str) -> tuple[int, str, Mapping[str, str]]:
        """What a visitor gets: status, body, headers."""
        connector = aiohttp.TCPConnector(socket_factory=lambda address: socket_in(self.netns, address[0]))
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session,
            session.get(
                f"http://127.0.0.1:{self.port}{path}", headers={"Host": host, **headers}, allow_redirects=False
            ) as answer,
        ):
            return answer.status, await answer.text(), dict(answer.headers)

    async def set_env(self, project: str, name: str, value: str, *environments: str) -> None:
        wanted = {"value": value, **({"environments": environments} if environments else {})}
        await self.call("PUT", f"/projects/{project}/env/{name}", wanted)

    def session(self) -> aiohttp.ClientSession:
        """For calls over the admin socket: the host of the URL does not matter."""
        return aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self.socket)), timeout=aiohttp.ClientTimeout(total=60)
        )

    async def _put(self, path: str, content: bytes) -> None:
        async with self.session() as session, session.put(f"http://x/api/v1{path}", data=content) as answer:
            assert answer.status < 400, (answer.status, await answer.text())

    def _first_line(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], START_S)
        return self.process.stdout.readline().decode() if readable else ""

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def _let_go(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()


@asynccontextmanager
async def running_daemon(
    home: Path,
    *,
    builds: str = "",
    executor: str = "",
    hosts: str = "",
    edge: str = "",
    prefix: Sequence[str] = (),
    netns: str = "",
) -> AsyncIterator[RunningDaemon]:
    """Start one; at the end it is stopped, and its builds with it."""
    daemon = RunningDaemon(home, builds=builds, executor=executor, hosts=hosts, edge=edge, prefix=prefix, netns=netns)
    try:
        await daemon.start()
        yield daemon
        await end_all(daemon)
    finally:
        daemon.kill_all()


async def end_all(daemon: RunningDaemon) -> None:
    """Cancel what builds (a daemon that is gone is started for it), then stop."""
    if daemon.process is None or daemon.process.poll() is not None:
        await daemon.start()
    for deployment in (await daemon.call("GET", "/deployments?limit=100"))["deployments"]:
        if deployment["state"] in ("queued", "building", "publishing"):
            status, said = await daemon.try_call("POST", f"/deployments/{deployment['id']}/cancel")
            assert status < 400 or status == 409, said  # 409: it has come to its own end meanwhile
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


def folder(path: Path) -> dict[str, bytes]:
    """All files below *path*."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


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


def socket_in(netns: str, family: int = socket.AF_INET) -> socket.socket:
    """A TCP socket of the network namespace *netns*: it stays that one's, whoever uses it."""
    if not netns:
        return socket.socket(family)

    def made() -> socket.socket:
        with Path("/run/netns", netns).open() as file:
            assert ctypes.CDLL(None).setns(file.fileno(), CLONE_NEWNET) == 0
        return socket.socket(family)

    with ThreadPoolExecutor(1) as thread:  # a thread of its own: it never comes back
        return thread.submit(made).result()


async def _decoded(answer: aiohttp.ClientResponse) -> Any:
    return await answer.json(content_type=None) if answer.content_type.endswith("json") else await answer.text()


def _processes_with(marks: set[str], own: set[int]) -> Iterator[tuple[int, str]]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(process.name) in own or _is_dead(process):
                continue
            words = process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            seen = [words, *((process / name).read_text() for name in ("cgroup", "mountinfo")), *_opened(process)]
            if any(mark in text for text in seen for mark in marks):
                yield int(process.name), words


def _is_dead(process: Path) -> bool:
    return process.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0] in ("Z", "X")


def _opened(process: Path) -> Iterator[str]:
    for link in process.joinpath("fd").glob("*"):
        with suppress(OSError):
            yield str(link.readlink())
