"""What ECS alone does, on a server whose tasks are real containers."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from builder.packing import fingerprint
from plugins.executors.ecs import EcsExecutor
from plugins.executors.ecs.aws import Aws
from scalemesh.errors import RefusedError, UnreachableError
from scalemesh.values import EndCause
from tests.contracts.executor.places import has_ended, let_go
from tests.contracts.executor.places.ecs import EcsPlace, open_place
from tests.contracts.executor.processes import eventually
from tests.contracts.executor.stand_in import TOLD
from tests.rigs.ministack import ADDRESS, KEYS, REGION

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[EcsPlace]:
    async with open_place(tmp_path) as opened:
        yield opened


@pytest.fixture
async def daemon() -> AsyncIterator[dict[str, str]]:
    """What a daemon says to tasks; ``url`` is where."""
    said = {"builder": fingerprint()}

    async def hello(_: web.Request) -> web.Response:
        return web.json_response({"builder": said["builder"]})

    app = web.Application()
    app.router.add_get("/build/v1/hello", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, ADDRESS, 0)
    await site.start()
    said["url"] = f"http://{ADDRESS}:{runner.addresses[0][1]}"
    yield said
    await runner.cleanup()


def opened(place: EcsPlace, **changes: Any) -> AbstractAsyncContextManager[EcsExecutor]:
    return EcsExecutor.open(dataclasses.replace(place.config, **changes), grace_s=0, poll_s=0.1, check_s=60)


async def test_a_definition_is_registered_once_and_again_when_the_settings_change(place: EcsPlace) -> None:
    async with place.open() as executor:
        for number in range(3):
            ref = await executor.start(place.job("pass", deployment=f"dpl_{number}"))
            await executor.wait(ref)
    assert len(place.revisions()) == 1
    async with opened(place, start_as_root=True) as executor:
        await executor.wait(await executor.start(place.job("pass")))
    assert len(place.revisions()) == 2


async def test_a_revision_that_somebody_gave_a_role_is_not_used(place: EcsPlace) -> None:
    async with place.open() as executor:
        await executor.wait(await executor.start(place.job("pass", deployment="dpl_0")))
        place.copy_definition(taskRoleArn=place.config.execution_role_arn)
        ref = await executor.start(place.job("pass"))
        assert not place.definition_of(ref).get("taskRoleArn")
    assert len(place.revisions()) == 3


async def test_a_task_definition_of_ones_own_is_used_as_it_is(place: EcsPlace) -> None:
    async with place.open() as executor:
        await executor.wait(await executor.start(place.job("pass", deployment="dpl_0")))
    own = f"scalemesh-{place.config.owner}"
    async with opened(place, image="", task_definition=own) as executor:
        ref = await executor.start(place.job("print('mine', flush=True); sys.exit(3)"))
        end = await executor.wait(ref)
        assert (end.cause, end.exit_code, end.detail) == (EndCause.FAILED, 3, "mine")
    assert len(place.revisions()) == 1


async def test_a_missing_image_is_told_with_its_name_and_what_to_do(place: EcsPlace) -> None:
    async with opened(place, image="127.0.0.1:1/nobody/nothing:none") as executor:
        end = await executor.wait(await executor.start(place.job("pass")))
    assert end.cause is EndCause.REFUSED
    assert "127.0.0.1:1/nobody/nothing:none" in end.detail
    assert "execution_role_arn may pull it" in end.detail


async def test_an_unknown_task_definition_is_refused_with_the_setting_to_mend(place: EcsPlace) -> None:
    async with opened(place, image="", task_definition="nobody:7") as executor:
        with pytest.raises(RefusedError, match=r"executor\.ecs\.task_definition"):
            await executor.start(place.job("pass"))


async def test_a_job_without_an_address_of_the_daemon_is_refused(place: EcsPlace) -> None:
    async with place.open() as executor:
        with pytest.raises(RefusedError, match=r"builds\.public_url"):
            await executor.start(dataclasses.replace(place.job("pass"), url=None))
        assert list(await executor.running()) == []


async def test_another_installations_jobs_are_neither_listed_nor_taken_for_ours(place: EcsPlace) -> None:
    async with place.open() as executor, opened(place, owner="0123456789ab") as other:
        ref = await executor.start(place.job("time.sleep(1000)"))
        assert list(await other.running()) == []
        theirs = await other.start(place.job("sys.exit(9)"))
        assert theirs != ref
        assert (await other.wait(theirs)).exit_code == 9
        assert list(await executor.running()) == [ref]
        await executor.stop(ref)


async def test_nothing_is_asked_of_aws_while_nobody_waits(place: EcsPlace) -> None:
    async with Aws.open(place.config) as aws, EcsExecutor.open(place.config, aws=aws, poll_s=0.05) as executor:
        ref = await executor.start(place.job("time.sleep(1000)"))
        calls: list[str] = []
        aws.client("ecs").meta.events.register("before-call.ecs", lambda model, **_: calls.append(model.name))
        await asyncio.sleep(0.3)  # several of the poller's rounds
        assert calls == []
        waiting = asyncio.create_task(executor.wait(ref))
        await eventually(lambda: more_than(calls, 3))
        assert set(calls) == {"DescribeTasks"}
        await executor.stop(ref)
        await waiting


async def test_an_outage_is_waited_through(place: EcsPlace) -> None:
    async with Road(place.config.endpoint_url) as road, opened(place, endpoint_url=road.url) as executor:
        ref = await executor.start(place.job(TOLD))
        await road.cut()
        waiting = asyncio.create_task(executor.wait(ref))
        with pytest.raises(UnreachableError, match="AWS does not answer"):
            await executor.running()
        await let_go(place, ref)
        await eventually(lambda: has_ended(place, ref))
        assert not waiting.done()
        await road.mend()
        assert (await waiting).exit_code == 4


@pytest.mark.parametrize("lacks", ["keys", "region"])
async def test_credentials_and_a_region_that_come_late_are_found(
    place: EcsPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    """As on a machine that boots: the daemon is there before its role, or before its files."""
    for name in KEYS.keys() & {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} if lacks == "keys" else ():
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    region = place.config.region if lacks == "keys" else ""
    async with opened(place, region=region, log_group="") as executor:
        told = "there are no AWS credentials" if lacks == "keys" else "no AWS region is set"
        with pytest.raises(UnreachableError, match=told):
            await executor.running()
        keys = f"aws_access_key_id={KEYS['AWS_ACCESS_KEY_ID']}\naws_secret_access_key={KEYS['AWS_SECRET_ACCESS_KEY']}\n"
        (tmp_path / ".aws").mkdir()
        (tmp_path / ".aws/credentials").write_text(f"[default]\n{keys}")
        (tmp_path / ".aws/config").write_text(f"[default]\nregion={REGION}\n")
        assert (await executor.wait(await executor.start(place.job("sys.exit(7)")))).exit_code == 7


class Road:
    """A way to the server that can be cut."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._port = 0
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server
        self._server.close()
        for writer in self._passing:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._passing |= {writer, back}
        with suppress(OSError):
            await asyncio.gather(carry(reader, back), carry(there, writer))
        self._passing -= {writer, back}


