"""How jobs end that never begin, and those that lose their pod, on a real cluster."""

import asyncio
import json
import secrets
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from plugins.executors.kubernetes import KubernetesExecutor
from scalemesh.errors import RefusedError, UnreachableError
from scalemesh.values import BuildEnd, EndCause
from tests.contracts.executor.places.kubernetes import KubernetesPlace
from tests.contracts.executor.processes import eventually
from tests.contracts.executor.stand_in import limits
from tests.rigs.cluster import HOST, get, kubectl, namespace

pytestmark = pytest.mark.timeout(300)
#: Claims its attempt as the builder does, then builds until it is told that that is enough.
CLAIMS = """
    import urllib.error, urllib.request
    def call(path):
        return urllib.request.urlopen(urllib.request.Request(os.environ["SCALEMESH_URL"] + path, method="POST"))
    try:
        call("/claim?pod=" + os.uname().nodename)
    except urllib.error.HTTPError as error:
        sys.exit(3 if error.code == 409 else 9)
    time.sleep(60)
    call("/publish")
"""


@pytest.fixture(scope="module")
def image_without_a_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    tag, folder = "scalemesh-programless:1", tmp_path_factory.mktemp("image")
    (folder / "file").write_text("an image is never empty")
    files = subprocess.run(["tar", "-C", str(folder), "-cf", "-", "file"], check=True, capture_output=True).stdout
    words = ["docker", "import", "-c", 'ENTRYPOINT ["/none"]', "-", tag]
    subprocess.run(words, input=files, check=True, capture_output=True)
    return tag


@asynccontextmanager
async def quota(**hard: str) -> AsyncIterator[str]:
    """A namespace of its own, with so little in it."""
    name = f"small-{secrets.token_hex(4)}"
    kubectl("create", "namespace", name)
    try:
        kubectl("-n", name, "create", "quota", "little", "--hard", ",".join(f"{k}={v}" for k, v in hard.items()))

        async def is_counted() -> bool:
            found = json.loads(kubectl("-n", name, "get", "quota", "little", "-o", "json"))
            return "used" in found.get("status", {})

        await eventually(is_counted)
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


async def end_of(place: KubernetesPlace) -> BuildEnd:
    async with place.open() as executor:
        within = limits(time_s=12 if "late" in place.config.image else 60)
        return await executor.wait(await executor.start(place.job("sys.exit(0)", within=within)))


async def test_what_never_begins_is_told_apart_in_time(place: KubernetesPlace, image_without_a_program: str) -> None:
    image = place.config.image
    places = {
        "never pulled": KubernetesPlace("scalemesh-none:1", image_pull_policy="Never"),
        "bad name": KubernetesPlace("Not An Image"),
        "no such image": KubernetesPlace("127.0.0.1:1/none:1", start_timeout_s=12),
        "too large": KubernetesPlace(image, cpu_request=1000, start_timeout_s=5),
        "no such node": KubernetesPlace(image, node_selector={"disk": "none"}, start_timeout_s=5),
        "no account": KubernetesPlace(image, service_account="nobody", start_timeout_s=5),
        "no program": KubernetesPlace(image_without_a_program),
        "time is up": KubernetesPlace("127.0.0.1:1/late:1"),
    }
    ends = dict(zip(places, await asyncio.gather(*map(end_of, places.values())), strict=True))
    assert [name for name, end in ends.items() if end.cause is not EndCause.REFUSED] == []
    words = {name: end.detail for name, end in ends.items()}
    assert "ErrImageNeverPull for image scalemesh-none:1" in words["never pulled"]
    assert "InvalidImageName for image Not An Image" in words["bad name"]
    assert "for image 127.0.0.1:1/none:1" in words["no such image"]
    assert "within 12 s" in words["no such image"]
    assert "Push the builder's image" in words["no such image"]
    assert "Unschedulable" in words["too large"]
    assert "Insufficient cpu" in words["too large"]
    assert "didn't match" in words["no such node"]
    assert 'serviceaccount "nobody" not found' in words["no account"]
    assert "no pod was made" in words["no account"]
    assert "for image 127.0.0.1:1/late:1" in words["time is up"]
    assert "/none" in words["no program"]
    assert "Is it the builder's image" in words["no program"]
    left = [name for name, each in places.items() if await _jobs(each)]
    assert set(left) <= {"no program"}, "nothing may begin later; that one has come to its end"


async def test_a_missing_secret_is_named(place: KubernetesPlace) -> None:
    """As where somebody cleans up by hand between our Secret and the pod."""
    held_up = KubernetesPlace(place.config.image, start_timeout_s=5, node_selector={"wait": "yes"})
    async with held_up.open() as executor:
        ref = await executor.start(held_up.job("sys.exit(0)"))
        kubectl("-n", namespace(), "delete", "secret", ref.where.split()[0])
        end = await executor.wait(ref)
    assert end.cause is EndCause.REFUSED


async def test_a_quota_that_is_used_up_is_told(place: KubernetesPlace) -> None:
    image = place.config.image
    async with quota(pods="0") as no_pods, quota(**{"count/jobs.batch": "0"}) as no_jobs:
        end = await end_of(KubernetesPlace(image, namespace=no_pods, start_timeout_s=5))
        assert end.cause is EndCause.REFUSED
        assert "exceeded quota" in end.detail
        assert "Raise the quota" in end.detail
        full = KubernetesPlace(image, namespace=no_jobs)
        async with full.open() as executor:
            with pytest.raises(UnreachableError, match="quota of the namespace is used up"):
                await executor.start(full.job("sys.exit(0)"))


