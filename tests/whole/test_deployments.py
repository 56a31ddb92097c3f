"""The ordinary way, with nothing played: a repository or a folder becomes a site, and stays one."""

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.rigs.everywhere import IMPATIENT
from tests.whole import git_server
from tests.whole.daemon import RunningDaemon, end_all, git, repository, running_daemon
from tests.whole.outside_world import open_world
from tests.whole.sites import HELLO, built_by, fixture

pytestmark = pytest.mark.timeout(300)
NPM_S = 200
GIT_HOST = "10.0.0.1"  # in a network of the tests' own
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: run as root")
STEPS = ["queue", "fetch", "detect", "restore", "install", "save", "build", "collect", "upload", "publish", "end"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningDaemon]:
    """One for all tests here: each has projects of its own."""
    running = RunningDaemon(tmp_path_factory.mktemp("daemon"), builds=IMPATIENT)
    try:
        await running.start()
        yield running
        await end_all(running)
    finally:
        running.kill_all()


def steps_of(lines: list[dict[str, Any]]) -> list[str]:
    """The steps in the order in which the log tells of them, each once."""
    return list(dict.fromkeys(line["step"] for line in lines))


async def test_a_react_app_is_built_and_live(daemon: RunningDaemon) -> None:
    url = repository(daemon.home, "counter", fixture("vite-react"))
    await daemon.call("POST", "/projects", {"name": "counter", "git_url": url})
    await daemon.set_env("counter", "VITE_GREETING", "good morning")
    deployment = await daemon.deploy(url)
    found = await daemon.until(deployment, "ready", within_s=NPM_S)
    assert (found["framework"], found["environment"], found["is_live"]) == ("vite", "production", True)
    assert found["commit"]["sha"] == git("-C", str(daemon.home / "git/counter.git"), "rev-parse", "main").strip()

    status, page, headers = await daemon.visit("counter.localhost")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "immutable" not in headers["Cache-Control"]
    script = re.search(r'src="(/assets/[^"]+\.js)"', page)
    assert script
    code = await body(daemon, "counter.localhost", script[1])
    assert found["commit"]["sha"] in code
    assert "good morning" in code, "the project's variable reached the build"
    style = re.search(r'href="(/assets/[^"]+\.css)"', page)  # the script's hash may, by chance, read like a word
    assert style
    assert "immutable" in (await daemon.visit("counter.localhost", style[1]))[2]["Cache-Control"]

    lines = await daemon.lines(deployment)
    assert steps_of(lines) == STEPS
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
    text = "\n".join(line["text"] for line in lines)
    assert "Detected Vite" in text
    assert "> npm ci" in text
    assert "modules transformed" in text
    assert text.endswith("Ready")


async def test_an_eleventy_site_is_built_and_live(daemon: RunningDaemon) -> None:
    deployment = await daemon.deploy(repository(daemon.home, "notes", fixture("eleventy")))
    found = await daemon.until(deployment, "ready", within_s=NPM_S)
    assert found["framework"] == "eleventy"
    assert '<a href="/posts/first/">First</a>' in (await daemon.visit("notes.localhost"))[1]
    assert "<em>first</em>" in (await daemon.visit("notes.localhost", "/posts/first/"))[1]
    assert (await daemon.visit("notes.localhost", "/style.css"))[2]["Content-Type"] == "text/css; charset=utf-8"


async def test_plain_pages_are_published_as_they_are(daemon: RunningDaemon) -> None:
    files = fixture("plain")
    deployment = await daemon.deploy(repository(daemon.home, "plain", files))
    assert (await daemon.until(deployment, "ready"))["framework"] == "static"
    assert await body(daemon, "plain.localhost", "/") == files["index.html"].decode()
    assert await body(daemon, "plain.localhost", "/about/") == files["about/index.html"].decode()
    status, page, _ = await daemon.visit("plain.localhost", "/nowhere")
    assert (status, page) == (404, files["404.html"].decode())
    assert not [step for step in steps_of(await daemon.lines(deployment)) if step in ("install", "build")]


