"""Servers that speak S3, for tests: real ones, started once for a run of the tests, on ports of 127.0.0.1.

``weed`` stands for MinIO and checks signatures strictly; ``ministack`` and ``moto`` speak AWS's dialect. A program that
a test starts finds those of the test by its environment.
"""

import atexit
import contextlib
import functools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import boto3
import urllib3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.rigs.ports import is_free

ACCESS_KEY: Final = "meshkey"
SECRET_KEY: Final = "meshsecret123"
REGION: Final = "us-east-1"
BUCKET: Final = "artifacts"  #: there from the start; a test has a prefix of its own in it
DOMAIN: Final = "s3.test"  #: under which weed knows buckets as hosts; whoever uses it brings the requests there
_KEYS: Final = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
_WITHIN_S: Final = 90.0


@dataclass
class Server:
    """One that can be killed and started again on what it has on disk."""

    words: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    url: str
    ports: Sequence[int] = ()  #: whose sockets it leaves in /tmp when it is killed
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Come up and answer."""
        words = list(self.words)
        if shutil.which("setpriv"):  # also where the tests are killed it does not stay
            words = ["setpriv", "--pdeathsig", "KILL", *words]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.environment}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(words, env=environment, cwd=self.folder, stdout=log, stderr=log)
        self._wait()

    def kill(self) -> None:
        """As a power switch."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        for port in self.ports:
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def client(self) -> Any:
        return client(self.url)

    def _wait(self) -> None:
        until = time.monotonic() + _WITHIN_S
        while time.monotonic() < until and self.process is not None and self.process.poll() is None:
            try:
                urllib3.request("GET", self.url, timeout=2, retries=False)
                client(self.url).list_buckets()
            except (OSError, urllib3.exceptions.HTTPError, BotoCoreError, ClientError):
                time.sleep(0.05)
            else:
                return
        raise RuntimeError(f"{self.words[0]} does not answer; {(self.folder / 'log').read_text()[-2000:]}")


@functools.cache
def client(url: str) -> Any:
    """boto3's, to look behind a store's back with."""
    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
    settings = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    return boto3.session.Session(region_name=REGION).client("s3", endpoint_url=url, config=settings, **keys)


def url_of(name: str) -> str:
    """Where the server of that name listens; started if it is not there yet."""
    return os.environ.get(_variable(name)) or started(name).url


@functools.cache
def started(name: str) -> Server:
    """The one of this run of the tests; it ends with the run. A test that kills one makes its own: ``fresh``."""
    server = fresh(name)
    os.environ[_variable(name)] = server.url
    return server


def fresh(name: str) -> Server:
    """One more, with a bucket."""
    server = _made(name)
    try:
        server.start()
    except RuntimeError:
        if server.process is None or server.process.poll() is None:
            raise
        server = _made(name)  # it ended: somebody had taken one of its ports meanwhile
        server.start()
    if BUCKET not in {bucket["Name"] for bucket in server.client().list_buckets()["Buckets"]}:
        with contextlib.suppress(
            server.client().exceptions.BucketAlreadyOwnedByYou
        ):  # some make it themselves just now
            server.client().create_bucket(Bucket=BUCKET)
    return server


def _made(name: str) -> Server:
    server = SERVERS[name](Path(tempfile.mkdtemp(prefix=f"scalemesh-{name}-")))
    atexit.register(server.end)
    return server


def weed(folder: Path) -> Server:
    """SeaweedFS. It keeps on disk what it has taken."""
    (folder / "data").mkdir()
    s3, *others = _ports(5)
    named = zip(("master", "volume", "filer", "admin"), others, strict=True)
    words = [
        *(_program("weed"), "mini", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-master.telemetry=false", "-admin.ui=false", "-webdav=false", f"-s3.port={s3}"),
        *(f"-{name}.port={port}" for name, port in named),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.allowDeleteBucketNotEmpty=false"),
        *("-s3.autoCreateBucket=false", "-volume.preStopSeconds=0", f"-s3.domainName={DOMAIN}"),
    ]
    both = [number for port in (s3, *others) for number in (port, port + 10_000)]
    return Server(words, {**_KEYS, "S3_BUCKET": BUCKET}, folder, f"http://127.0.0.1:{s3}", both)


def ministack(folder: Path) -> Server:
    """Checks signed URLs; of signatures in headers those of its root key are not checked."""
    (port,) = _ports(1)
    environment = {
        **_KEYS,
        "AUTH": "true",
        "SERVICES": "s3,sts",
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "false",
    }
    return Server([_program("ministack")], environment, folder, f"http://127.0.0.1:{port}")


def moto(folder: Path) -> Server:
    """Checks neither signatures nor bytes: a store that vouches for nothing."""
    (port,) = _ports(1)
    return Server(
        [_program("moto_server"), "-H", "127.0.0.1", "-p", str(port)], _KEYS, folder, f"http://127.0.0.1:{port}"
    )


SERVERS: Final[Mapping[str, Callable[[Path], Server]]] = {"weed": weed, "ministack": ministack, "moto": moto}


def _variable(name: str) -> str:
    return f"SCALEMESH_TEST_S3_{name.upper()}"


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _ports(count: int) -> list[int]:
    """Free ones; of each, 10,000 above is free as well: weed takes that for a protocol of its own."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(11_000, 22_000)  # both are below the kernel's own choices
        if port not in found and is_free(port) and is_free(port + 10_000):
            found.append(port)
    return found
