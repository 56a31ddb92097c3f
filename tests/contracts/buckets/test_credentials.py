"""Where the credentials come from if the settings name none."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scalemesh.errors import UnreachableError
from scalemesh.values import Secret
from tests.contracts.buckets.senders import blob_of, put, read
from tests.contracts.openers import BUCKETS
from tests.rigs import s3_servers
from tests.rigs.s3_relay import Relay

STRICT = ("s3-weed", "minio-weed")
NONE = {"access_key": "", "secret_key": Secret("")}

pytestmark = pytest.mark.parametrize("kind", STRICT, indirect=True)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An account without any; none is looked for at this machine's own metadata address."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


async def works(kind: str, where: Path, **more: str) -> bool:
    async with BUCKETS[kind](where, **NONE, **more) as store:
        return await read(store, (await put(store, b"x")).sha256) == b"x"


async def test_without_any_the_fix_is_told(kind: str, tmp_path: Path) -> None:
    async with BUCKETS[kind](tmp_path, **NONE) as store:
        with pytest.raises(UnreachableError, match="there are no credentials for the store") as caught:
            await put(store, b"x")
        assert "access_key" in caught.value.fix


async def test_those_of_the_environment_are_taken(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_servers.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_servers.SECRET_KEY)
    assert await works(kind, tmp_path)


async def test_those_of_a_profile_are_taken(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = f"aws_access_key_id = {s3_servers.ACCESS_KEY}\naws_secret_access_key = {s3_servers.SECRET_KEY}\n"
    (tmp_path / "credentials").write_text(f"[builds]\n{keys}")
    if kind.startswith("s3"):
        assert await works(kind, tmp_path, profile="builds")
        async with BUCKETS[kind](tmp_path, **NONE, profile="absent") as store:
            with pytest.raises(UnreachableError, match="no credentials"):
                await put(store, b"x")
    monkeypatch.setenv("AWS_PROFILE", "builds")
    assert await works(kind, tmp_path)


async def test_those_of_minios_own_environment_are_taken(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kind.startswith("minio"):
        pytest.skip("a habit of MinIO's client")
    monkeypatch.setenv("MINIO_ACCESS_KEY", s3_servers.ACCESS_KEY)
    monkeypatch.setenv("MINIO_SECRET_KEY", s3_servers.SECRET_KEY)
    assert await works(kind, tmp_path)


class Role(BaseHTTPRequestHandler):
    """Plays the address at which a container asks for the credentials of its role."""

    def do_GET(self) -> None:
        told = {
            "AccessKeyId": s3_servers.ACCESS_KEY,
            "SecretAccessKey": s3_servers.SECRET_KEY,
            "Token": "" if self.path == "/plain" else "of a session",
            "Expiration": "2099-01-01T00:00:00Z",
        }
        data = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def role_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Role) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


async def test_those_of_a_role_are_taken(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role_url: str
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{role_url}/plain")
    assert await works(kind, tmp_path)


async def test_the_token_of_a_role_is_sent_and_signed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role_url: str
) -> None:
    """Here no server knows such a token: what is sent is looked at on its way."""
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{role_url}/role")
    async with Relay.open(s3_servers.url_of("weed")) as relay:
        relay.refuse(100)
        async with BUCKETS[kind](tmp_path, **NONE, endpoint=relay.url, tries=1) as store:
            with pytest.raises(UnreachableError, match="busy"):
                await put(store, b"x")
            url = await asyncio.to_thread(store.bucket.download, "key")
            sent = await asyncio.to_thread(store.bucket.upload, "key", blob_of(b"x"))
    (asked,) = relay.asked
    assert asked.headers["x-amz-security-token"] == "of a session"
    assert "x-amz-security-token" in asked.headers["authorization"]
    assert "X-Amz-Security-Token=of" in url.url
    assert "security-token" in str(sent).lower()
