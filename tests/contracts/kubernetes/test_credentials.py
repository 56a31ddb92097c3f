"""A kubeconfig whose user has a program that gives the token, as those of EKS, GKE and AKS have."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from plugins.executors.kubernetes.cluster import Cluster
from plugins.executors.kubernetes.config import KubernetesConfig
from scalemesh.errors import UnreachableError
from scalemesh.values import EndCause
from tests.contracts.executor.places.kubernetes import KubernetesPlace
from tests.rigs.cluster import kubeconfig, namespace, need_cluster

pytestmark = pytest.mark.timeout(60)
SAID = '{"apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential", "status": {"token": "%s"}}'
BROKEN = "echo 'the metadata service is not there yet' >&2; exit 1"


class Program:
    """The plug-in. Does the first words when it is first run, the second ones then, and so on; the last for ever."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        known = yaml.safe_load(kubeconfig().read_text())
        self.good = f"echo '{SAID % known['users'][0]['user']['token']}'"
        self.old = f"echo '{SAID % 'a-token-of-yesterday'}'"
        plugin = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": str(folder / "plugin")}
        known["users"][0]["user"] = {"exec": plugin}
        self.config = folder / "kubeconfig"
        self.config.write_text(yaml.safe_dump(known))

    def does(self, *words: str) -> None:
        turns = "\n".join(f"{number}) {each};;" for number, each in enumerate(words[:-1], 1))
        counted = f"n=$(cat {self._folder}/runs 2>/dev/null || echo 0); n=$((n+1)); echo $n >{self._folder}/runs"
        script = self._folder / "plugin"
        script.write_text(f"#!/bin/sh\n{counted}\ncase $n in\n{turns}\n*) {words[-1]};;\nesac\n")
        script.chmod(0o700)

    @property
    def runs(self) -> int:
        return int((self._folder / "runs").read_text())


@pytest.fixture
def program(tmp_path: Path) -> Program:
    need_cluster()
    return Program(tmp_path)


@pytest.mark.parametrize("first", ["broken", "old"])
async def test_a_plug_in_that_gives_no_good_token_at_first_is_asked_again(
    place: KubernetesPlace, program: Program, first: str
) -> None:
    program.does(BROKEN if first == "broken" else program.old, program.good)
    place.config = replace(place.config, kubeconfig=program.config)
    async with place.open() as executor:
        end = await executor.wait(await executor.start(place.job("sys.exit(5)")))
        assert (end.cause, end.exit_code) == (EndCause.FAILED, 5)
    assert program.runs == 2


async def test_a_cluster_that_cannot_know_us_yet_makes_builds_wait_and_the_reason_is_told(program: Program) -> None:
    program.does(BROKEN)
    config = KubernetesConfig(image="none", namespace=namespace(), kubeconfig=program.config)
    async with Cluster.open(config, renew_s=0) as cluster:
        with pytest.raises(UnreachableError, match="no credentials for the cluster") as caught:
            await cluster.jobs("a=b")
        assert "exec plug-in" in caught.value.fix
        program.does(program.good)
        assert await cluster.jobs("a=b") == []


async def test_a_plug_in_that_fails_is_not_run_for_every_call(program: Program) -> None:
    program.does(BROKEN)
    config = KubernetesConfig(image="none", namespace=namespace(), kubeconfig=program.config)
    async with Cluster.open(config) as cluster:
        found = await asyncio.gather(*(cluster.jobs("a=b") for _ in range(8)), return_exceptions=True)
    assert {type(each) for each in found} == {UnreachableError}
    assert program.runs == 2  # at the beginning, and once since
