"""AWS for tests: a server of its API whose tasks are real containers of this machine's Docker."""

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config

from tests.rigs.ports import free_port

ADDRESS: Final = "172.17.0.1"  #: Docker's bridge: tasks and this machine reach it alike, others do not
REGION: Final = "eu-central-1"
LOG_GROUP: Final = "scalemesh-builds"
KEYS: Final = {
    "AWS_ACCESS_KEY_ID": "meshkey",
    "AWS_SECRET_ACCESS_KEY": "meshsecret123",
    "AWS_EC2_METADATA_DISABLED": "true",  # nothing here may ask the machine's own metadata address
}
_CLUSTER: Final = "builds"


@dataclass(frozen=True)
class Ministack:
    """A running server with a cluster, a log group and a role."""

    url: str
    cluster: str
    subnet: str
    role_arn: str

    def client(self, service: str) -> Any:
        return client(self.url, service)


@functools.cache
def client(url: str, service: str) -> Any:
    keys = {"aws_access_key_id": KEYS["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": KEYS["AWS_SECRET_ACCESS_KEY"]}
    settings = Config(retries={"total_max_attempts": 1})
    return boto3.session.Session(region_name=REGION).client(service, endpoint_url=url, config=settings, **keys)


@functools.cache
def ministack() -> Ministack:
    """The server of this run of the tests, started once; it ends with the run and removes its containers itself."""
    port = free_port(ADDRESS)
    folder = Path(tempfile.mkdtemp(prefix="scalemesh-ministack-"))
    server = _start(port, folder)
    atexit.register(_end, server, folder)
    url = f"http://{ADDRESS}:{port}"
    _wait(url, server)
    return _furnished(url)


def _start(port: int, folder: Path) -> subprocess.Popen[bytes]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        **KEYS,
        "AUTH": "true",
        "SERVICES": "ecs,logs,sts,iam,ec2",
        "BIND_HOST": ADDRESS,
        "MINISTACK_HOST": ADDRESS,
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "false",
    }
    words = [str(Path(sys.executable).with_name("ministack"))]
    if shutil.which("setpriv"):  # also where the tests are killed it does not stay
        words = ["setpriv", "--pdeathsig", "TERM", *words]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(words, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 90
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_ministack/health", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(
        "ministack does not answer; its log is in a folder scalemesh-ministack-* of the temporary folder"
    )


def _furnished(url: str) -> Ministack:
    client(url, "ecs").create_cluster(clusterName=_CLUSTER)
    client(url, "logs").create_log_group(logGroupName=LOG_GROUP)
    role = client(url, "iam").create_role(RoleName="execution", AssumeRolePolicyDocument="{}")
    subnet = client(url, "ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    return Ministack(url=url, cluster=_CLUSTER, subnet=subnet, role_arn=role["Role"]["Arn"])


def _end(server: subprocess.Popen[bytes], folder: Path) -> None:
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    shutil.rmtree(folder, ignore_errors=True)
