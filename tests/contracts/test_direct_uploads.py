"""Bytes that pass the daemon by: what is counted before they come, and what a hostile builder makes of its URLs."""

import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from builder.protocol import MOST_RULE_FILES
from scalemesh.config import Builds
from scalemesh.db.database import Database, Transaction
from scalemesh.errors import GoneError, RefusedError
from scalemesh.services.builds import Attempt, Success
from scalemesh.services.listings import OutputFile
from scalemesh.values import Blob, Digest, Reason, SignedRequest, State
from tests.contracts.direct_store import DirectDisk, open_direct, put
from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import PAGE, Life, begin, once
from tests.contracts.openers import BUCKETS

EVIL = PAGE.replace(b"hello", b"pwned")  # as long


@pytest.fixture
async def life(tmp_path: Path) -> AsyncIterator[Life]:
    async with begin(tmp_path, EndsWhenTold(), _builds(), open_store=open_direct) as opened:
        yield opened


@pytest.fixture(params=["disk", *(kind for kind in BUCKETS if kind != "s3-moto")])
async def attacked(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Life]:
    """Over each store that gives URLs; moto lets one copy whatever the daemon may read, so there are none."""
    opening = BUCKETS.get(request.param, open_direct)
    async with begin(tmp_path, EndsWhenTold(), _builds(), open_store=opening) as opened:
        yield opened


async def test_a_build_whose_bytes_the_daemon_never_sees_is_published(life: Life) -> None:
    mine = await _claimed(life)
    assert await put(await _url(life, mine, PAGE), PAGE) == 200
    assert await _finish(life, mine, [PAGE]) is State.PUBLISHING
    await life.until(mine.deployment, State.READY)
    async for chunk in life.store.read(_blob(PAGE).sha256):
        assert chunk == PAGE


async def test_what_is_too_large_for_a_url_goes_through_the_daemon(life: Life) -> None:
    far = life.store.home.raw
    assert isinstance(far, DirectDisk)
    far.most_bytes = 10
    mine = await _claimed(life)
    assert await life.services.builds.missing(mine, [_blob(PAGE)]) == {_blob(PAGE).sha256: None}
    await life.upload(mine, PAGE)
    await _finish(life, mine, [PAGE])
    await life.until(mine.deployment, State.READY)


async def test_urls_are_counted_before_anything_is_sent_by_them(life: Life) -> None:
    mine = await _claimed(life)
    await life.services.builds.missing(mine, [_numbered(0, 700_000)])
    for _ in range(3):  # the same once more is the same
        assert await life.services.builds.missing(mine, [_numbered(0, 700_000)])
    with pytest.raises(RefusedError, match="at most 1 MiB"):
        await life.services.builds.missing(mine, [_numbered(1, 700_000)])
    with pytest.raises(RefusedError, match="at most 1 MiB"):
        await life.services.builds.missing(mine, [_numbered(0, 1_000_000), _numbered(1, 100_000)])


async def test_who_fails_on_purpose_gets_no_more_urls_by_it(life: Life) -> None:
    mine = await _claimed(life)
    await life.services.builds.missing(mine, [_numbered(0, 1_000_000)])
    with pytest.raises(RefusedError, match="are not blob"):
        await life.services.builds.receive(mine, _numbered(0, 1_000_000), once(b"something else"))
    with pytest.raises(RefusedError, match="at most 1 MiB"):
        await life.services.builds.missing(mine, [_numbered(1, 100_000)])


async def test_there_are_no_more_urls_than_an_output_has_files(life: Life) -> None:
    mine = await _claimed(life)
    most = 10 + MOST_RULE_FILES
    await life.services.builds.missing(mine, [_numbered(number, 1) for number in range(most)])
    with pytest.raises(RefusedError, match="at most 10 files"):
        await life.services.builds.missing(mine, [_numbered(most, 1)])


async def test_a_thousand_urls_are_given_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = 0

    def counted(database: Database) -> AbstractAsyncContextManager[Transaction]:
        nonlocal writes
        writes += 1
        return begin_transaction(database)

    begin_transaction = Database.transaction
    async with begin(tmp_path, EndsWhenTold(), open_store=open_direct) as life:
        mine, began = await _claimed(life), time.monotonic()
        monkeypatch.setattr(Database, "transaction", counted)
        assert len(await life.services.builds.missing(mine, [_numbered(number, 1) for number in range(1000)])) == 1000
        assert time.monotonic() - began < 20
        assert writes <= 3, "however many they are"


