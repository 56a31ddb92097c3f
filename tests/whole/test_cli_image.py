"""`scalemesh builder image`: made on a base of one's own, carried in a file, pushed to a registry, or why not."""

import asyncio
import hashlib
import json
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from builder.packing import default_image, fingerprint
from scalemesh.cli.image import BASES, last_stage
from scalemesh.cli.main import run
from tests.rigs.docker import docker, need_docker
from tests.rigs.images import base_image

pytestmark = pytest.mark.timeout(300)
Captured = pytest.CaptureFixture[str]
RECIPE = Path(__file__).parents[2] / "builder" / "Dockerfile"


@pytest.fixture
def name() -> Iterator[str]:
    """Of an image that this test makes; it is gone afterwards."""
    need_docker()
    name = f"scalemesh-test-{secrets.token_hex(4)}"
    yield name
    named = ["--filter", f"reference=*{name}*", "--filter", f"reference=*/{name}*"]
    for tag in docker("images", *named, "--format", "{{.Repository}}:{{.Tag}}").split():
        docker("rmi", tag)
    while left := docker("images", "--all", "--quiet", "--filter", f"label=scalemesh.test={name}").split():
        done = subprocess.run(["docker", "rmi", *left], capture_output=True, text=True, check=False)
        assert "Deleted" in done.stdout, done.stderr  # one after the other: of a build that failed, parents last


def empty_image(name: str, label: str) -> None:
    """An image of no file at all, which carries *label* as its builder's fingerprint."""
    nothing = b"\0" * 1024  # an empty tar
    ours = name.rpartition("/")[2].partition(":")[0]
    words = ["docker", "import", "--change", f"LABEL {label} scalemesh.test={ours}", "-", name]
    subprocess.run(words, input=nothing, check=True, capture_output=True)


def said(capsys: Captured, *words: str, status: int = 0) -> str:
    """Run the command; what it answered, or where it failed, the error."""
    assert run(["builder", "image", *words]) == status
    captured = capsys.readouterr()
    assert status == 0 or captured.out == ""
    return captured.err if status else captured.out


def test_an_image_is_made_on_a_base_of_ones_own(name: str, capsys: Captured) -> None:
    answer = json.loads(said(capsys, "build", "--tag", name, "--base", base_image(), "--json"))
    assert answer == {"image": name, "builder": fingerprint()}
    config = json.loads(docker("image", "inspect", name))[0]["Config"]
    assert (config["Labels"]["scalemesh.builder"], config["User"], config["WorkingDir"]) == (
        *(fingerprint(), "1000:1000"),
        "/work",
    )
    users = docker("run", "--rm", "--network=none", "--entrypoint=id", name, "-un", "1001")
    assert users == "commands"


def test_the_usual_name_says_which_builder_is_inside(capsys: Captured) -> None:
    need_docker()
    assert said(capsys, "build", "--base", base_image()) == f"{default_image()}\n"
    assert default_image() == f"scalemesh-builder:{fingerprint()}"


def test_a_base_that_is_not_here_is_named(name: str, capsys: Captured) -> None:
    assert f"there is no image {name}:none here" in said(capsys, "build", "--base", f"{name}:none", status=4)


@pytest.mark.parametrize("words", [["build", "--tag", "--network"], ["build", "--base", "a b"], ["push", "--tag", "é"]])
def test_what_is_no_name_of_an_image_is_refused(words: list[str], capsys: Captured) -> None:
    assert "is no name of an image" in said(capsys, *words, status=1)


def test_a_recipe_that_fails_tells_the_engines_words(name: str, capsys: Captured) -> None:
    empty_image(name, "nothing=here")
    error = said(capsys, "build", "--tag", f"{name}:built", "--base", name, status=1)
    assert f"the image {name}:built could not be made" in error
    assert "/bin/sh" in error  # which a base must have


