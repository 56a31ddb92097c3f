"""Our own side: a real daemon in a process of its own, and how sites come into it."""

import asyncio
import hashlib
import resource
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.bench.serving.bench import Bench, Served
from tests.whole.daemon import RunningDaemon

AT_ONCE: Final = 4  #: uploads
READY_S: Final = 60.0
DESCRIPTORS: Final = 65_536


@asynccontextmanager
async def our_daemon(
    bench: Bench, home: Path, *, settings: str = "", edge: str = "", cores: int = 1
) -> AsyncIterator[RunningDaemon]:
    """Start a daemon on what *home* holds already, held on *cores*.

    *settings* are more tables of its config, *edge* the lines of that table.
    """
    home.mkdir(parents=True, exist_ok=True)
    daemon = RunningDaemon(
        home, executor=f"\n{settings}", edge=edge, prefix=[*many_descriptors(), *bench.cores.serving(cores)]
    )
    try:
        await daemon.start()
        yield daemon
        await daemon.stop()
    finally:
        daemon.kill_all()


def many_descriptors() -> list[str]:
    """Words before a command that give it DESCRIPTORS, or as many as this process may give."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, DESCRIPTORS)
    return ["prlimit", f"--nofile={most}:{most}"]


def served_by(daemon: RunningDaemon) -> Served:
    """Where the daemon answers visitors now."""
    assert daemon.process is not None
    return Served(port=daemon.port, pid=daemon.process.pid)


async def publish(daemon: RunningDaemon, sites: Mapping[str, Callable[[], Mapping[str, bytes]]]) -> dict[str, str]:
    """Publish finished sites, each as its function gives them, path -> content; project -> the ready deployment."""
    room, found = asyncio.Semaphore(AT_ONCE), dict[str, str]()

    async def one(session: aiohttp.ClientSession, project: str, files: Callable[[], Mapping[str, bytes]]) -> None:
        async with room:
            found[project] = await _publish(Api(session), project, files())

    async with daemon.session() as session, asyncio.TaskGroup() as group:
        for project, files in sites.items():
            group.create_task(one(session, project, files))
    return found


class Api:
    """Calls of the API over one session: the daemon's own admin socket."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def call(self, method: str, path: str, body: object = None, data: bytes | None = None) -> Any:
        """The decoded answer, which must not be an error."""
        async with self._session.request(method, f"http://x/api/v1{path}", json=body, data=data) as answer:
            text = await answer.text()
            assert answer.status < 400, (answer.status, method, path, text)
            return await answer.json() if answer.content_type.endswith("json") else text


async def _publish(api: Api, project: str, files: Mapping[str, bytes]) -> str:
    await api.call("POST", "/projects", {"name": project})
    return await publish_again(api, project, files)


async def publish_again(api: Api, project: str, files: Mapping[str, bytes]) -> str:
    """Publish *files* as a new deployment of a project that exists; its id, once it is ready."""
    begun: dict[str, Any] = await api.call("POST", f"/projects/{project}/deployments", {"upload": "prebuilt"})
    one = f"/deployments/{begun['id']}"
    named = {hashlib.sha256(content).hexdigest(): content for content in files.values()}
    digests = [{"sha256": sha256, "size": len(content)} for sha256, content in named.items()]
    for sha256 in (await api.call("POST", f"{one}/blobs", {"digests": digests}))["missing"]:
        await api.call("PUT", f"{one}/blobs/{sha256}", data=named[sha256])
    listed = [[path, hashlib.sha256(content).hexdigest(), len(content), False] for path, content in files.items()]
    await api.call("POST", f"{one}/finish", {"files": listed})
    async with asyncio.timeout(READY_S):
        while (found := await api.call("GET", one))["state"] != "ready":
            assert found["state"] in ("queued", "publishing"), found
            await asyncio.sleep(0.02)
    return str(begun["id"])
