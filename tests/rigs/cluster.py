"""The Kubernetes that tests use: .ci/run starts one; by hand, tests/rigs/kubernetes/install.sh and up.sh do."""

import atexit
import json
import os
import secrets
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

SCRIPTS: Final = Path(__file__).with_name("kubernetes")
KUBE_HOME: Final = Path(os.environ.get("KUBE_HOME", "/opt/kube"))
HOST: Final = "172.17.0.1"  #: this machine, as pods see it


def kubeconfig() -> Path:
    """The administrator's."""
    return Path(os.environ["KUBECONFIG"])


def has_cluster() -> bool:
    return bool(os.environ.get("KUBECONFIG"))


def need_cluster() -> None:
    """Skip the test, and say so; in CI fail it: .ci/run always has one."""
    if has_cluster():
        return
    if os.environ.get("CI"):
        pytest.fail("KUBECONFIG is not set; .ci/run starts a cluster and sets it")
    how = "tests/rigs/kubernetes/install.sh, then up.sh FILE, then KUBECONFIG=FILE"
    pytest.skip(f"NOT RUN: there is no Kubernetes cluster, KUBECONFIG is not set ({how})")


def kubectl(*words: str, text: str = "", may_fail: bool = False) -> str:
    """What the program prints, *text* being its input."""
    program = shutil.which("kubectl", path=f"{KUBE_HOME}/bin:{os.environ['PATH']}")
    assert program
    command = [program, "--kubeconfig", str(kubeconfig()), *words]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert may_fail or done.returncode == 0, (words, done.stderr)
    return done.stdout.strip()


def get(what: str, *words: str) -> list[dict[str, Any]]:
    """Objects of the tests' namespace."""
    found: list[dict[str, Any]] = json.loads(kubectl("-n", namespace(), "get", what, *words, "-o", "json"))["items"]
    return found


def control(*words: str) -> None:
    """Stop, kill or start one part of the cluster."""
    subprocess.run(["bash", str(SCRIPTS / "ctl.sh"), *words], check=True, capture_output=True)


@cache
def namespace() -> str:
    """One for this run of pytest; it goes away with it."""
    name = f"builds-{secrets.token_hex(4)}"
    kubectl("create", "namespace", name)
    atexit.register(kubectl, "delete", "namespace", name, "--wait=false", may_fail=True)
    return name


def processes_of(job: str) -> list[int]:
    """The host's pids of the processes of a Job's container; empty until its program has begun."""
    labels = (f"io.kubernetes.pod.namespace={namespace()}", "io.kubernetes.container.name=builder")
    filters = [word for label in labels for word in ("--filter", f"label={label}")]
    shown = '{{.ID}} {{.Label "io.kubernetes.pod.name"}}'
    rows = [row.split() for row in _docker("ps", *filters, "--format", shown).splitlines()]
    return [pid for container, pod in rows if pod.startswith(f"{job}-") for pid in _pids(container)]


def _pids(container: str) -> list[int]:
    lines = _docker("top", container, "-eo", "pid,args").splitlines()[1:]
    tree = [(int(pid), words) for pid, words in (line.split(None, 1) for line in lines)]
    return [pid for pid, _ in tree] if any("stand_in" in words for _, words in tree) else []


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=False).stdout
