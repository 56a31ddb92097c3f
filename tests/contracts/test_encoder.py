"""Variants are made after ready by a process of its own, once, whatever dies meanwhile."""

import asyncio
import hashlib
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import brotli
import pytest

from scalemesh.errors import NotFoundError, UnreachableError
from scalemesh.ports import BlobStore, Finding
from scalemesh.services import encodings
from scalemesh.services.builds import Attempt, Success
from scalemesh.services.compressor import WORKER, open_compressor
from scalemesh.services.deployer import Wanted
from scalemesh.services.encoder import Encoder
from scalemesh.services.encodings import Encodings
from scalemesh.services.holdings import Holdings
from scalemesh.services.listings import OutputFile
from scalemesh.values import Blob, DeploymentId, Digest, Route, State
from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import Life, begin
from tests.contracts.openers import STORES
from tests.contracts.workers import BABBLES, DIES, DIES_ONCE, SLEEPS, worker

SCRIPT = b"".join(b"const a%d = document.querySelector('#a%d')\n" % (n, n * 7) for n in range(300))
STYLE = b"".join(b".c%d { margin: %dpx }\n" % (n, n * 7) for n in range(300))
NOISE = os.urandom(5000)


async def deploy(life: Life, files: Mapping[str, bytes], wanted: Wanted | None = None) -> DeploymentId:
    """A deployment of *files* that is ready."""
    deployment = await life.submit(wanted)
    attempt = (await life.until(deployment, State.BUILDING)).attempt
    await life.executor.job(deployment, attempt)
    mine = Attempt(deployment, attempt, "nonce")
    await life.services.builds.claim(mine, "nonce")
    sent = [(path, await life.upload(mine, data)) for path, data in files.items()]
    listed = [OutputFile(path=path, sha256=file.sha256, size_bytes=file.size_bytes) for path, file in sent]
    await life.services.builds.finish(mine, Success(files=listed, framework="vite", output_directory="dist"))
    await life.executor.end(deployment, attempt)
    await life.until(deployment, State.READY)
    await life.last_words(deployment)
    return deployment


def route(life: Life, host: str = "site.localhost") -> Route:
    found = life.services.routes.find(host)
    assert found is not None
    return found