async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    finally:
        target.close()


async def more_than(calls: list[str], number: int) -> bool:
    return len(calls) > number


async def test_check_proves_that_a_task_reaches_the_daemon(place: EcsPlace, daemon: dict[str, str]) -> None:
    async with opened(place, url=daemon["url"]) as executor:
        found = await executor.check()
        assert all(finding.ok for finding in found), found
        assert any("Node: 24." in finding.what or "Node: v24." in finding.what for finding in found), found
        assert list(await executor.running()) == []


async def test_check_tells_of_an_address_that_tasks_do_not_reach(place: EcsPlace) -> None:
    async with opened(place) as executor:
        bad = [finding for finding in await executor.check() if not finding.ok]
    assert ["a task cannot reach the daemon at http://172.17.0.1:1" in finding.what for finding in bad] == [True]
    assert "security groups" in bad[0].fix


async def test_check_tells_of_an_image_with_another_builder(place: EcsPlace, daemon: dict[str, str]) -> None:
    daemon["builder"] = "0" * 12
    async with opened(place, url=daemon["url"]) as executor:
        bad = [finding for finding in await executor.check() if not finding.ok]
    assert ["another builder" in finding.what for finding in bad] == [True]


async def test_check_tells_of_unknown_clusters_and_subnets(place: EcsPlace) -> None:
    async with opened(place, cluster="nobody", subnets=("subnet-0123456789abcdef0",)) as executor:
        bad = [finding for finding in await executor.check() if not finding.ok]
    assert "no cluster nobody" in bad[0].what
    assert "subnet-0123456789abcdef0" in bad[1].what
    assert "executor.ecs.subnets" in bad[1].fix


async def test_check_of_a_place_that_does_not_answer_says_so_in_time(place: EcsPlace) -> None:
    nowhere = dataclasses.replace(place.config, endpoint_url=f"http://{ADDRESS}:1")
    async with asyncio.timeout(30), EcsExecutor.open(nowhere) as executor:
        bad = [finding for finding in await executor.check() if not finding.ok]
    assert "AWS does not answer" in bad[0].what
