"""What visitors get of a site's files, from real builds: compressed, in parts, and from before a deployment."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import aiohttp
import brotli
import pytest
import pytest_asyncio

from tests.whole.daemon import RunningDaemon, repository, running_daemon
from tests.whole.test_crashes import KILLED, is_encoded

pytestmark = pytest.mark.timeout(300)

HOST: Final = "shop.localhost"
OLD, NEW = "assets/index-BxYz12aB.js", "assets/index-Q9Yz12aB.js"


def script(mark: str) -> bytes:
    return b"".join(b"export const %s%d = document.querySelector('#a%d')\n" % (mark.encode(), n, n) for n in range(300))


def site(asset: str, mark: str) -> dict[str, bytes]:
    """A site that a bundler could have made, from a folder named *mark*."""
    build = {"framework": "vite", "installCommand": "true", "buildCommand": f"mkdir dist; cp -r {mark}/. dist/"}
    return {
        "vercel.json": json.dumps(build).encode(),
        f"{mark}/index.html": f'<script type="module" src="/{asset}"></script>'.encode(),
        f"{mark}/{asset}": script(mark),
        f"{mark}/sw.js": script(mark),
    }


async def got(
    daemon: RunningDaemon, path: str, host: str = HOST, **headers: str
) -> tuple[int, bytes, Mapping[str, str]]:
    """An answer as it came, not decoded."""
    async with (
        aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=30)) as session,
        session.get(
            f"http://127.0.0.1:{daemon.port}/{path}", headers={"Host": host, "Accept-Encoding": "identity", **headers}
        ) as answer,
    ):
        return answer.status, await answer.read(), answer.headers.copy()


def children(daemon: RunningDaemon) -> str:
    """Command lines of the daemon's own processes."""
    assert daemon.process is not None
    found = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split()
    return " ".join(words_of(pid) for pid in found)


def words_of(pid: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""  # it has ended


@pytest_asyncio.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RunningDaemon]:
    async with running_daemon(tmp_path) as opened:
        yield opened


async def test_a_build_is_served_compressed_once_its_variants_are_made(daemon: RunningDaemon) -> None:
    url = repository(daemon.home, "shop", site(OLD, "a"))
    deployment = await daemon.deploy(url)
    await daemon.until(deployment, "ready")
    status, _, plain = await got(daemon, OLD, **{"Accept-Encoding": "identity"})
    assert (status, plain["Vary"]) == (200, "Accept-Encoding")

    async def is_br() -> bool:
        return "br" in (await got(daemon, OLD, **{"Accept-Encoding": "gzip, br"}))[2].get("Content-Encoding", "")

    await daemon.eventually(is_br)
    status, body, headers = await got(daemon, OLD, **{"Accept-Encoding": "gzip, br"})
    assert brotli.decompress(body) == script("a")
    assert headers["ETag"] == plain["ETag"][:-1] + '-br"'
    status, _, headers = await got(daemon, OLD, **{"Accept-Encoding": "br", "If-None-Match": headers["ETag"]})
    assert (status, headers["Vary"]) == (304, "Accept-Encoding")
    status, body, _ = await got(daemon, OLD, **{"Accept-Encoding": "br", "Range": "bytes=10-19"})
    assert (status, body) == (206, script("a")[10:20])
    await daemon.eventually(lambda: "encoding_worker" not in children(daemon))


async def test_an_old_page_finds_its_script_after_a_new_deployment(daemon: RunningDaemon) -> None:
    url = repository(daemon.home, "shop", site(OLD, "a"))
    first = await daemon.deploy(url)
    await daemon.until(first, "ready")
    repository(daemon.home, "shop", site(NEW, "b"))
    second = await daemon.deploy(url)
    await daemon.until(second, "ready")
    assert OLD.encode() not in (await got(daemon, ""))[1]
    status, body, headers = await got(daemon, OLD)
    assert (status, body, headers["X-Scalemesh-Deployment"]) == (200, script("a"), first)
    assert (await got(daemon, NEW))[2]["X-Scalemesh-Deployment"] == second
    assert (await got(daemon, "sw.js"))[1] == script("b")
    assert (await got(daemon, OLD, host=f"shop-{second[-6:]}.localhost"))[0] == 404
    await daemon.call("POST", "/projects/shop/purge")
    assert (await got(daemon, OLD))[0] == 404


async def test_a_crash_before_the_move_leaves_all_as_it_was_and_is_mended(daemon: RunningDaemon) -> None:
    """The table is durable and nothing names it: the next start makes it again, with the move."""
    url = repository(daemon.home, "shop", site(OLD, "a"))
    first = await daemon.deploy(url)
    await daemon.until(first, "ready")
    await daemon.eventually(lambda: is_encoded(daemon, first))
    await daemon.stop()
    repository(daemon.home, "shop", site(NEW, "b"))
    await daemon.start(SCALEMESH_FAULT="window.after_blob")
    second = await daemon.deploy(url)
    assert await daemon.ended(40) == KILLED
    await daemon.start()
    await daemon.until(second, "ready")
    status, body, headers = await got(daemon, OLD)
    assert (status, body, headers["X-Scalemesh-Deployment"]) == (200, script("a"), first)
    assert (await got(daemon, NEW))[2]["X-Scalemesh-Deployment"] == second


@pytest.mark.parametrize("point", ["encode.after_blobs", "encode.after_commit"])
async def test_a_crash_around_the_encodings_costs_nothing(daemon: RunningDaemon, point: str) -> None:
    await daemon.stop()
    await daemon.start(SCALEMESH_FAULT=point)
    deployment = await daemon.deploy(repository(daemon.home, "shop", site(OLD, "a")))
    assert await daemon.ended(40) == KILLED
    await daemon.start()
    await daemon.until(deployment, "ready")
    assert (await got(daemon, OLD, **{"Accept-Encoding": "identity"}))[1] == script("a")
    await daemon.eventually(lambda: is_encoded(daemon, deployment))
    status, body, headers = await got(daemon, OLD, **{"Accept-Encoding": "br"})
    assert (status, headers["Content-Encoding"]) == (200, "br")
    assert brotli.decompress(body) == script("a")
    await daemon.eventually(lambda: not daemon.temporary_files())