async def read(store: BlobStore, sha256: Digest) -> bytes:
    async with aclosing(store.read(sha256)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def table(folder: Path, found: Route) -> Encodings:
    assert found.encodings is not None
    async with other_store(folder) as store:
        return encodings.decode(await read(store, found.encodings))


@asynccontextmanager
async def other_store(folder: Path) -> AsyncIterator[BlobStore]:
    """The store of the life in *folder*, once that is over."""
    async with STORES["disk"](folder) as store:
        yield store


class Watched:
    """A store that is told of each read and each put before it happens, and may be kept from it."""

    def __init__(
        self,
        store: BlobStore,
        *,
        before_read: Callable[[Digest], Awaitable[None]] | None = None,
        before_put: Callable[[Digest], Awaitable[None]] | None = None,
    ) -> None:
        self._store, self._before_read, self._before_put = store, before_read, before_put

    async def put(self, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        if self._before_put:
            await self._before_put(blob.sha256)
        await self._store.put(blob, chunks)

    async def read(self, sha256: Digest, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        if self._before_read:
            await self._before_read(sha256)
        async with aclosing(self._store.read(sha256, start, stop)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        return await self._store.missing(digests)

    async def delete(self, digests: Collection[Digest]) -> None:
        await self._store.delete(digests)

    async def check(self) -> Sequence[Finding]:
        return ()


def encoder_over(life: Life, store: BlobStore, *, most_bytes: int = 1 << 20) -> Encoder:
    ledger = life.services.ledger
    return Encoder(ledger, store, Holdings(ledger.database, store), most_bytes=most_bytes)


def digest(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


@asynccontextmanager
async def serving(encoder: Encoder) -> AsyncIterator[None]:
    task = asyncio.create_task(encoder.serve())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def encoded(life: Life, host: str = "site.localhost") -> Route:
    async with asyncio.timeout(30):
        while (found := route(life, host)).encodings is None:
            await asyncio.sleep(0.005)
    return found


async def test_a_ready_deployment_gets_variants_that_its_routes_name(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold()) as life, serving(life.services.storage.encoder):
        deployment = await deploy(life, {"index.html": b"<h1>hello</h1>", "app.js": SCRIPT, "noise.txt": NOISE})
        found = await encoded(life)
        assert route(life, f"site-{deployment[-6:]}.localhost").encodings == found.encodings
    known = await table(tmp_path, found)
    assert len(known.by_digest) == 2  # what is short is not even tried
    variants = next(variants for variants in known.by_digest.values() if variants)
    assert set(variants) == {"br", "zstd", "gzip"}
    async with other_store(tmp_path) as store:
        assert brotli.decompress(await read(store, variants["br"].sha256)) == SCRIPT
    assert {} in known.by_digest.values()  # noise was tried, and gains nothing


async def test_a_restart_encodes_what_waits_and_what_is_live_first(tmp_path: Path) -> None:
    order: list[Digest] = []

    async def note(sha256: Digest) -> None:
        order.append(sha256)

    async with begin(tmp_path, EndsWhenTold()) as life:
        old = await deploy(life, {"app.js": SCRIPT})
        await deploy(life, {"app.js": SCRIPT + b"2"})
        await life.services.releases.promote(await life.services.deployer.get(old))
    async with begin(tmp_path, EndsWhenTold()) as life, other_store(tmp_path) as store:
        assert route(life).encodings is None
        await encoder_over(life, Watched(store, before_read=note)).encode_waiting()
        assert route(life).encodings is not None
    assert [sha256 for sha256 in order if sha256 in (digest(SCRIPT), digest(SCRIPT + b"2"))] == [
        digest(SCRIPT),
        digest(SCRIPT + b"2"),
    ]


async def test_a_file_is_encoded_once_for_all_deployments_of_a_project(tmp_path: Path) -> None:
    asked: list[Digest] = []

    async def note(sha256: Digest) -> None:
        asked.append(sha256)

    async with begin(tmp_path, EndsWhenTold()) as life, other_store(tmp_path) as store:
        encoder = encoder_over(life, Watched(store, before_read=note))
        await deploy(life, {"app.js": SCRIPT, "noise.txt": NOISE})
        await encoder.encode_waiting()
        first = route(life)
        await deploy(life, {"app.js": SCRIPT, "noise.txt": NOISE, "app.css": STYLE})
        await encoder.encode_waiting()
        second = route(life)
    assert [asked.count(digest(data)) for data in (SCRIPT, NOISE, STYLE)] == [1, 1, 1]
    assert (await table(tmp_path, first)).by_digest.items() <= (await table(tmp_path, second)).by_digest.items()


async def test_variants_that_the_store_is_known_to_have_lost_are_made_again(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold()) as life:
        await deploy(life, {"app.js": SCRIPT})
        await life.services.storage.encoder.encode_waiting()
        first = route(life)
    lost = (await table(tmp_path, first)).by_digest[digest(SCRIPT)]["br"]
    async with other_store(tmp_path) as store:
        await store.delete([lost.sha256])
    async with begin(tmp_path, EndsWhenTold()) as life:
        await life.services.storage.holdings.lost([lost.sha256])
        await deploy(life, {"app.js": SCRIPT, "app.css": STYLE})
        await life.services.storage.encoder.encode_waiting()
    async with other_store(tmp_path) as store:
        assert brotli.decompress(await read(store, lost.sha256)) == SCRIPT


async def test_a_variant_is_its_projects_own_and_unknown_to_others(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold()) as life:
        await deploy(life, {"app.js": SCRIPT})
        await life.services.storage.encoder.encode_waiting()
        found = route(life)
        store_table = found.encodings
        assert store_table is not None
        other = await life.submit(url="https://git.example/b/other")
        await life.executor.job(other)
        await life.services.builds.claim(Attempt(other, 1, "nonce"), "nonce")
        mine = await life.submit()
        await life.executor.job(mine)
        await life.services.builds.claim(Attempt(mine, 1, "nonce"), "nonce")
        variant = digest(brotli.compress(SCRIPT, quality=11))
        asked = [Blob(sha256=variant, size_bytes=100)]
        assert await life.services.builds.missing(Attempt(other, 1, "nonce"), asked) == {variant: None}
        assert await life.services.builds.missing(Attempt(mine, 1, "nonce"), asked) == {}


async def test_a_deployment_that_is_deleted_meanwhile_is_no_failure(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold()) as life, other_store(tmp_path) as store:
        old = await deploy(life, {"app.js": SCRIPT})
        await deploy(life, {"app.css": STYLE})

        async def delete(sha256: Digest) -> None:
            if sha256 == digest(SCRIPT):
                await life.services.deployer.delete(old)

        await encoder_over(life, Watched(store, before_read=delete)).encode_waiting()
        assert route(life).encodings is not None
        with pytest.raises(NotFoundError):
            await life.services.deployer.get(old)


async def test_a_store_that_is_away_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalemesh.services.encoder.RETRY_S", (0.01,))
    tries: list[Digest] = []

    async def away_twice(sha256: Digest) -> None:
        tries.append(sha256)
        if len(tries) < 3:
            raise UnreachableError("away")

    async with begin(tmp_path, EndsWhenTold()) as life, other_store(tmp_path) as store:
        await deploy(life, {"app.js": SCRIPT})
        async with serving(encoder_over(life, Watched(store, before_put=away_twice))):
            await encoded(life)
    assert len(tries) > 3


async def test_one_that_the_store_does_not_give_holds_up_no_other(tmp_path: Path) -> None:
    async def sick(sha256: Digest) -> None:
        if sha256 == digest(SCRIPT):
            raise UnreachableError("a bad sector")

    async with begin(tmp_path, EndsWhenTold()) as life, other_store(tmp_path) as store:
        old = await deploy(life, {"app.css": STYLE})
        await deploy(life, {"app.js": SCRIPT})
        with pytest.raises(UnreachableError):
            await encoder_over(life, Watched(store, before_read=sick)).encode_waiting()
        assert route(life, f"site-{old[-6:]}.localhost").encodings is not None
        assert route(life).encodings is None
        await life.services.storage.encoder.encode_waiting()
        assert route(life).encodings is not None


async def test_what_cannot_be_read_is_passed_over_and_holds_up_nobody(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold()) as life:
        await deploy(life, {"app.css": STYLE})
        await deploy(life, {"app.js": SCRIPT})
    async with other_store(tmp_path) as store:
        await store.delete([digest(SCRIPT)])
    async with begin(tmp_path, EndsWhenTold()) as life:
        await life.services.storage.encoder.encode_waiting()
        await life.services.storage.encoder.encode_waiting()
        assert route(life).encodings is None
        old = (await life.services.deployer.page(None, before=None, limit=9))[-1]
        assert route(life, f"site-{old.id[-6:]}.localhost").encodings is not None


async def test_files_over_the_limit_stay_as_they_are(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold()) as life:
        await deploy(life, {"app.js": SCRIPT, "app.css": STYLE})
        async with other_store(tmp_path) as store:
            await encoder_over(life, store, most_bytes=len(STYLE)).encode_waiting()
        found = route(life)
    assert set((await table(tmp_path, found)).by_digest) == {digest(STYLE)}


def children() -> Iterable[str]:
    """Command lines of this process's children."""
    return children_by_pid().values()


def children_by_pid() -> Mapping[int, str]:
    found: dict[int, str] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # any process may end meanwhile
            if int(path.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found[int(path.parent.name)] = (path.parent / "cmdline").read_text()
    return found


async def test_no_worker_is_held_while_nothing_waits(life: Life) -> None:
    async with serving(life.services.storage.encoder):
        await deploy(life, {"app.js": SCRIPT})
        await encoded(life)
        async with asyncio.timeout(30):
            while any("encoding_worker" in line for line in children()):
                await asyncio.sleep(0.005)


async def test_the_worker_is_of_the_lowest_priority_and_sees_no_environment() -> None:
    async with open_compressor() as opened:
        assert await opened.variants(SCRIPT)
        pids = [pid for pid, line in children_by_pid().items() if "encoding_worker" in line]
        assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in pids] == [19]
        assert Path(f"/proc/{pids[0]}/environ").read_bytes() == b""


@pytest.mark.parametrize("script", [DIES, BABBLES])
async def test_a_worker_that_dies_twice_leaves_the_file_as_it_is(tmp_path: Path, script: str) -> None:
    async with open_compressor(worker(tmp_path, script)) as opened:
        assert await opened.variants(SCRIPT * 50) is None
        assert await opened.variants(SCRIPT) is None


async def test_a_worker_that_dies_once_is_started_again(tmp_path: Path) -> None:
    async with open_compressor(worker(tmp_path, DIES_ONCE.format(worker=str(WORKER)))) as opened:
        assert set(await opened.variants(SCRIPT) or ()) == {"br", "zstd", "gzip"}
    assert (tmp_path / "worker.died").exists()


async def test_a_worker_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    async with open_compressor(worker(tmp_path, SLEEPS), timeout_s=0.2) as opened:
        assert await opened.variants(SCRIPT) is None


async def test_a_cancelled_wait_leaves_no_worker(tmp_path: Path) -> None:
    async def compress() -> None:
        async with open_compressor(worker(tmp_path, SLEEPS)) as opened:
            await opened.variants(SCRIPT * 100)

    task = asyncio.create_task(compress())
    async with asyncio.timeout(30):
        while not any("worker.py" in line for line in children()):
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not any("worker.py" in line for line in children())
