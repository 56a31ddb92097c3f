"""What lies between us and a cluster, or what was done to it, such as no healthy one shows: a server that plays it."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from plugins.executors.kubernetes.cluster import Cluster
from plugins.executors.kubernetes.config import KubernetesConfig
from plugins.executors.kubernetes.watch import Watch
from tests.contracts.executor.processes import eventually

CONFIG = {
    "current-context": "one",
    "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
    "users": [{"name": "one", "user": {"token": "any"}}],
}


@dataclass
class Api:
    """Lists nothing, of one version after another; ends each watch at once, as its turn says."""

    watches: list[str] = field(default_factory=list)  #: the versions from which each was to begin
    lists: int = 0
    refuses_first: bool = False  #: the version of the first list, as one that lies in the future

    async def jobs(self, request: web.Request) -> web.Response:
        if not request.query.get("watch"):
            self.lists += 1
            return web.json_response({"items": [], "metadata": {"resourceVersion": str(self.lists)}})
        version = request.query["resourceVersion"]
        self.watches.append(version)
        if self.refuses_first and version == "1":
            said = {"code": 504, "reason": "Timeout", "message": "Too large resource version: 1, current: 0"}
            return web.json_response({"kind": "Status", **said}, status=504)
        return web.Response(body=b"")

    async def pods(self, request: web.Request) -> web.Response:
        """Those are of no interest here."""
        if request.query.get("watch"):
            await asyncio.sleep(2)
        return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})


@asynccontextmanager
async def listening(api: Api, folder: Path, relist_s: float = 60) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_get("/apis/batch/v1/namespaces/builds/jobs", api.jobs)
    app.router.add_get("/api/v1/namespaces/builds/pods", api.pods)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps({**CONFIG, "clusters": [{"name": "one", "cluster": {"server": site.name}}]}))
    config = KubernetesConfig(image="none", namespace="builds", kubeconfig=kubeconfig)
    try:
        async with Cluster.open(config) as cluster, Watch.open(cluster, "a=b", relist_s=relist_s) as watch:
            with watch.following("some"):
                yield
    finally:
        await runner.cleanup()


async def test_watches_that_end_at_once_are_not_begun_anew_without_a_pause(tmp_path: Path) -> None:
    """As behind a proxy that ends each with a 200."""
    api = Api()
    async with listening(api, tmp_path):
        await eventually(lambda: asyncio.sleep(0, len(api.watches) >= 2))
        before = len(api.watches)
        await asyncio.sleep(1)  # as long as is counted
        assert 1 <= len(api.watches) - before <= 6
    assert api.lists == 1


async def test_a_version_that_lies_in_the_future_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As after the cluster's data was restored from an older copy."""
    api = Api(refuses_first=True)
    with caplog.at_level(logging.WARNING):
        async with listening(api, tmp_path):
            await eventually(lambda: asyncio.sleep(0, "2" in api.watches))
    assert api.watches.count("1") == 1
    assert not caplog.records


async def test_what_is_heard_is_not_relied_on_for_ever(tmp_path: Path) -> None:
    api = Api()
    async with listening(api, tmp_path, relist_s=0.5):
        await eventually(lambda: asyncio.sleep(0, api.lists >= 3))
        assert len(api.watches) >= 2
