"""What is made in the cluster for a build, what it is held to, and what is left of it."""

import asyncio
import json
import threading
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plugins.executors.kubernetes import KubernetesExecutor
from plugins.executors.kubernetes.cluster import Cluster
from plugins.executors.kubernetes.jobs import Jobs
from plugins.executors.kubernetes.recipe import Recipe
from plugins.executors.kubernetes.sweep import sweep
from scalemesh.errors import RefusedError
from scalemesh.values import EndCause, JobRef, Network
from tests.contracts.executor.places import let_go
from tests.contracts.executor.places.kubernetes import KubernetesPlace
from tests.contracts.executor.processes import eventually
from tests.contracts.executor.stand_in import MIB, TOLD, limits
from tests.rigs.cluster import get, kubectl, namespace

pytestmark = pytest.mark.timeout(300)
FOREVER = "time.sleep(1000)"
#: exits 0 if it is held as it should be, else with the number of what is not
IS_HELD = """
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    def fails(path):
        try:
            open(path, "w").close()
        except OSError:
            return True
        return False
    holds = [
        os.getuid() == 1000 and os.getgid() == 1000,
        int(status["CapEff"], 16) == 0 and int(status["CapBnd"], 16) == 0,
        status["NoNewPrivs"].strip() == "1",
        status["Seccomp"].strip() == "2",
        fails("/here") and fails("/etc/here") and fails(os.environ["SCALEMESH_TOKEN_FILE"]),
        not fails("/tmp/here") and not fails("/work/here"),
        not os.path.exists("/var/run/secrets/kubernetes.io"),
        not os.path.exists("/var/run/docker.sock"),
        not [name for name in os.environ if name.endswith("_SERVICE_HOST") and not name.startswith("KUBERNETES")],
        os.getpid() == 1,
        "SCALEMESH_TOKEN" not in os.environ and os.environ["SCALEMESH_SANDBOX"] == "container",
        os.environ["HOME"] == "/work/home" and os.environ["SCALEMESH_WORK"] == "/work",
        os.environ["TMPDIR"] == "/work/tmp",
    ]
    sys.exit(0 if all(holds) else 10 + holds.index(False))
"""


def of(ref: JobRef, what: str) -> dict[str, Any]:
    name = ref.where.split()[0]
    found = [each for each in get(what) if each["metadata"]["name"].startswith(name)]
    return found[0] if found else {}


async def test_a_build_is_held_to_the_strictest_rules_of_pod_security(
    place: KubernetesPlace, executor: KubernetesExecutor
) -> None:
    end = await executor.wait(await executor.start(place.job(IS_HELD)))
    assert (end.cause, end.exit_code, end.detail) == (EndCause.OK, 0, "")