async def test_other_bytes_and_longer_ones_and_those_of_another_attempt_are_never_published(attacked: Life) -> None:
    mine = await _claimed(attacked)
    url = await _url(attacked, mine, PAGE)
    for target, data in (
        (url, EVIL),
        (url, PAGE + b"more"),
        (replace(url, headers={}), EVIL),
        (replace(url, url=url.url.replace("/1/", "/2/")), PAGE),
    ):
        await put(target, data)  # some stores refuse it; others take it, and are not believed
    with pytest.raises(RefusedError, match="does not have"):
        await _finish(attacked, mine, [PAGE])
    assert (await attacked.until(mine.deployment, State.FAILED)).reason is Reason.REJECTED


async def test_a_url_that_is_used_after_the_end_changes_nothing(attacked: Life) -> None:
    mine = await _claimed(attacked)
    url = await _url(attacked, mine, PAGE)
    assert await put(url, PAGE) == 200
    await _finish(attacked, mine, [PAGE])
    await put(url, EVIL)
    await attacked.until(mine.deployment, State.READY)
    await attacked.last_words(mine.deployment)
    await put(url, EVIL)
    assert b"".join([chunk async for chunk in attacked.store.read(_blob(PAGE).sha256)]) == PAGE


async def test_what_comes_late_lies_where_it_is_found_and_cleared(attacked: Life) -> None:
    mine = await _claimed(attacked)
    url = await _url(attacked, mine, PAGE)
    await attacked.services.deployer.cancel(mine.deployment)
    await attacked.last_words(mine.deployment)
    assert await put(url, PAGE) == 200  # nobody can take a signature back
    assert await attacked.store.staged() == [mine.deployment]
    await attacked.store.clear(mine.deployment)
    assert await attacked.store.staged() == []
    with pytest.raises(GoneError):
        await attacked.services.builds.missing(mine, [_blob(PAGE)])


async def test_another_projects_file_is_got_by_no_url(attacked: Life) -> None:
    theirs = await _claimed(attacked)
    assert await put(await _url(attacked, theirs, PAGE), PAGE) == 200
    await _finish(attacked, theirs, [PAGE])
    await attacked.until(theirs.deployment, State.READY)
    mine = await _claimed(attacked, "https://git.example/b/other")
    await put(await _url(attacked, mine, PAGE), EVIL)  # it is asked for, as if nobody had it
    with pytest.raises(RefusedError, match="does not have"):
        await _finish(attacked, mine, [PAGE])


async def test_a_url_of_one_attempt_brings_nothing_into_the_next(attacked: Life) -> None:
    first = await _claimed(attacked)
    url = await _url(attacked, first, PAGE)
    await attacked.executor.lose(first.deployment)
    await attacked.executor.job(first.deployment, 2)
    second = Attempt(first.deployment, 2, "nonce")
    await attacked.services.builds.claim(second, "nonce")
    assert await put(url, PAGE) == 200
    assert list(await attacked.services.builds.missing(second, [_blob(PAGE)])) == [_blob(PAGE).sha256]
    with pytest.raises(RefusedError, match="does not have"):
        await _finish(attacked, second, [PAGE])


def _builds() -> Builds:
    return Builds(total_memory_mib=8192, output_mib=1, output_files=10)


def _blob(data: bytes) -> Blob:
    return Blob(sha256=Digest(hashlib.sha256(data).hexdigest()), size_bytes=len(data))


def _numbered(number: int, size_bytes: int) -> Blob:
    return Blob(sha256=Digest(f"{number:064x}"), size_bytes=size_bytes)


async def _claimed(life: Life, url: str = "https://git.example/a/site") -> Attempt:
    deployment = await life.submit(url=url)
    await life.executor.job(deployment)
    mine = Attempt(deployment, 1, "nonce")
    await life.services.builds.claim(mine, "nonce")
    return mine


async def _url(life: Life, attempt: Attempt, data: bytes) -> SignedRequest:
    found = (await life.services.builds.missing(attempt, [_blob(data)]))[_blob(data).sha256]
    assert found is not None
    return found


async def _finish(life: Life, attempt: Attempt, contents: Sequence[bytes]) -> State:
    files = [
        OutputFile(path=f"{number or 'index'}.html", sha256=_blob(data).sha256, size_bytes=len(data))
        for number, data in enumerate(contents)
    ]
    return await life.services.builds.finish(attempt, Success(files=files, framework="x", output_directory="."))
