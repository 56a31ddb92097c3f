"""Whose bucket it is, whether it is there, and how it is reached."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from plugins.stores.buckets.store import BucketStore
from scalemesh.config import Config
from scalemesh.decode import decode
from scalemesh.errors import ConfigError, NotFoundError, UnreachableError
from scalemesh.registry import open_point
from scalemesh.values import Secret
from tests.contracts.buckets.senders import LED, Behind, blob_of, once, put, read, sent, signed
from tests.contracts.crash_store import A
from tests.contracts.openers import BUCKETS, OWNER, everything, in_bucket
from tests.rigs import s3_servers, tls
from tests.rigs.s3_relay import Relay

STRICT = ("s3-weed", "minio-weed")
EACH = ("s3-weed", "minio-weed", "s3-ministack")


async def test_the_place_is_marked_once_and_kept(kind: str, store: BucketStore, behind: Behind, tmp_path: Path) -> None:
    assert everything(kind, tmp_path) == []
    await store.staged()
    key = f"{behind.prefix}scalemesh.json"
    assert everything(kind, tmp_path) == [key]
    marker = json.loads(behind.client.get_object(Bucket=behind.bucket, Key=key)["Body"].read())
    assert marker == {"owner": OWNER}
    async with BUCKETS[kind](tmp_path) as again:
        await put(again, b"ours")


@pytest.mark.parametrize("marker", [b'{"owner": "another"}', b"{}", b"[]", b"no JSON"])
async def test_in_a_place_of_another_nothing_is_written_or_deleted(
    kind: str, store: BucketStore, behind: Behind, tmp_path: Path, marker: bytes
) -> None:
    blob = blob_of(b"theirs")
    behind.put(f"{behind.prefix}scalemesh.json", marker)
    behind.put(behind.blob(blob.sha256), b"theirs")
    behind.put(behind.upload(blob.sha256), b"theirs")
    before = everything(kind, tmp_path)
    for call in (
        lambda: put(store, b"ours"),
        lambda: store.receive(A, 1, blob_of(b"ours"), once(b"ours")),
        lambda: store.delete([blob.sha256]),
        lambda: store.clear(A),
        lambda: store.adopt(A, 1, [blob.sha256]),
        lambda: store.upload_urls(A, 1, [blob]),
        lambda: store.received(A, 1),
    ):
        with pytest.raises(UnreachableError, match="belongs to another installation") as caught:
            await call()
        assert "prefix" in caught.value.fix
    (finding,) = await store.check()
    assert not finding.ok
    assert "belongs to another installation" in finding.what
    assert everything(kind, tmp_path) == before


async def test_who_does_not_tell_whose_it_is_reads_and_does_not_write(kind: str, tmp_path: Path) -> None:
    """As the processes that serve beside the daemon."""
    async with BUCKETS[kind](tmp_path) as store:
        blob = await put(store, b"served")
    before = everything(kind, tmp_path)
    async with BUCKETS[kind](tmp_path, owner="") as store:
        assert await read(store, blob.sha256) == b"served"
        assert await store.missing([blob.sha256]) == set()
        for call in (lambda: put(store, b"more"), lambda: store.delete([blob.sha256]), lambda: store.clear(A)):
            with pytest.raises(UnreachableError, match="for reading only"):
                await call()
        with pytest.raises(NotFoundError):
            await read(store, blob_of(b"absent").sha256)
    assert everything(kind, tmp_path) == before


@pytest.mark.parametrize("kind", ["s3-weed", "minio-weed"], indirect=True)
async def test_the_daemon_tells_its_store_whose_it_is_and_processes_that_only_serve_do_not(
    kind: str, tmp_path: Path
) -> None:
    name, server = kind.split("-")
    settings = {key: value for key, value in in_bucket(server, tmp_path).items() if key != "owner"}
    config = decode(Config, {"data_dir": str(tmp_path), "store": {"kind": name, name: settings}})
    async with open_point("store", config, OWNER) as store:
        blob = await put(store, b"served")
    async with open_point("store", config) as store:
        assert await read(store, blob.sha256) == b"served"
        with pytest.raises(UnreachableError, match="for reading only"):
            await put(store, b"more")


async def test_installations_beside_each_other_do_not_see_each_other(kind: str, tmp_path: Path) -> None:
    async with BUCKETS[kind](tmp_path / "a", owner="a") as one, BUCKETS[kind](tmp_path / "b", owner="b") as other:
        blob = await put(one, b"one's")
        await one.receive(A, 1, blob, once(b"one's"))
        assert await other.missing([blob.sha256]) == {blob.sha256}
        assert await other.received(A, 1) == {}
        assert await other.staged() == []
        await other.clear(A)
        assert await one.received(A, 1) == {blob.sha256: 5}


async def test_a_bucket_that_is_absent_is_named_with_its_fix_or_made(kind: str, tmp_path: Path) -> None:
    name = f"made-{secrets.token_hex(6)}"
    async with BUCKETS[kind](tmp_path, bucket=name) as store:
        with pytest.raises(UnreachableError, match=f"there is no bucket {name}") as caught:
            await put(store, b"x")
        assert "create_bucket = true" in caught.value.fix
        (finding,) = await store.check()
        assert not finding.ok
    async with BUCKETS[kind](tmp_path, bucket=name, create_bucket=True, prefix="") as store:
        assert await read(store, (await put(store, b"x")).sha256) == b"x"
    async with BUCKETS[kind](tmp_path, bucket=name, create_bucket=True, prefix="") as store:
        assert await read(store, blob_of(b"x").sha256) == b"x"


@pytest.mark.parametrize("kind", STRICT, indirect=True)
@pytest.mark.parametrize("wrong", [{"secret_key": Secret("wrong")}, {"access_key": "nobody"}])
async def test_wrong_credentials_are_told_as_that(kind: str, tmp_path: Path, wrong: Mapping[str, Any]) -> None:
    async with BUCKETS[kind](tmp_path, **wrong) as store:
        with pytest.raises(UnreachableError, match="does not accept the credentials") as caught:
            await put(store, b"x")
        assert "access_key" in caught.value.fix
        (finding,) = await store.check()
        assert not finding.ok
        assert "wrong" not in finding.what


async def test_a_bucket_of_another_region_is_named_with_the_right_one(kind: str, tmp_path: Path) -> None:
    server = in_bucket(kind.partition("-")[2], tmp_path)["endpoint"]
    async with Relay.open(server) as relay, BUCKETS[kind](tmp_path, endpoint=relay.url) as store:
        relay.refuse(1, status=301, code="PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-1"})
        with pytest.raises(UnreachableError, match="lies in the region eu-west-1") as caught:
            await store.staged()
        assert 'region = "eu-west-1"' in caught.value.fix


async def test_a_bucket_of_somebody_else_is_told_with_what_is_not_allowed(kind: str, tmp_path: Path) -> None:
    server = in_bucket(kind.partition("-")[2], tmp_path)["endpoint"]
    async with Relay.open(server) as relay, BUCKETS[kind](tmp_path, endpoint=relay.url) as store:
        relay.refuse(1, status=403, code="AccessDenied")
        with pytest.raises(UnreachableError, match="do not allow GetObject on the bucket") as caught:
            await store.staged()
        assert "config/aws/s3-policy.json" in caught.value.fix


@pytest.mark.parametrize("kind", EACH, indirect=True)
@pytest.mark.parametrize("style", ["path", "host"])
async def test_buckets_are_reached_as_paths_and_as_hosts_and_through_a_proxy(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    """Names under .test lead nowhere: the proxy that the environment names brings the requests to the server."""
    server = in_bucket(kind.partition("-")[2], tmp_path)["endpoint"]
    domain = s3_servers.DOMAIN if kind.endswith("weed") else "s3.us-east-1.amazonaws.com"
    endpoint = f"http://{domain}:{urlsplit(server).port}"
    async with Relay.open(server) as relay:
        monkeypatch.setenv("http_proxy", relay.url)
        monkeypatch.setenv("no_proxy", "")
        async with BUCKETS[kind](tmp_path, endpoint=endpoint, path_style=style == "path") as store:
            data = b"by its host" * 1000
            assert await read(store, (await put(store, data)).sha256) == data
            assert (await signed(store, data)).url.startswith(
                f"http://{s3_servers.BUCKET}.{domain}" if style == "host" else f"{endpoint}/{s3_servers.BUCKET}/"
            )
            await store.receive(A, 1, blob_of(data), once(data))
            await store.adopt(A, 1, await store.received(A, 1))
            assert await store.staged() == [A]
    hosts = {asked.headers["host"].partition(":")[0] for asked in relay.asked}
    assert hosts == {f"{s3_servers.BUCKET}.{domain}" if style == "host" else domain}


@pytest.mark.parametrize("kind", EACH, indirect=True)
async def test_a_certificate_of_an_authority_of_ones_own_is_trusted_where_it_is_named(
    kind: str, tmp_path: Path
) -> None:
    pem = tls.certificate(tmp_path, "127.0.0.1")
    server = in_bucket(kind.partition("-")[2], tmp_path)["endpoint"]
    async with Relay.open(server, tls.serving(pem)) as relay:
        async with BUCKETS[kind](tmp_path, endpoint=relay.url, ca=pem) as store:
            data = b"over TLS" * 1000
            assert await read(store, (await put(store, data)).sha256) == data
            assert all(finding.ok for finding in await store.check())
        async with BUCKETS[kind](tmp_path, endpoint=relay.url, tries=1) as store:
            with pytest.raises(UnreachableError, match="is not to be trusted") as caught:
                await put(store, b"x")
            assert ".ca" in caught.value.fix
        with pytest.raises(ConfigError, match=r"absent\.pem"):
            async with BUCKETS[kind](tmp_path, endpoint=relay.url, ca=tmp_path / "absent.pem"):
                pass


@pytest.mark.parametrize("kind", EACH, indirect=True)
async def test_builders_get_the_public_address_and_the_daemon_uses_its_own(kind: str, tmp_path: Path) -> None:
    server = in_bucket(kind.partition("-")[2], tmp_path)["endpoint"]
    async with Relay.open(server) as public, BUCKETS[kind](tmp_path, public_endpoint=public.url) as store:
        request = await signed(store, b"far")
        assert request.url.startswith(public.url)
        assert (await store.download_url(blob_of(b"x").sha256)).url.startswith(public.url)
        assert all("/staging/proof-" in asked.path for asked in public.asked)
        assert await sent(request, b"far") == 200
        assert await store.received(A, 1) == {blob_of(b"far").sha256: 3}
        assert await store.uploads.vouched()


async def test_where_builders_reach_the_store_and_the_daemon_does_not_they_get_no_urls_and_uploads_are_hashed(
    kind: str, tmp_path: Path
) -> None:
    async with BUCKETS[kind](tmp_path, public_endpoint="http://127.0.0.1:9") as store:
        assert not await store.uploads.vouched()
        assert await store.upload_urls(A, 1, [blob_of(b"x")]) == [None]
        findings = await store.check()
        assert all(finding.ok for finding in findings)
        assert "cannot reach the store by its public_endpoint" in findings[-1].what


@pytest.mark.parametrize("kind", EACH, indirect=True)
async def test_encryption_and_storage_class_arrive_as_they_are_set(kind: str, tmp_path: Path) -> None:
    more = {"storage_class": "STANDARD_IA", "sse": "AES256"}
    server = in_bucket(kind.partition("-")[2], tmp_path)["endpoint"]
    async with Relay.open(server) as relay, BUCKETS[kind](tmp_path, endpoint=relay.url, **more) as store:
        blob = await put(store, b"kept")
        request = await signed(store, b"sent")
        assert await sent(request, b"sent") == 200
        await store.adopt(A, 1, [blob_of(b"sent").sha256])
    puts = [asked for asked in relay.asked if asked.method == "PUT" and "proof-" not in asked.path]
    assert {asked.headers.get("x-amz-server-side-encryption") for asked in puts} == {"AES256"}
    assert sorted(("/blobs/" in asked.path, asked.headers.get("x-amz-storage-class", "")) for asked in puts) == [
        (False, ""),  # the upload; the marker has the class of what is kept
        (False, "STANDARD_IA"),
        (True, "STANDARD_IA"),
        (True, "STANDARD_IA"),
    ]
    if kind.endswith("ministack"):  # weed forgets storage classes
        behind = Behind(kind, tmp_path)
        for each in (blob, blob_of(b"sent")):
            found = behind.client.head_object(Bucket=behind.bucket, Key=behind.blob(each.sha256))
            assert (found["StorageClass"], found["ServerSideEncryption"]) == ("STANDARD_IA", "AES256")


async def test_a_key_of_kms_is_named_to_the_server(kind: str, tmp_path: Path) -> None:
    server = in_bucket(kind.partition("-")[2], tmp_path)["endpoint"]
    more = {"sse": "aws:kms", "kms_key_id": "alias/ours", "tries": 1}
    async with Relay.open(server) as relay, BUCKETS[kind](tmp_path, endpoint=relay.url, **more) as store:
        relay.refuse(1, "PUT", status=400, code="KMS.NotFoundException")  # no key of that name is here
        with pytest.raises(UnreachableError):
            await put(store, b"x")
    (headers,) = [asked.headers for asked in relay.asked if asked.method == "PUT"]
    assert headers["x-amz-server-side-encryption"] == "aws:kms"
    assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/ours"


@pytest.mark.parametrize("kind", BUCKETS, indirect=True)
async def test_the_check_tells_what_it_found(kind: str, store: BucketStore) -> None:
    told = [finding.what for finding in await store.check()]
    assert ["own" in told[0], "clocks" in told[1], "read and deleted" in told[2]] == [True] * 3
    assert ("refused wrong bytes" in told[3]) == (kind in EACH)
    assert ("copy any object" in told[3]) == (kind == LED)
    assert ("takes wrong bytes" in told[3]) == (kind not in {*EACH, LED})
