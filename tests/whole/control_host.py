"""The real control host over real services and a real socket, with an executor that a test steers."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiohttp import ClientResponse, CookieJar, web
from aiohttp.test_utils import TestClient, TestServer

from scalemesh.config import Hosts
from scalemesh.ports import Store
from scalemesh.services.disk_room import Level
from scalemesh.web.app import make_control_app
from scalemesh.web.metrics import Metrics
from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import Life, begin
from tests.contracts.openers import STORES

Browser = TestClient[web.Request, web.Application]


@dataclass
class ControlHost:
    """``life`` is what stands behind it; ``admin`` is trusted, as the socket is; ``anybody`` is not."""

    life: Life
    app: web.Application
    admin: Browser
    anybody: Browser

    @property
    def url(self) -> str:
        return str(self.anybody.make_url("")).rstrip("/")

    @property
    def origin(self) -> dict[str, str]:
        """The header that a browser sends along from our own pages."""
        return {"Origin": self.url}

    async def ask(self, method: str, path: str, body: object = None, *, status: int = 200) -> dict[str, Any]:
        """One call as the owner; the answer must have *status*."""
        answer = await self.admin.request(method, f"/api/v1{path}", json=body)
        text = await answer.text()
        assert answer.status == status, text
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    async def deploy(self, **wanted: object) -> str:
        """Queue a deployment of a Git URL."""
        body = {"git_url": "https://git.example/a/site", **wanted}
        return str((await self.ask("POST", "/deployments", body, status=202))["id"])

    async def token(self) -> dict[str, str]:
        """The header of a fresh API token."""
        made = await self.ask("POST", "/tokens", {"name": "test"}, status=201)
        return {"Authorization": f"Bearer {made['secret']}"}

    async def sign_in(self) -> ClientResponse:
        """Give ``anybody`` a session, by a welcome link."""
        code = (await self.ask("POST", "/welcome", status=201))["url"].rsplit("/", 1)[1]
        answer = await self.anybody.post("/api/v1/session", json={"code": code}, headers=self.origin)
        assert answer.status == 204
        return answer


@asynccontextmanager
async def open_control_host(
    folder: Path,
    hosts: Hosts | None = None,
    *,
    executors: Mapping[str, EndsWhenTold] | None = None,
    open_store: Callable[[Path], AbstractAsyncContextManager[Store]] = STORES["disk"],
) -> AsyncIterator[ControlHost]:
    """Open one below *folder*."""
    async with begin(folder, executors or EndsWhenTold(), hosts=hosts, open_store=open_store) as life:
        app = make_control_app(life.services, life.explainer, {}, Metrics(), trusted=False)
        trusted = make_control_app(life.services, life.explainer, {}, Metrics(), trusted=True)
        async with (
            TestClient(TestServer(app), cookie_jar=CookieJar(unsafe=True)) as anybody,
            TestClient(TestServer(trusted)) as admin,
        ):
            yield ControlHost(life, app, admin, anybody)


def fill_disk(host: ControlHost) -> None:
    """As if nothing were free, whenever somebody looks."""
    disk = host.life.services.storage.disk
    full = [replace(volume, free_bytes=0) for volume in disk.volumes]
    disk.level, disk._look = Level.LAST, lambda _places: full