async def test_a_change_is_a_deployment_of_its_own_and_sends_only_what_is_new(daemon: RunningDaemon) -> None:
    url = repository(daemon.home, "twice", fixture("plain"))
    first = await daemon.until(await daemon.deploy(url), "ready")
    repository(daemon.home, "twice", {"index.html": "<h1>Second</h1>"})
    second = await daemon.until(await daemon.deploy(url), "ready")
    assert second["project"] == first["project"] == "twice"
    assert await body(daemon, "twice.localhost", "/") == "<h1>Second</h1>"
    assert await body(daemon, host_of(first["permalink"]), "/") == fixture("plain")["index.html"].decode()
    assert await body(daemon, host_of(second["permalink"]), "/") == "<h1>Second</h1>"
    assert re.search(r"Uploaded 1 files .*3 were there already", await daemon.text(second["id"]))
    assert "Uploaded 4 files" in await daemon.text(first["id"])


async def test_another_branch_is_a_preview_under_its_own_host(daemon: RunningDaemon) -> None:
    url = repository(daemon.home, "branches", {"index.html": "production"})
    await daemon.until(await daemon.deploy(url), "ready")
    repository(daemon.home, "branches", {"index.html": "preview"}, branch="new-look")
    preview = await daemon.until(await daemon.deploy(url, branch="new-look"), "ready")
    assert (preview["environment"], preview["is_live"]) == ("preview", False)
    assert await body(daemon, "branches.localhost", "/") == "production"
    assert await body(daemon, "branches-git-new-look.localhost", "/") == "preview"
    assert await body(daemon, host_of(preview["permalink"]), "/") == "preview"

    await daemon.call("POST", f"/deployments/{preview['id']}/promote")
    assert await body(daemon, "branches.localhost", "/") == "preview"


async def test_a_rollback_holds_until_somebody_promotes(daemon: RunningDaemon) -> None:
    url = repository(daemon.home, "releases", {"index.html": "one"})
    await daemon.until(await daemon.deploy(url), "ready")
    repository(daemon.home, "releases", {"index.html": "two"})
    await daemon.until(await daemon.deploy(url), "ready")
    assert await body(daemon, "releases.localhost", "/") == "two"

    await daemon.call("POST", "/projects/releases/rollback", {})
    assert await body(daemon, "releases.localhost", "/") == "one"
    repository(daemon.home, "releases", {"index.html": "three"})
    third = await daemon.until(await daemon.deploy(url), "ready")
    assert (third["is_live"], await body(daemon, "releases.localhost", "/")) == (False, "one")

    await daemon.call("POST", f"/deployments/{third['id']}/promote")
    assert await body(daemon, "releases.localhost", "/") == "three"
    repository(daemon.home, "releases", {"index.html": "four"})
    await daemon.until(await daemon.deploy(url), "ready")
    assert await body(daemon, "releases.localhost", "/") == "four"


async def test_variables_reach_the_build_and_never_the_log(daemon: RunningDaemon) -> None:
    script = f"""
        echo "plain: $PASSWORD"
        echo "base64: $(printf %s "$PASSWORD" | base64)"
        printf 'split: %s' "$(printf %s "$PASSWORD" | cut -c1-6)"; sleep 0.3; printf %s "$PASSWORD" | cut -c7-
        {HELLO} && printf %s "$PASSWORD" | sha256sum >out/proof.txt; echo "$SCALEMESH_ENV" >out/env.txt
    """
    url = repository(daemon.home, "secrets", built_by(script))
    await daemon.call("POST", "/projects", {"name": "secrets", "git_url": url})
    await daemon.set_env("secrets", "PASSWORD", "correct horse battery", "production")
    await daemon.set_env("secrets", "PASSWORD", "for previews only", "preview")
    deployment = await daemon.deploy(url)
    await daemon.until(deployment, "ready")
    proof = await body(daemon, "secrets.localhost", "/proof.txt")
    assert proof.split()[0] == hashlib.sha256(b"correct horse battery").hexdigest()
    assert (await body(daemon, "secrets.localhost", "/env.txt")).strip() == "production"
    text = await daemon.text(deployment)
    assert "plain: " in text
    for hidden in ("correct horse battery", "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5", "correc", "t horse battery"):
        assert hidden not in text
    assert "correct horse" not in json.dumps(await daemon.call("GET", "/projects/secrets/env"))
    assert b"correct horse" not in b"".join(path.read_bytes() for path in daemon.data.glob("*.db*"))