async def test_what_the_api_does_not_accept_is_refused_in_its_words(place: KubernetesPlace) -> None:
    cases: dict[str, dict[str, Any]] = {
        "no namespace": {"namespace": "is-not-there"},
        "nonsense": {"node_selector": {"not a label!": "x"}},
    }
    said = {}
    for name, settings in cases.items():
        wrong = KubernetesPlace(place.config.image, **settings)
        async with wrong.open() as executor:
            with pytest.raises(RefusedError) as refused:
                await executor.start(wrong.job("sys.exit(0)"))
            said[name] = str(refused.value)
            assert await wrong.leftovers() == []
    assert "the cluster has no namespace is-not-there" in said["no namespace"]
    assert "namespace.yaml" in said["no namespace"]
    assert "not a label!" in said["nonsense"]


async def test_a_pod_that_somebody_deletes_is_no_second_build(
    place: KubernetesPlace, executor: KubernetesExecutor
) -> None:
    """The cluster makes another pod at once, even with a backoffLimit of 0."""
    async with _daemon() as (url, calls):
        claiming = KubernetesPlace(place.config.image, url=url, owner=place.config.owner)
        ref = await executor.start(claiming.job(CLAIMS))
        waiting = asyncio.create_task(executor.wait(ref))
        await eventually(lambda: asyncio.sleep(0, calls["claimed"] == 1))
        kubectl("-n", namespace(), "delete", "pod", "-l", f"job-name={ref.where.split()[0]}", "--wait=false")
        end = await waiting
        assert end.cause is EndCause.LOST
        assert "deleted by somebody else" in end.detail
        assert await executor.wait(ref) == end
        assert await _jobs(place) == []
        await executor.stop(ref)
        assert calls["claimed"] == 1
        assert calls["published"] == 0


async def test_a_second_pod_that_began_while_no_daemon_looked_gives_up(place: KubernetesPlace) -> None:
    async with _daemon() as (url, calls):
        claiming = KubernetesPlace(place.config.image, url=url, owner=place.config.owner)
        async with place.open() as executor:
            ref = await executor.start(claiming.job(CLAIMS))
            await eventually(lambda: asyncio.sleep(0, calls["claimed"] == 1))
        pod = kubectl("-n", namespace(), "get", "pods", "-l", f"job-name={ref.where.split()[0]}", "-o", "name")
        kubectl("-n", namespace(), "delete", pod, "--grace-period=0", "--force")
        await eventually(lambda: asyncio.sleep(0, calls["refused"] == 1))
        async with place.open() as successor:
            end = await successor.wait(ref)
            assert (end.cause, end.exit_code) == (EndCause.FAILED, 3)  # the builder's word for "I had to give up"
            await successor.stop(ref)
        assert (calls["claimed"], calls["published"]) == (1, 0)


async def test_a_job_that_somebody_deletes_is_lost(place: KubernetesPlace, executor: KubernetesExecutor) -> None:
    ref = await executor.start(place.job("time.sleep(1000)"))
    waiting = asyncio.create_task(executor.wait(ref))
    await eventually(lambda: _runs(place))
    kubectl("-n", namespace(), "delete", "job", ref.where.split()[0], "--wait=false")
    end = await waiting
    assert end.cause is EndCause.LOST
    assert "deleted" in end.detail


async def test_a_job_at_its_own_deadline_ended_by_time(place: KubernetesPlace, executor: KubernetesExecutor) -> None:
    """Its pod is deleted then, and no other pod may be taken for lost."""
    ref = await executor.start(place.job("time.sleep(1000)"))
    waiting = asyncio.create_task(executor.wait(ref))
    await eventually(lambda: _runs(place))
    patch = json.dumps({"spec": {"activeDeadlineSeconds": 1}})
    kubectl("-n", namespace(), "patch", "job", ref.where.split()[0], "--type=merge", "-p", patch)
    assert (await waiting).cause is EndCause.TIMEOUT


@asynccontextmanager
async def _daemon() -> AsyncIterator[tuple[str, Counter[str]]]:
    """Lets one claim an attempt, and nobody after that."""
    calls: Counter[str] = Counter()

    async def claim(_request: web.Request) -> web.Response:
        if calls["claimed"]:
            calls["refused"] += 1
            return web.Response(status=409)
        calls["claimed"] += 1
        return web.Response()

    async def publish(_request: web.Request) -> web.Response:
        calls["published"] += 1
        return web.Response()

    app = web.Application()
    app.router.add_post("/claim", claim)
    app.router.add_post("/publish", publish)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    try:
        yield site.name, calls
    finally:
        await runner.cleanup()


async def _jobs(place: KubernetesPlace) -> list[str]:
    found = await asyncio.to_thread(get, "jobs", "-l", f"scalemesh.dev/owner={place.config.owner}")
    return [each["metadata"]["name"] for each in found]


async def _runs(place: KubernetesPlace) -> bool:
    found = await asyncio.to_thread(get, "pods", "-l", f"scalemesh.dev/owner={place.config.owner}")
    return any(each["status"]["phase"] == "Running" for each in found)
