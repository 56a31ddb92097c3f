"""The manifests that an operator applies: the daemon's account can do all of its work by them, and nothing else."""

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.addresses import FORBIDDEN
from plugins.executors.kubernetes.cluster import Cluster
from plugins.executors.kubernetes.findings import NEEDED
from plugins.executors.kubernetes.jobs import Jobs
from plugins.executors.kubernetes.recipe import Recipe
from plugins.executors.kubernetes.sweep import sweep
from scalemesh.errors import RefusedError, UnreachableError
from scalemesh.values import EndCause
from tests.contracts.executor.places.kubernetes import KubernetesPlace
from tests.contracts.executor.processes import alive, eventually
from tests.rigs.cluster import KUBE_HOME, get, kubeconfig, kubectl, namespace, need_cluster

pytestmark = pytest.mark.timeout(300)
MANIFESTS = Path(__file__).parents[3] / "config" / "kubernetes"


def manifest(name: str) -> str:
    """The file, for the namespace of the tests."""
    return (MANIFESTS / f"{name}.yaml").read_text().replace("scalemesh-builds", namespace())


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((MANIFESTS / f"{name}.yaml").read_text()))


@pytest.fixture
async def account(tmp_path: Path) -> Path:
    """A kubeconfig of the account that rbac.yaml makes."""
    need_cluster()
    await asyncio.to_thread(kubectl, "apply", "-f", "-", text=manifest("rbac"))
    token: list[str] = []

    async def has_token() -> bool:
        found = [each for each in get("secrets") if each["metadata"]["name"] == "scalemesh-token"]
        token.extend(
            base64.b64decode(each["data"]["token"]).decode() for each in found if "token" in each.get("data", {})
        )
        return bool(token)

    await eventually(has_token)
    known = yaml.safe_load(kubeconfig().read_text())
    known["users"][0]["user"] = {"token": token[0]}
    path = tmp_path / "account"
    path.write_text(yaml.safe_dump(known))
    return path


async def test_the_daemons_account_lives_a_builds_whole_life(place: KubernetesPlace, account: Path) -> None:
    ours = KubernetesPlace(place.config.image, kubeconfig=account, owner=place.config.owner)
    async with ours.open() as executor:
        well = await executor.start(ours.job("print('done'); sys.exit(6)"))
        long = await executor.start(ours.job("time.sleep(1000)", deployment="dpl_two"))
        assert (await executor.wait(well)).exit_code == 6
        await eventually(lambda: _begun(ours, long))
        before = await ours.processes(long)
    async with ours.open() as successor:
        assert set(await successor.running()) == {well, long}
        assert (await successor.wait(well)).exit_code == 6
        await asyncio.gather(successor.stop(well), successor.stop(long))
        assert not any(alive(pid) for pid in before)
        assert await successor.running() == []
    held_up = KubernetesPlace(place.config.image, kubeconfig=account, start_timeout_s=5, service_account="nobody")
    async with held_up.open() as executor:  # by events, too
        end = await executor.wait(await executor.start(held_up.job("")))
        assert end.cause is EndCause.REFUSED
        assert "nobody" in end.detail
    async with Cluster.open(ours.config) as cluster:
        recipe = Recipe(ours.config, 0)
        await sweep(cluster, Jobs(cluster, recipe), recipe)