async def test_what_is_asked_of_the_cluster_holds_every_limit(place: KubernetesPlace) -> None:
    settings = {
        "cpu_request": 0.05,
        "cpu_limit": 1.5,
        "tmp_mib": 100,
        "node_lost_s": 7,
        "keep_s": 600,
        "start_timeout_s": 50,
        "labels": {"team": "web"},
        "annotations": {"example.com/why": "a build"},
        "node_selector": {"kubernetes.io/os": "linux"},
        "image_pull_secrets": ("registry",),
    }
    held = KubernetesPlace(place.config.image, **settings)
    async with held.open() as executor:
        within = limits(memory_mib=200, disk_mib=300, time_s=60)
        ref = await executor.start(replace(held.job(FOREVER, within=within), network=Network.PACKAGES))
        job, secret = of(ref, "jobs"), of(ref, "secrets")
        await eventually(lambda: asyncio.to_thread(lambda: bool(of(ref, "pods"))))
        pod = of(ref, "pods")
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (0, 110)
    assert job["spec"]["ttlSecondsAfterFinished"] == 600
    assert (spec["activeDeadlineSeconds"], spec["terminationGracePeriodSeconds"]) == (60, 2)
    assert (spec["restartPolicy"], spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (
        "Never",
        False,
        False,
    )
    assert container["resources"]["requests"] == {"cpu": "50m", "memory": str(200 * MIB), "ephemeral-storage": "720Mi"}
    assert container["resources"]["limits"] == {"cpu": "1500m", "memory": str(200 * MIB), "ephemeral-storage": "720Mi"}
    assert {each["name"]: each.get("emptyDir") for each in spec["volumes"]} == {
        "work": {"sizeLimit": "556Mi"},
        "tmp": {"sizeLimit": "100Mi"},
        "token": None,
    }
    words = {
        "scalemesh.dev/owner": held.config.owner,
        "scalemesh.dev/deployment": "dpl_one",
        "scalemesh.dev/attempt": "1",
        "scalemesh.dev/network": "packages",
    }
    for found in (job, secret, pod):
        assert (words | {"team": "web"}).items() <= found["metadata"]["labels"].items()
        assert (words | {"example.com/why": "a build"}).items() <= found["metadata"]["annotations"].items()
    away = [each for each in spec["tolerations"] if each.get("tolerationSeconds") == 7]
    assert {each["key"] for each in away} == {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
    assert secret["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    assert "time.sleep" not in json.dumps(pod) + json.dumps(job)  # which stands for the token


async def test_authorities_of_a_company_come_with_the_token(place: KubernetesPlace, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    trusting = KubernetesPlace(place.config.image, ca_bundle=str(tmp_path / "ca.pem"))
    program = "sys.exit(open(os.environ['SCALEMESH_CA']).read() != '-----BEGIN CERTIFICATE-----\\n')"
    async with trusting.open() as executor:
        ref = await executor.start(trusting.job(program))
        assert (await executor.wait(ref)).cause is EndCause.OK
        await executor.stop(ref)
        (tmp_path / "ca.pem").write_text("x" * 1_000_000)
        with pytest.raises(RefusedError, match="do not fit"):
            await executor.start(trusting.job(program))
        (tmp_path / "ca.pem").unlink()
        with pytest.raises(RefusedError, match=r"builds\.ca_bundle"):
            await executor.start(trusting.job(program))


async def test_without_a_public_url_a_build_is_refused_with_the_fix(
    place: KubernetesPlace, executor: KubernetesExecutor
) -> None:
    with pytest.raises(RefusedError, match=r"builds\.public_url"):
        await executor.start(replace(place.job(FOREVER), url=None))
    assert await place.leftovers() == []


async def test_the_start_of_a_pod_takes_nothing_from_the_time_of_its_build(place: KubernetesPlace) -> None:
    """The cluster counts from before the image is pulled, and lets a start take that long."""
    async with KubernetesExecutor.open(replace(place.config, start_timeout_s=400)) as executor:
        ref = await executor.start(place.job(FOREVER, within=limits(time_s=60)))
        spec = of(ref, "jobs")["spec"]
        await executor.stop(ref)
    assert spec["template"]["spec"]["activeDeadlineSeconds"] >= 400 + 60 + 30
    assert spec["activeDeadlineSeconds"] > spec["template"]["spec"]["activeDeadlineSeconds"]


async def test_a_start_that_was_cut_off_after_the_secret_is_made_good(
    place: KubernetesPlace, executor: KubernetesExecutor
) -> None:
    name = Recipe(place.config, 0).name(place.job("").deployment, 1)
    kubectl("-n", namespace(), "create", "secret", "generic", name, "--from-literal=token=sys.exit(9)")
    ref = await executor.start(place.job("sys.exit(0)"))
    assert (await executor.wait(ref)).cause is EndCause.OK
    await executor.stop(ref)


async def test_a_start_that_was_cut_off_after_the_job_is_made_good(
    place: KubernetesPlace, executor: KubernetesExecutor
) -> None:
    ref = await executor.start(place.job(FOREVER))
    patch = '{"metadata": {"ownerReferences": null}}'
    kubectl("-n", namespace(), "patch", "secret", ref.where.split()[0], "--type=merge", "-p", patch)
    assert await executor.start(place.job(FOREVER)) == ref
    assert of(ref, "secrets")["metadata"]["ownerReferences"]


async def test_a_job_of_that_name_that_is_not_ours_is_left_alone(
    place: KubernetesPlace, executor: KubernetesExecutor
) -> None:
    name = Recipe(place.config, 0).name(place.job("").deployment, 1)
    kubectl("-n", namespace(), "create", "job", name, f"--image={place.config.image}", "--", "python3", "-c", "")
    with pytest.raises(RefusedError, match="not ours"):
        await executor.start(place.job(FOREVER))
    assert [each for each in get("jobs") if each["metadata"]["name"] == name]
    kubectl("-n", namespace(), "delete", "job", name, "--wait=false")


async def test_the_secret_goes_with_a_job_that_the_cluster_removes(
    place: KubernetesPlace, executor: KubernetesExecutor
) -> None:
    ref = await executor.start(place.job("sys.exit(0)"))
    await executor.wait(ref)
    kubectl("-n", namespace(), "delete", "job", ref.where.split()[0], "--wait=false")
    await eventually(lambda: asyncio.to_thread(lambda: not of(ref, "secrets")))


async def test_what_a_killed_daemon_left_half_made_is_swept(
    place: KubernetesPlace, executor: KubernetesExecutor
) -> None:
    """A Secret whose Job never came; a pod whose Job was deleted without it, which Kubernetes does by default."""
    recipe = Recipe(place.config, 0)
    early, orphaned, kept = (
        place.job(FOREVER),
        place.job(FOREVER, deployment="dpl_two"),
        place.job("", deployment="dpl_3"),
    )
    refs = [await executor.start(orphaned), await executor.start(kept)]
    await eventually(lambda: asyncio.to_thread(lambda: bool(of(refs[0], "pods"))))
    kubectl("-n", namespace(), "delete", "job", refs[0].where.split()[0], "--cascade=orphan")
    async with Cluster.open(place.config) as cluster:
        await cluster.create_secret(recipe.secret(early, ""))
        await sweep(cluster, Jobs(cluster, recipe), recipe, old_s=60)
        assert len(await cluster.secrets(recipe.selector(early.deployment))) == 1  # somebody may be starting it
        await sweep(cluster, Jobs(cluster, recipe), recipe, old_s=-60)
        assert await cluster.secrets(recipe.selector(early.deployment)) == []
        assert len(await cluster.secrets(recipe.selector(kept.deployment))) == 1
        pods = await cluster.pods(recipe.selector(orphaned.deployment))
        assert all(pod["metadata"].get("deletionTimestamp") for pod in pods)


async def test_many_waits_need_no_more_threads_than_one(place: KubernetesPlace) -> None:
    before = set(threading.enumerate())  # of executors of other tests that are ending still
    async with place.open() as executor:
        ref = await executor.start(place.job(TOLD))
        one = asyncio.create_task(executor.wait(ref))
        await eventually(lambda: asyncio.sleep(0, len(_ours(before)) >= 3))
        rest = [asyncio.create_task(executor.wait(ref)) for _ in range(100)]
        await let_go(place, ref)
        ends = await asyncio.gather(one, *rest)
        assert len(_ours(before)) <= 6  # two that listen, four that ask
        assert {end.exit_code for end in ends} == {4}
        await executor.stop(ref)


def _ours(before: Collection[threading.Thread]) -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("kubernetes") and each not in before]
