"""Whose files a deployment may name, and deployments that come as files."""

import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from plugins.stores.disk import DiskConfig, DiskStore
from scalemesh.config import Builds
from scalemesh.errors import GoneError, RefusedError
from scalemesh.services.builds import Attempt, Success
from scalemesh.services.deployer import Wanted
from scalemesh.services.listings import Listings, OutputFile, encoded, put_bytes
from scalemesh.values import Blob, Digest, Environment, Reason, SourceKind, State
from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import PAGE, Life, begin, once


async def test_another_projects_digest_is_neither_missing_less_nor_accepted(life: Life) -> None:
    first = await life.submit()
    await life.built(first, b"secret of another")
    await life.until(first, State.READY)
    listing = (await life.services.deployer.get(first)).listing
    assert listing is not None
    second = await life.submit(url="https://git.example/b/other")
    await life.executor.job(second)
    mine = Attempt(second, 1, "nonce")
    await life.services.builds.claim(mine, "nonce")
    digest = Digest(hashlib.sha256(b"secret of another").hexdigest())
    file = OutputFile(path="x.html", sha256=digest, size_bytes=17)
    assert await life.services.builds.missing(mine, [Blob(sha256=digest, size_bytes=17)]) == {digest: None}
    with pytest.raises(RefusedError, match="does not have"):
        await life.services.builds.finish(mine, Success(files=[file], framework="x", output_directory="."))
    assert (await life.until(second, State.FAILED)).reason is Reason.REJECTED


async def test_a_file_that_is_named_with_another_size_elsewhere_rejects_the_whole_result(life: Life) -> None:
    """Or its page would break at each visit: the size is what an answer promises."""
    deployment = await life.submit()
    await life.executor.job(deployment)
    mine = Attempt(deployment, 1, "nonce")
    await life.services.builds.claim(mine, "nonce")
    blob = Blob(sha256=Digest(hashlib.sha256(PAGE).hexdigest()), size_bytes=len(PAGE))
    await life.services.builds.receive(mine, blob, once(PAGE))
    sizes = {"a.html": 10**9, "b.html": len(PAGE)}
    files = [OutputFile(path=path, sha256=blob.sha256, size_bytes=size) for path, size in sizes.items()]
    with pytest.raises(RefusedError, match="does not have"):
        await life.services.builds.finish(mine, Success(files=files, framework="static", output_directory="."))
    assert (await life.until(deployment, State.FAILED)).reason is Reason.REJECTED


async def test_a_projects_own_file_needs_no_second_upload(life: Life) -> None:
    first = await life.submit()
    await life.built(first)
    await life.until(first, State.READY)
    second = await life.submit()
    await life.executor.job(second)
    mine = Attempt(second, 1, "nonce")
    await life.services.builds.claim(mine, "nonce")
    digest = Digest(hashlib.sha256(PAGE).hexdigest())
    assert await life.services.builds.missing(mine, [Blob(sha256=digest, size_bytes=len(PAGE))]) == {}
    file = OutputFile(path="index.html", sha256=digest, size_bytes=len(PAGE))
    await life.services.builds.finish(mine, Success(files=[file], framework="static", output_directory="."))
    await life.until(second, State.READY)


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a//b", "", ".", "a/./b", "a\0b", "a\nb", "x" * 2000], ids=lambda path: path[:8] or "empty"
)
async def test_a_path_that_is_none_rejects_the_whole_result(life: Life, path: str) -> None:
    deployment = await life.submit()
    await life.executor.job(deployment)
    mine = Attempt(deployment, 1, "nonce")
    await life.services.builds.claim(mine, "nonce")
    file = await life.upload(mine, PAGE)
    bad = OutputFile(path=path, sha256=file.sha256, size_bytes=file.size_bytes)
    with pytest.raises(RefusedError):
        await life.services.builds.finish(mine, Success(files=[bad], framework="x", output_directory="."))
    assert (await life.until(deployment, State.FAILED)).reason is Reason.REJECTED


async def test_a_finished_site_is_published_without_a_build(life: Life) -> None:
    project = await life.services.projects.create(life.user, name="pages")
    wanted = Wanted(source=SourceKind.PREBUILT)
    deployment = await life.services.deployer.submit(life.user, project, wanted)
    digest = Digest(hashlib.sha256(PAGE).hexdigest())
    blob = Blob(sha256=digest, size_bytes=len(PAGE))
    assert await life.services.uploads.missing(deployment, [blob]) == [digest]
    await life.services.uploads.receive(deployment, blob, once(PAGE))
    file = OutputFile(path="index.html", sha256=digest, size_bytes=len(PAGE))
    assert await life.services.uploads.finish(deployment, [file]) is State.PUBLISHING
    await life.last_words(deployment.id)  # the routes follow the row a moment later
    assert life.live("pages.localhost") == deployment.id
    assert life.executor.starts == 0


