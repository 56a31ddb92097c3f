"""While the disk is at its last reserve: what each call of the API, each page and each word of a builder meets."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from scalemesh.web.app import make_builds_app
from scalemesh.web.read_only import ALLOWED
from tests.whole.control_host import ControlHost, fill_disk, open_control_host

CHANGING = ("POST", "PUT", "PATCH")
BRINGING = {  # what a builder sends that needs room; it waits
    "POST /build/v1/blobs",
    "PUT /build/v1/blobs/{sha256}",
    "POST /build/v1/cache",
    "POST /build/v1/cache/blobs",
    "PUT /build/v1/cache/blobs/{sha256}",
    "POST /build/v1/finish",
}


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[ControlHost]:
    async with open_control_host(tmp_path) as opened:
        yield opened


def changing(host: ControlHost) -> set[tuple[str, str]]:
    """Every route of API and pages that may change something, but for deleting."""
    found = {(one.method, one.resource.canonical) for one in host.app.router.routes() if one.resource}
    return {one for one in found if one[0] in CHANGING}


def filled(address: str) -> str:
    return re.sub(r"\{[^}]+\}", "x", address)


async def test_all_that_brings_something_is_refused_and_nothing_else_is(host: ControlHost) -> None:
    fill_disk(host)
    await host.sign_in()
    for method, address in sorted(changing(host), key=lambda one: (one[1] == "/sign-out", one)):
        answer = await host.anybody.request(method, filled(address), headers=host.origin)
        is_refused = answer.status == 507
        assert is_refused == ((method, address) not in ALLOWED), (method, address, answer.status)
        if is_refused and address.startswith("/api/"):
            assert (await answer.json())["code"] == "no_room"


async def test_a_stranger_is_told_nothing_of_the_disk(host: ControlHost) -> None:
    fill_disk(host)
    assert (await host.anybody.post("/api/v1/projects", json={"name": "one"})).status == 401


async def test_what_is_deleted_makes_room_and_is_always_taken(host: ControlHost) -> None:
    await host.ask("POST", "/projects", {"name": "one"}, status=201)
    fill_disk(host)
    await host.ask("DELETE", "/projects/one", status=204)


def test_each_that_is_allowed_is_a_route_that_there_is(host: ControlHost) -> None:
    of_builders = {one for one in ALLOWED if one[1].startswith("/build/")}
    assert ALLOWED - of_builders <= changing(host) | {("POST", "/api/v1/welcome")}


async def test_a_builder_may_say_that_it_lives_and_waits_with_what_it_brings(host: ControlHost) -> None:
    services = host.life.services
    fill_disk(host)
    app = make_builds_app(services.builds, services.storage.caches, services.storage.disk)
    routes = {(one.method, one.resource.canonical) for one in app.router.routes() if one.resource}
    async with TestClient(TestServer(app)) as builder:
        for method, address in sorted(one for one in routes if one[0] in CHANGING):
            status = (await builder.request(method, filled(address))).status
            assert (status == 503) == (f"{method} {address}" in BRINGING), (method, address, status)