@pytest.mark.parametrize("variable", ["NODE22_IMAGE", "DEBIAN_IMAGE"])
def test_what_the_image_begins_with_may_be_pinned(
    name: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """The engine has none of that digest, and says which it was to begin with."""
    empty_image(f"{name}:there", "nothing=here")
    for each in BASES:
        monkeypatch.setenv(each, f"{name}:there")
    pinned = f"127.0.0.1:9/{name}@sha256:{'0' * 64}"
    monkeypatch.setenv(variable, pinned)
    assert "127.0.0.1:9" in said(capsys, "build", "--tag", f"{name}:built", status=1)


def test_an_image_travels_in_a_file(name: str, tmp_path: Path, capsys: Captured) -> None:
    empty_image(f"{name}:1", f"scalemesh.builder={fingerprint()}")
    docker("save", f"{name}:1", "--output", str(tmp_path / "builder.tar"))
    docker("rmi", f"{name}:1")
    answer = json.loads(said(capsys, "load", str(tmp_path / "builder.tar"), "--json"))
    assert answer == {"image": f"{name}:1", "builder": fingerprint()}


@pytest.mark.parametrize(
    ("label", "words"),
    [("scalemesh.builder=0123456789ab", "holds builder 0123456789ab, this daemon needs"), ("a=b", "has no builder")],
)
def test_another_releases_image_is_refused(name: str, tmp_path: Path, capsys: Captured, label: str, words: str) -> None:
    empty_image(f"{name}:1", label)
    docker("save", f"{name}:1", "--output", str(tmp_path / "builder.tar"))
    assert words in said(capsys, "load", str(tmp_path / "builder.tar"), status=1)


def test_a_file_that_holds_no_image_is_refused(tmp_path: Path, capsys: Captured) -> None:
    need_docker()
    (tmp_path / "file").write_text("no image")
    assert "could not be loaded" in said(capsys, "load", str(tmp_path / "file"), status=1)


async def test_an_image_is_pushed_to_the_registry_that_its_name_begins_with(name: str, capsys: Captured) -> None:
    async with a_registry() as (port, kept):
        tag = f"127.0.0.1:{port}/{name}:1"
        empty_image(tag, f"scalemesh.builder={fingerprint()}")
        assert await asyncio.to_thread(said, capsys, "push", "--tag", tag) == f"{tag}\n"
        manifest = json.loads(kept[f"/v2/{name}/manifests/1"])
        config = json.loads(kept[manifest["config"]["digest"]])
    assert config["config"]["Labels"]["scalemesh.builder"] == fingerprint()


def test_a_registry_that_does_not_answer_is_told(name: str, capsys: Captured) -> None:
    empty_image(f"127.0.0.1:1/{name}", "a=b")
    error = said(capsys, "push", "--tag", f"127.0.0.1:1/{name}", status=1)
    assert "could not be pushed" in error
    assert "connection refused" in error


def test_an_image_that_is_not_here_is_not_pushed(name: str, capsys: Captured) -> None:
    assert f"there is no image {name} here" in said(capsys, "push", "--tag", name, status=4)


def test_a_machine_without_docker_says_how_to_get_it(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    error = said(capsys, "build", status=3)
    assert "there is no program `docker` here" in error
    assert "fix: install it" in error


def test_an_engine_that_is_down_is_told(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    need_docker()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    error = said(capsys, "push", status=3)
    assert "the docker engine does not answer" in error
    assert "none.sock" in error


def test_only_the_last_stage_is_put_on_a_base() -> None:
    stage = last_stage(RECIPE.read_text(), "mine:1")
    assert stage.startswith("FROM mine:1\n")
    assert stage.count("FROM ") == 1
    assert "--from=" not in stage
    assert 'ENTRYPOINT ["python3", "-I", "/opt/scalemesh/builder.pyz"]' in stage


@asynccontextmanager
async def a_registry() -> AsyncIterator[tuple[int, dict[str, bytes]]]:
    """As much of a registry as a push needs: its port, and what it was given by path or digest."""
    kept: dict[str, bytes] = {}

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        path, digest = request.path, request.query.get("digest", "")
        if request.method == "HEAD":
            held = kept.get(path.rpartition("/")[2])
            return web.Response(status=404) if held is None else web.Response(headers=sized(held))
        if request.method == "POST":
            return web.Response(status=202, headers={"Location": f"{path}{secrets.token_hex(8)}"})
        if request.method == "PATCH":
            kept[path] = kept.get(path, b"") + body
            return web.Response(status=202, headers={"Location": path, "Range": f"0-{len(kept[path]) - 1}"})
        if request.method == "PUT" and digest:
            kept[digest] = kept.pop(path, b"") + body
            assert digest == f"sha256:{hashlib.sha256(kept[digest]).hexdigest()}"
            return web.Response(status=201, headers={"Docker-Content-Digest": digest})
        if request.method == "PUT":
            kept[path] = body
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            return web.Response(status=201, headers={"Docker-Content-Digest": digest})
        return web.Response(text="{}")

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1], kept
    finally:
        await runner.cleanup()


def sized(held: bytes) -> dict[str, Any]:
    return {"Content-Length": str(len(held)), "Docker-Content-Digest": f"sha256:{hashlib.sha256(held).hexdigest()}"}