async def test_an_uploaded_source_waits_for_its_files_and_is_built_from_them(life: Life) -> None:
    project = await life.services.projects.create(life.user, name="shop")
    deployment = await life.services.deployer.submit(life.user, project, Wanted(source=SourceKind.UPLOAD))
    digest = Digest(hashlib.sha256(PAGE).hexdigest())
    await life.services.uploads.receive(deployment, Blob(sha256=digest, size_bytes=len(PAGE)), once(PAGE))
    assert life.executor.starts == 0
    file = OutputFile(path="index.html", sha256=digest, size_bytes=len(PAGE))
    assert await life.services.uploads.finish(deployment, [file]) is State.QUEUED
    await life.executor.job(deployment.id)
    claim = await life.services.builds.claim(Attempt(deployment.id, 1, "nonce"), "nonce")
    assert claim["source"] == {"kind": "upload", "files": [["index.html", digest, len(PAGE), False]]}
    stream = await life.services.builds.source(Attempt(deployment.id, 1, "nonce"), digest)
    assert b"".join([chunk async for chunk in stream]) == PAGE
    await life.built(deployment.id)
    await life.until(deployment.id, State.READY)


async def test_a_build_gets_its_own_environments_variables(life: Life) -> None:
    project = await life.project("https://git.example/a/site")
    await life.services.projects.set_variable(project.id, "KEY", (Environment.PRODUCTION,), "prod-secret")
    await life.services.projects.set_variable(project.id, "KEY", (Environment.PREVIEW,), "other-secret")
    deployment = await life.submit()
    await life.executor.job(deployment)
    mine = Attempt(deployment, 1, "nonce")
    claim = await life.services.builds.claim(mine, "nonce")
    assert claim["env"] == {"KEY": "prod-secret"}
    assert isinstance(claim["public_env"], dict)
    assert claim["public_env"]["VERCEL_URL"] == f"site-{deployment[-6:]}.localhost:8080"
    await life.services.builds.lines(mine, 1, [[0, "out", "build", "the key is prod-secret"]])
    assert not any("prod-secret" in line for line in await life.log(deployment))


async def test_a_file_that_comes_after_the_cancel_leaves_nothing_behind(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold()) as life:
        project = await life.services.projects.create(life.user, name="pages")
        deployment = await life.services.deployer.submit(life.user, project, Wanted(source=SourceKind.PREBUILT))
        digest = Digest(hashlib.sha256(PAGE).hexdigest())

        async def slowly() -> AsyncGenerator[bytes]:
            yield PAGE[:5]
            await life.services.deployer.cancel(deployment.id)
            yield PAGE[5:]

        with pytest.raises(GoneError):
            await life.services.uploads.receive(deployment, Blob(sha256=digest, size_bytes=len(PAGE)), slowly())
        assert list((tmp_path / "store" / "staging").iterdir()) == []


async def test_all_that_an_attempt_uploads_counts_together(tmp_path: Path) -> None:
    builds = Builds(total_memory_mib=8192, output_mib=1)
    async with begin(tmp_path, EndsWhenTold(), builds) as life:
        deployment = await life.submit()
        for attempt in (1, 2):
            await life.executor.job(deployment, attempt)
            mine = Attempt(deployment, attempt, "nonce")
            await life.services.builds.claim(mine, "nonce")
            await life.upload(mine, b"a" * 700_000)
            await life.upload(mine, b"a" * 700_000)
            with pytest.raises(RefusedError, match="at most 1 MiB"):
                await life.upload(mine, b"b" * 700_000)
            await life.upload(mine, b"c" * 300_000)
            if attempt == 1:
                await life.executor.lose(deployment)


async def test_builds_that_ask_for_their_sources_in_turn_read_each_list_once(tmp_path: Path) -> None:
    class CountsReads(DiskStore):
        reads = 0

        def read(self, sha256: Digest, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
            self.reads += 1
            return super().read(sha256, start, stop)

    async with CountsReads.open(DiskConfig(path=tmp_path)) as store:
        listings = Listings(store)
        digests = [Digest(f"{number:064x}") for number in range(4)]
        kept = [
            await put_bytes(store, encoded([OutputFile(path="a", sha256=digest, size_bytes=1)])) for digest in digests
        ]
        for _ in range(3):
            for listing, digest in zip(kept, digests, strict=True):
                assert await listings.holds(listing, digest)
                assert not await listings.holds(listing, Digest("f" * 64))
        assert store.reads == 4