async def test_a_folder_is_built_like_a_commit(daemon: RunningDaemon) -> None:
    deployment = await daemon.upload("folder", "source", built_by(HELLO))
    found = await daemon.until(deployment, "ready")
    assert (found["source"], found["commit"]) == ("upload", None)
    assert await body(daemon, "folder.localhost", "/") == "<h1>hello</h1>\n"
    assert "Fetched 2 uploaded files" in await daemon.text(deployment)


async def test_a_finished_folder_is_published_without_a_build(daemon: RunningDaemon) -> None:
    deployment = await daemon.upload("finished", "prebuilt", fixture("plain"))
    await daemon.until(deployment, "ready")
    assert await body(daemon, "finished.localhost", "/about/") == fixture("plain")["about/index.html"].decode()
    assert not {"fetch", "build"} & set(steps_of(await daemon.lines(deployment)))


async def test_an_unknown_host_is_a_friendly_404(daemon: RunningDaemon) -> None:
    status, page, _ = await daemon.visit("nobody-is-here.localhost", Accept="text/html")
    assert (status, "There is no site here" in page) == (404, True)
    status, page, _ = await daemon.visit("nobody-is-here.localhost", "/api/v1/projects")
    assert (status, page.startswith("{")) == (404, False), "no API under a site's host"


async def test_a_project_without_a_ready_deployment_says_how_far_it_is(daemon: RunningDaemon) -> None:
    deployment = await daemon.deploy(repository(daemon.home, "soon", built_by("echo started; sleep 600")))
    await daemon.until_said(deployment, "started")
    status, page, headers = await daemon.visit("soon.localhost", Accept="text/html")
    assert (status, "Retry-After" in headers) == (503, True)
    assert "build" in page.lower()
    assert len(daemon.processes(deployment)) > 3
    async with asyncio.timeout(20):
        await daemon.call("POST", f"/deployments/{deployment}/cancel")
        assert not daemon.processes(deployment), "cancel returns once all of the build is dead"
    assert (await daemon.get(deployment))["state"] == "canceled"
    assert (await daemon.visit("soon.localhost"))[0] == 503
    assert (await daemon.text(deployment)).endswith("Canceled by hand")


async def test_a_followed_log_goes_on_after_a_cut(daemon: RunningDaemon) -> None:
    """By NDJSON and by websocket: cut in the middle, taken up again with after=N, nothing twice, nothing missing."""
    script = f"for n in $(seq 300); do echo line $n; sleep 0.005; done; {HELLO}"
    deployment = await daemon.deploy(repository(daemon.home, "followed", built_by(script)))
    async with asyncio.timeout(60):
        by_stream, by_socket = await asyncio.gather(
            followed(daemon, deployment, follow_stream), followed(daemon, deployment, follow_socket)
        )
    kept = await daemon.lines(deployment)
    assert [line["text"] for line in kept if line["text"].startswith("line ")] == [f"line {n + 1}" for n in range(300)]
    for rows in (by_stream, by_socket):
        assert rows[-1]["end"]["state"] == "ready"
        assert rows[:-1] == kept


