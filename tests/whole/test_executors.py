"""The same site through every executor: the same files, the same log, the same ends, chosen per project."""

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.rigs import everywhere
from tests.rigs.cluster import need_cluster
from tests.whole.daemon import RunningDaemon, end_all
from tests.whole.sites import built_by

pytestmark = [pytest.mark.timeout(600), pytest.mark.skipif(os.geteuid() != 0, reason="starts services: run as root")]
ROOT = Path(__file__).parents[2]
AWAY = ("docker", "kubernetes", "ecs")
WITHIN_S = 150
TELLS_NOTHING = b"export default { define: { __FACTS__: '{}' } }"
STEPS = ["queue", "fetch", "detect", "install", "build", "collect", "upload", "publish", "end"]


def need(kind: str) -> None:
    if kind == "kubernetes":
        need_cluster()


each_kind = pytest.mark.parametrize("kind", AWAY)


def hello() -> dict[str, bytes]:
    folder = ROOT / "examples" / "hello"
    files = [path for path in folder.rglob("*") if path.is_file() and "node_modules" not in path.parts]
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files if "dist" not in path.parts}
    found["vite.config.js"] = TELLS_NOTHING  # or its pages would tell their deployment, Node and minute apart
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningDaemon]:
    """One with all kinds, and one project of each: ``docker-site`` and so on."""
    home = tmp_path_factory.mktemp("everywhere")
    async with everywhere.all_kinds() as settings:
        running = RunningDaemon(
            home, builds=settings.builds, kinds=settings.kinds, tables=settings.tables, environ=settings.environ
        )
        try:
            await running.start()
            for kind in settings.kinds:
                await running.call("POST", "/projects", {"name": f"{kind}-site"})
                await running.call("PATCH", f"/projects/{kind}-site", {"executor": kind})
            yield running
            await end_all(running)
        finally:
            running.kill_all()


def entries(daemon: RunningDaemon, deployment: str) -> list[Any]:
    """Path, digest and type of all that the deployment serves."""
    with sqlite3.connect(daemon.data / "scalemesh.db") as database:
        (digest,) = database.execute("SELECT manifest FROM deployment WHERE id = ?", (deployment,)).fetchone()
    found = next((daemon.data / "store" / "blobs").rglob(digest))
    return sorted(json.loads(found.read_bytes())["entries"])


async def test_hello_is_the_same_site_wherever_it_is_built(daemon: RunningDaemon) -> None:
    built = {kind: await daemon.upload(f"{kind}-site", "source", hello(), no_cache=True) for kind in daemon.kinds}
    served = {}
    for kind, deployment in built.items():
        found = await daemon.until(deployment, "ready", within_s=WITHIN_S)
        assert found["executor"] == kind
        served[kind] = entries(daemon, deployment)
        said = list(dict.fromkeys(line["step"] for line in await daemon.lines(deployment)))
        assert [step for step in said if step not in ("restore", "save")] == STEPS
        assert (await daemon.visit(f"{kind}-site.localhost"))[0] == 200
    assert len(served["local"]) >= 3
    assert all(one == served["local"] for one in served.values())


@each_kind
async def test_a_failed_command_is_told_alike(daemon: RunningDaemon, kind: str) -> None:
    need(kind)
    deployment = await daemon.upload(f"{kind}-site", "source", built_by("echo this is wrong; exit 3"))
    found = await daemon.until(deployment, "failed", within_s=WITHIN_S)
    assert found["reason"] == "command_failed"
    assert "3" in found["message"]
    assert "this is wrong" in await daemon.text(deployment)


@each_kind
async def test_variables_reach_the_build_and_neither_log_nor_token_leak(daemon: RunningDaemon, kind: str) -> None:
    need(kind)
    await daemon.set_env(f"{kind}-site", "SECRET_WORD", "correct-horse-battery")
    script = "mkdir out; env | sort > out/env.txt; echo said: $SECRET_WORD; id -u > out/uid.txt; echo > out/index.html"
    deployment = await daemon.upload(f"{kind}-site", "source", built_by(script))
    await daemon.until(deployment, "ready", within_s=WITHIN_S)
    text = await daemon.text(deployment)
    assert "said:" in text
    assert "correct-horse" not in text
    seen = (await daemon.visit(f"{kind}-site.localhost", "/env.txt"))[1]
    assert "SECRET_WORD=correct-horse-battery" in seen
    assert "SCALEMESH_TOKEN" not in seen
    assert (await daemon.visit(f"{kind}-site.localhost", "/uid.txt"))[1].strip() != "0"


@each_kind
async def test_a_build_that_fills_its_disk_is_told_so(daemon: RunningDaemon, kind: str) -> None:
    need(kind)
    script = "i=0; while [ $i -lt 600 ]; do head -c 2M /dev/zero > f$i; i=$((i+1)); sleep 0.005; done; sleep 60"
    deployment = await daemon.upload(f"{kind}-site", "source", built_by(script))
    assert (await daemon.until(deployment, "failed", within_s=WITHIN_S))["reason"] == "disk_full"


@each_kind
async def test_a_cancelled_build_is_gone(daemon: RunningDaemon, kind: str) -> None:
    need(kind)
    deployment = await daemon.upload(f"{kind}-site", "source", built_by("echo begun; sleep 600"))
    await daemon.until_said(deployment, "begun", within_s=WITHIN_S)
    assert await asyncio.to_thread(everywhere.jobs_of, deployment)
    await daemon.call("POST", f"/deployments/{deployment}/cancel")
    assert (await daemon.get(deployment))["state"] == "canceled"
    await daemon.eventually(lambda: not everywhere.jobs_of(deployment))


async def test_builds_go_on_while_the_daemon_is_killed_and_are_adopted(daemon: RunningDaemon) -> None:
    script = "echo begun; sleep 4; mkdir out; echo well > out/index.html"
    built = [await daemon.upload(f"{kind}-site", "source", built_by(script)) for kind in daemon.kinds]
    for deployment in built:
        await daemon.until_said(deployment, "begun", within_s=WITHIN_S)
    await daemon.kill()
    await daemon.start()
    for deployment in built:
        found = await daemon.until(deployment, "ready", within_s=WITHIN_S)
        assert found["attempt"] == 1
        assert (await daemon.text(deployment)).count("begun") == 1
