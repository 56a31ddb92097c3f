"""The API server goes away and comes back; the watch is broken off; its version is forgotten."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from plugins.executors.kubernetes import KubernetesExecutor
from plugins.executors.kubernetes.cluster import end_stream
from scalemesh.errors import UnreachableError
from scalemesh.values import EndCause
from tests.contracts.executor.places import has_ended, let_go
from tests.contracts.executor.places.kubernetes import KubernetesPlace
from tests.contracts.executor.processes import eventually
from tests.contracts.executor.stand_in import TOLD
from tests.rigs.cluster import control, kubectl

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def api() -> AsyncIterator[None]:
    """Whatever a test does to the API server: it is up again afterwards."""
    yield
    await asyncio.to_thread(control, "start", "kube-apiserver")
    await eventually(lambda: asyncio.to_thread(is_up), within_s=120)


def is_up() -> bool:
    return kubectl("get", "--raw", "/readyz", may_fail=True) == "ok"


async def test_an_outage_of_the_api_is_waited_through(place: KubernetesPlace, api: None) -> None:
    async with place.open() as executor:
        ended = await executor.start(place.job("sys.exit(3)", deployment="dpl_early"))
        assert (await executor.wait(ended)).exit_code == 3
        ref = await executor.start(place.job(TOLD))
        waiting = asyncio.create_task(executor.wait(ref))
        await eventually(lambda: begun(place, ref.where.split()[0]))
        await asyncio.to_thread(control, "kill", "kube-apiserver")
        await eventually(lambda: fails(executor, place))
        late = asyncio.create_task(executor.wait(ref))  # begun while nobody answers
        found = await executor.check()
        assert "does not answer" in found[0].what
        with pytest.raises(UnreachableError):
            await executor.stop(ref)
        with pytest.raises(UnreachableError):
            await executor.running()
        assert (await executor.wait(ended)).exit_code == 3  # known already
        async with place.open() as another:  # a daemon that starts meanwhile: its sites come up all the same
            with pytest.raises(UnreachableError):
                await another.running()
        await let_go(place, ref)
        await eventually(lambda: has_ended(place, ref))
        await asyncio.to_thread(control, "start", "kube-apiserver")
        end = await waiting
        assert (end.cause, end.exit_code, end.detail) == (EndCause.FAILED, 4, "whole")
        assert await late == end
        await executor.stop(ref)


async def begun(place: KubernetesPlace, job: str) -> bool:
    words = (
        "-n",
        place.config.namespace,
        "get",
        "pods",
        "-l",
        f"job-name={job}",
        "-o",
        "jsonpath={.items[*].status.phase}",
    )
    return "Running" in await asyncio.to_thread(kubectl, *words)


async def fails(executor: KubernetesExecutor, place: KubernetesPlace) -> bool:
    try:
        await executor.start(place.job("", deployment="dpl_late"))
    except UnreachableError:
        return True
    return False


@pytest.mark.parametrize("version", ["1", "", None], ids=["forgotten", "none", "broken off"])
async def test_what_happens_while_nobody_listens_is_heard_all_the_same(
    place: KubernetesPlace, executor: KubernetesExecutor, version: str | None
) -> None:
    """A version that the server has forgotten (410 Gone) begins with a new look; a broken connection goes on."""
    ref = await executor.start(place.job(TOLD))
    waiting = asyncio.create_task(executor.wait(ref))
    streams = executor._watch._streams
    await eventually(lambda: asyncio.sleep(0, all(stream._open for stream in streams)))
    await eventually(lambda: begun(place, ref.where.split()[0]))
    for stream in streams:
        was = stream._version
        end_stream(stream._open)
        stream._version = was if version is None else version
    await let_go(place, ref)
    assert (await waiting).exit_code == 4
    await eventually(lambda: asyncio.sleep(0, all(len(stream._version) > 1 for stream in streams)))