async def test_the_account_has_every_right_that_is_needed_and_no_other(place: KubernetesPlace, account: Path) -> None:
    granted = {
        (verb, group, resource)
        for rule in documents("rbac")[1]["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert granted == set(NEEDED)
    async with Cluster.open(replace(place.config, kubeconfig=account)) as cluster:
        assert all([await cluster.may(*right) for right in NEEDED])
        beyond = [
            *(("create", "", "pods"), ("get", "", "secrets"), ("update", "", "secrets"), ("create", "", "pods/exec")),
            *(
                ("get", "", "pods/log"),
                ("patch", "batch", "jobs"),
                ("list", "", "configmaps"),
                ("list", "", "services"),
            ),
            *(("create", "rbac.authorization.k8s.io", "rolebindings"), ("list", "", "nodes"), ("*", "*", "*")),
        ]
        assert [right for right in beyond if await cluster.may(*right)] == []
    async with Cluster.open(replace(place.config, kubeconfig=account, namespace="default")) as elsewhere:
        assert not any([await elsewhere.may(*right) for right in NEEDED])
        with pytest.raises(RefusedError, match="does not let us list secrets in namespace default"):
            await elsewhere.secrets("a=b")


async def test_who_has_no_rights_is_told_which(place: KubernetesPlace) -> None:
    stranger = KubernetesPlace(place.config.image, kubeconfig=KUBE_HOME / "run" / "limited.kubeconfig")
    async with stranger.open() as executor:
        with pytest.raises(RefusedError) as refused:
            await executor.start(stranger.job(""))
        assert f"does not let us list jobs in namespace {namespace()}" in refused.value.what
        assert "config/kubernetes/rbac.yaml" in refused.value.fix
        with pytest.raises(UnreachableError):
            await executor.running()
        found = [finding for finding in await executor.check() if not finding.ok]
        assert "create jobs" in found[0].what
        assert "list events" in found[0].what
        assert "config/kubernetes/rbac.yaml" in found[0].fix


async def test_a_wrong_token_is_told_as_such(place: KubernetesPlace, tmp_path: Path) -> None:
    known = yaml.safe_load(kubeconfig().read_text())
    known["users"][0]["user"] = {"token": "x" * 32}
    (tmp_path / "wrong").write_text(yaml.safe_dump(known))
    wrong = KubernetesPlace(place.config.image, kubeconfig=tmp_path / "wrong")
    async with wrong.open() as executor:
        with pytest.raises(RefusedError, match="does not know who we are"):
            await executor.start(wrong.job(""))


@pytest.fixture
def clean_up() -> Iterator[None]:
    yield
    kubectl("-n", namespace(), "delete", "networkpolicies,resourcequotas", "--all", may_fail=True)
    kubectl(
        "-n", namespace(), "delete", "pod", "try", "--ignore-not-found", "--grace-period=0", "--force", may_fail=True
    )


@pytest.mark.parametrize("name", sorted(path.stem for path in MANIFESTS.glob("*.yaml")))
def test_a_manifest_is_taken_by_a_real_cluster(name: str, clean_up: None) -> None:
    need_cluster()
    if name == "quota":  # others start builds meanwhile
        kubectl("apply", "--dry-run=server", "-f", "-", text=manifest(name))
        return
    kubectl("apply", "-f", "-", text=manifest(name))
    for document in documents(name):
        assert kubectl("-n", namespace(), "get", document["kind"], *_name(document), "-o", "name")


def _name(document: dict[str, Any]) -> list[str]:
    name = document["metadata"]["name"]
    return [namespace() if document["kind"] == "Namespace" else name]


async def test_the_pod_to_try_the_network_from_is_held_as_a_build_and_can_be_entered(
    place: KubernetesPlace, clean_up: None
) -> None:
    pod, build = documents("try")[0], Recipe(place.config, 0).job(place.job(""))["spec"]["template"]["spec"]
    for part in ("securityContext", "automountServiceAccountToken", "enableServiceLinks"):
        assert pod["spec"][part] == build[part]
    assert pod["spec"]["containers"][0]["securityContext"] == build["containers"][0]["securityContext"]
    image = pod["spec"]["containers"][0]["image"]
    kubectl("apply", "-f", "-", text=manifest("try").replace(image, place.config.image))
    kubectl("-n", namespace(), "wait", "--for=condition=Ready", "pod/try", "--timeout=30s")
    assert kubectl("-n", namespace(), "exec", "try", "--", "python3", "-c", "import os; print(os.getuid())") == "1000"


def test_the_pod_to_try_the_network_from_fits_the_quota() -> None:
    need_cluster()
    name = f"{namespace()}-quota"
    kubectl("create", "namespace", name)
    try:
        for each in ("quota", "try"):
            kubectl("apply", "-f", "-", text=manifest(each).replace(namespace(), name))
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


def test_builds_with_the_internet_reach_nothing_else() -> None:
    """The same list as that of the other executors, but for one network that no policy may name."""
    full = next(each for each in documents("network") if each["metadata"]["name"] == "scalemesh-full")
    blocks = [to["ipBlock"] for to in full["spec"]["egress"][0]["to"]]
    assert {block["cidr"] for block in blocks} == {"0.0.0.0/0", "::/0"}
    assert sorted(each for block in blocks for each in block["except"]) == sorted(set(FORBIDDEN) - {"::ffff:0:0/96"})


async def test_policies_choose_builds_by_their_labels(place: KubernetesPlace) -> None:
    job = json.loads(json.dumps(Recipe(place.config, 0).job(place.job(""))))
    labels = job["spec"]["template"]["metadata"]["labels"]
    chosen = {each["metadata"]["name"]: each["spec"]["podSelector"] for each in documents("network")}
    assert chosen["scalemesh-every-build"]["matchExpressions"][0]["key"] in labels
    assert chosen["scalemesh-full"]["matchLabels"].items() <= labels.items()
    assert not chosen["scalemesh-packages"]["matchLabels"].items() <= labels.items()


async def _begun(place: KubernetesPlace, ref: Any) -> bool:
    return bool(await place.processes(ref))
