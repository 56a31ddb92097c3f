"""Origins with https: proven by the system's authorities, or by those that the operator names."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from scalemesh.edge.origins.proxy import Proxy
from scalemesh.errors import ConfigError
from tests.contracts.origins import OPEN, front
from tests.rigs.tls import certificate


@asynccontextmanager
async def secure_origin(pem: Path) -> AsyncIterator[int]:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="secret")

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    runner = web.ServerRunner(web.Server(answering, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_an_origin_is_trusted_when_the_operator_names_its_authority(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "127.0.0.1")
    async with secure_origin(pem) as port:
        async with front(f"https://127.0.0.1:{port}/", replace(OPEN, ca_bundle=pem)) as site:
            assert (await site.get()).body == b"secret"
        async with front(f"https://127.0.0.1:{port}/", OPEN) as site:
            got = await site.get()
    assert (got.status, b"proxy.ca_bundle" in got.body) == (502, True)


async def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "127.0.0.1")
    async with (
        secure_origin(pem) as port,
        front(f"https://localhost:{port}/", replace(OPEN, ca_bundle=pem)) as site,
    ):
        assert (await site.get()).status == 502


async def test_a_bundle_that_cannot_be_read_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ca_bundle"):
        async with Proxy(replace(OPEN, ca_bundle=tmp_path / "none.pem")):
            pass
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(ConfigError, match="ca_bundle"):
        async with Proxy(replace(OPEN, ca_bundle=tmp_path / "empty.pem")):
            pass
