"""What refusals of the Kubernetes API mean, and which settings are taken."""

import json
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import MaxRetryError, ProtocolError

from plugins.executors.kubernetes.config import KubernetesConfig, Toleration
from plugins.executors.kubernetes.recipe import Recipe
from plugins.executors.kubernetes.words import meaning
from scalemesh.errors import ConflictError, NotFoundError, RefusedError, UnreachableError
from scalemesh.values import DeploymentId


def answer(status: int, message: str = "", reason: str = "") -> ApiException:
    error = ApiException(status=status, reason=reason)
    error.body = json.dumps({"kind": "Status", "message": message, "reason": reason})
    return error


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (answer(401, "Unauthorized"), RefusedError, "does not know who we are"),
        (answer(403, 'User "x" cannot create'), RefusedError, "does not let us create jobs in namespace builds"),
        (answer(403, "forbidden: exceeded quota: little"), UnreachableError, "quota of the namespace is used up"),
        (answer(404, "not found"), NotFoundError, "does not know it"),
        (answer(409, "exists", "AlreadyExists"), ConflictError, "has that name already"),
        (answer(409, "please apply your changes to the latest version", "Conflict"), UnreachableError, "cannot now"),
        (answer(422, "invalid: spec.x"), RefusedError, "does not accept"),
        (answer(400, "bad"), RefusedError, "does not accept"),
        (answer(429, "too many requests"), UnreachableError, "cannot now"),
        (answer(500, "etcdserver: request timed out"), UnreachableError, "cannot now"),
        (answer(503, "shutting down"), UnreachableError, "cannot now"),
        (ProtocolError("Response ended prematurely"), UnreachableError, "does not answer"),
        (ConnectionResetError("reset"), UnreachableError, "does not answer"),
        (ApiException(status=0, reason="TLS"), UnreachableError, "does not answer"),
    ],
)
def test_an_error_says_whether_to_try_again(error: Exception, kind: type[Exception], words: str) -> None:
    found = meaning(error, "create", "jobs", "builds")
    assert type(found) is kind
    assert words in str(found)


def test_a_denied_right_leads_to_the_manifest_that_grants_it() -> None:
    assert "config/kubernetes/rbac.yaml" in meaning(answer(403), "list", "pods", "builds").fix


def test_a_long_or_strange_answer_is_told_in_short() -> None:
    strange = ApiException(status=502, reason="Bad Gateway")
    strange.body = "<html>" + "x" * 5000
    found = meaning(strange, "list", "pods", "builds")
    assert len(str(found)) < 1000
    assert "502 Bad Gateway" in str(found)
    root = MaxRetryError(None, "/api", ConnectionRefusedError("refused"))  # type: ignore[arg-type]
    assert meaning(root, "list", "pods", "builds").why == "MaxRetryError: refused"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image": ""}, "image"),
        ({"namespace": "Builds"}, "namespace"),
        ({"namespace": "a" * 64}, "namespace"),
        ({"cpu_request": 0.0}, "cpu_request"),
        ({"cpu_request": 2.0, "cpu_limit": 1.0}, "cpu_limit"),
        ({"tmp_mib": 0}, "tmp_mib"),
        ({"start_timeout_s": 1}, "start_timeout_s"),
        ({"node_lost_s": 0}, "node_lost_s"),
        ({"keep_s": 5}, "keep_s"),
        ({"labels": {"scalemesh.dev/owner": "me"}}, "is ours"),
        ({"annotations": {f"a{number}": "" for number in range(51)}}, "at most 50"),
    ],
)
def test_a_setting_that_no_cluster_could_take_is_a_mistake(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        KubernetesConfig(**{"image": "builder:1", **settings})


@pytest.mark.parametrize("words", [{"value": "x"}, {"key": "a", "operator": "Exists", "value": "x"}])
def test_a_toleration_is_one_that_kubernetes_takes(words: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="operator"):
        Toleration(**words)


def test_names_of_jobs_fit_into_labels() -> None:
    recipe = Recipe(KubernetesConfig(image="builder:1", owner="0123456789ab"), 0)
    name = recipe.name(DeploymentId("dpl_" + "a" * 20), 99)
    assert name == "scalemesh-0123456789ab-dpl-" + "a" * 20 + "-99"
    assert len(name) <= 63
    assert recipe.selector() == "scalemesh.dev/owner=0123456789ab"
