"""A build in a cluster sends its files straight to the store, past the daemon that started it."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.rigs import everywhere
from tests.rigs.cluster import HOST, kubeconfig, namespace, need_cluster
from tests.rigs.ports import free_port
from tests.rigs.relay import Relay, relay
from tests.rigs.s3_servers import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, fresh
from tests.whole.daemon import RunningDaemon, end_all
from tests.whole.sites import built_by

pytestmark = [pytest.mark.timeout(200), pytest.mark.skipif(os.geteuid() != 0, reason="starts services: run as root")]
SCRIPT = "mkdir out; for n in $(seq 40); do echo page $n >out/page-$n.html; done; echo hello >out/index.html"
STORE = """
[store]
kind = "s3"
[store.s3]
bucket = "{bucket}"
region = "{region}"
path_style = true
endpoint = "{own}"
public_endpoint = "{way}"
access_key = "{name}"
secret_key = "{secret}"
"""


@pytest.fixture
async def way() -> AsyncIterator[tuple[Relay, str]]:
    """By which pods reach the store, and the store's own address."""
    need_cluster()
    store = await asyncio.to_thread(fresh, "weed")
    try:
        async with relay(urlsplit(store.url).port or 0, HOST) as found:
            found.counts = b"PUT /"
            yield found, store.url
    finally:
        store.end()


async def test_a_build_in_a_cluster_sends_its_files_straight_to_the_store(
    tmp_path: Path, way: tuple[Relay, str]
) -> None:
    image = await asyncio.to_thread(everywhere.builder_image)
    builds = f'listen = "{HOST}:{free_port(HOST)}"\ndisk_mib = 512\nmemory_mib = 512\n'
    cluster = everywhere.KUBERNETES.format(image=image, kubeconfig=kubeconfig(), namespace=namespace())
    store = {"bucket": BUCKET, "region": REGION, "name": ACCESS_KEY, "secret": SECRET_KEY}
    tables = cluster + STORE.format(**store, own=way[1], way=way[0].url)
    daemon = RunningDaemon(tmp_path, builds=builds, kinds=("kubernetes",), tables=tables)
    try:
        await daemon.start()
        deployment = await daemon.upload("site", "source", built_by(SCRIPT))
        await daemon.until(deployment, "ready", within_s=120)
        text = await daemon.text(deployment)
        assert "Uploaded 41 files" in text
        assert ", straight to the store" in text
        assert 41 <= way[0].count < 60
        assert (await daemon.visit("site.localhost", "/page-7.html"))[1] == "page 7\n"
        await end_all(daemon)
    finally:
        daemon.kill_all()