@pytest.fixture(scope="module")
def git_host() -> Iterator[str]:
    """A Git server by HTTP in a network of the tests' own; yields the namespace of the machine that builds run on."""
    root = Path(tempfile.mkdtemp(prefix="scalemesh-git-"))
    for name in ("open", "private"):
        git("init", "-q", "-b", "main", str(root / "work" / name))
        (root / "work" / name / "index.html").write_text(f"from {name}")
        git("-C", str(root / "work" / name), "add", "-A")
        git("-C", str(root / "work" / name), "commit", "-q", "-m", "First")
        git("clone", "-q", "--bare", str(root / "work" / name), str(root / name / "site.git"))
    with open_world() as here:
        words = ["nsenter", f"--net=/run/netns/{here.removesuffix('h')}w", sys.executable, git_server.__file__]
        with subprocess.Popen([*words, str(root), GIT_HOST, "8000"], stdout=subprocess.PIPE) as server:
            try:
                assert server.stdout is not None
                assert server.stdout.readline() == b"ready\n"
                yield here
            finally:
                server.kill()
    shutil.rmtree(root)


@needs_root
async def test_a_repository_by_http_is_reached_where_its_network_was_opened(git_host: str, tmp_path: Path) -> None:
    opened = f'allow_networks = ["{GIT_HOST}/32"]'
    async with running_daemon(tmp_path, builds=opened, netns=git_host) as daemon:
        found = await daemon.until(await daemon.deploy(f"http://{GIT_HOST}:8000/open/site.git"), "ready")
        assert found["commit"]["message"] == "First"
        assert await body(daemon, "site.localhost", "/") == "from open"

        private = f"http://{GIT_HOST}:8000/private/site.git"
        found = await daemon.until(await daemon.deploy(private, project="private"), "failed")
        assert found["reason"] == "clone_failed"
        assert re.search("password|credentials|private|sign", found["message"], re.IGNORECASE), found["message"]
        status, said = await daemon.try_call(
            "POST", "/deployments", {"git_url": private.replace("//", "//reader:opensesame@")}
        )
        assert (status, "password in a URL" in json.dumps(said)) == (400, True), said
        assert "opensesame" not in json.dumps(said) + daemon.log()


@needs_root
async def test_a_repository_in_a_private_network_is_out_of_reach(git_host: str, tmp_path: Path) -> None:
    async with running_daemon(tmp_path, netns=git_host) as daemon:
        found = await daemon.until(await daemon.deploy(f"http://{GIT_HOST}:8000/open/site.git"), "failed")
        assert found["reason"] == "clone_failed"
        assert GIT_HOST in found["message"]


async def followed(daemon: RunningDaemon, deployment: str, follow: Any) -> list[dict[str, Any]]:
    """The whole log, read over three connections of which the first two are cut."""
    rows: list[dict[str, Any]] = []
    for cut_at in (20, 150, None):
        after = rows[-1]["number"] if rows else 0
        rows += await follow(daemon, deployment, after, cut_at)
    return rows


async def follow_stream(daemon: RunningDaemon, deployment: str, after: int, cut_at: int | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    url = f"http://x/api/v1/deployments/{deployment}/logs?follow=1&after={after}"
    async with daemon.session() as session, session.get(url) as answer:
        async for line in answer.content:
            if line.strip():
                rows.append(json.loads(line))
            if cut_at and rows and rows[-1]["number"] >= cut_at:
                break
    return rows


async def follow_socket(daemon: RunningDaemon, deployment: str, after: int, cut_at: int | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    url = f"http://x/api/v1/deployments/{deployment}/live?after={after}"
    async with daemon.session() as session, session.ws_connect(url) as socket:
        async for message in socket:
            assert message.type is aiohttp.WSMsgType.TEXT
            found = json.loads(message.data)
            rows += found if isinstance(found, list) else [found]
            if cut_at and rows and rows[-1].get("number", 0) >= cut_at:
                break
    return rows


async def body(daemon: RunningDaemon, host: str, path: str) -> str:
    """The body of an answer that must be 200."""
    status, found, _ = await daemon.visit(host, path)
    assert status == 200, (status, found)
    return found


def host_of(url: str) -> str:
    return url.partition("://")[2].partition(":")[0]
