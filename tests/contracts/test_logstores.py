"""The contract of LogStore, over every kind of store."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from scalemesh.ports import LogStore
from scalemesh.values import DeploymentId, LogBlock, LogLine
from tests.contracts.openers import LOG_STORES

A: Final = DeploymentId("dpl_a")
B: Final = DeploymentId("dpl_b")
NOW: Final = datetime(2026, 7, 1, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture(params=LOG_STORES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def store(kind: str, tmp_path: Path) -> AsyncIterator[LogStore]:
    async with LOG_STORES[kind](tmp_path) as opened:
        yield opened


def block(*texts: str, deployment: DeploymentId = A, closes: bool = False) -> LogBlock:
    lines = [LogLine(number=0, at=NOW, step="build", stream="out", text=text) for text in texts]
    return LogBlock(deployment=deployment, lines=lines, closes=closes)


def numbers(lines: Sequence[LogLine]) -> list[int]:
    return [line.number for line in lines]


def texts(lines: Sequence[LogLine]) -> list[str]:
    return [line.text for line in lines]


async def test_lines_read_as_the_append_returned_them(store: LogStore) -> None:
    """Numbers from 1, times in whole milliseconds, every character."""
    odd = LogLine(
        number=0, at=NOW + timedelta(hours=1), step="install", stream="err", text='ü 漢 🎉 \x1b[31m"\\ \t é\u2028'
    )
    kept = await store.append(LogBlock(deployment=A, lines=[*block("").lines, odd]))
    assert kept is not None
    read = await store.read(A)
    assert list(read) == list(kept.lines)
    assert numbers(read) == [1, 2]
    assert [line.at for line in read] == [
        NOW.replace(microsecond=123000),
        NOW.replace(microsecond=123000) + timedelta(hours=1),
    ]
    assert (read[1].text, read[1].step, read[1].stream) == (odd.text, "install", "err")


async def test_numbers_go_on_without_gaps_and_each_deployment_counts_for_itself(store: LogStore) -> None:
    for deployment in (A, B, A):
        await store.append(block("x", "y", deployment=deployment))
    await store.append(block(closes=True))
    kept = await store.append(block("late"))
    assert kept is not None
    assert numbers(kept.lines) == [5]
    assert numbers(await store.read(A)) == [1, 2, 3, 4, 5]
    assert numbers(await store.read(B)) == [1, 2]


async def test_a_repeated_block_is_kept_once(store: LogStore) -> None:
    assert await store.append(block("one"), attempt=1, seq=1)
    assert await store.append(block("one"), attempt=1, seq=1) is None
    assert await store.append(block("another attempt"), attempt=2, seq=1)
    assert await store.append(block("another deployment", deployment=B), attempt=1, seq=1)
    assert await store.append(block("without seq"), attempt=1)
    assert await store.append(block("without seq"), attempt=1)
    assert texts(await store.read(A)) == ["one", "another attempt", "without seq", "without seq"]


async def test_a_closing_block_without_lines_is_kept_once(store: LogStore) -> None:
    kept = await store.append(block(closes=True), seq=0)
    assert kept is not None
    assert kept.closes
    assert await store.append(block(closes=True), seq=0) is None
    assert await store.read(A) == []


async def test_appends_at_the_same_time_get_numbers_of_their_own(store: LogStore) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(store.append(block(*[f"{who}-{line}" for line in range(7)]), attempt=1, seq=who // 2))
            for who in range(40)
        ]
    kept = [result for task in tasks if (result := task.result())]
    assert len(kept) == 20, "each seq was sent twice"
    read = await store.read(A)
    assert numbers(read) == list(range(1, 141))
    by_number = {line.number: line for line in read}
    for one in kept:
        assert [by_number[line.number] for line in one.lines] == list(one.lines)
        assert numbers(one.lines) == list(range(one.lines[0].number, one.lines[0].number + 7))


@pytest.mark.parametrize("after", [0, 1, 6, 7, 8, 99, 100, 101, -5])
@pytest.mark.parametrize("limit", [0, 1, 2, 7, 50, 1000])
async def test_a_page_is_what_a_slice_would_be(store: LogStore, after: int, limit: int) -> None:
    for start in range(0, 100, 7):
        await store.append(block(*map(str, range(start, min(start + 7, 100)))))
    wanted = list(range(1, 101))[max(after, 0) :][:limit]
    assert numbers(await store.read(A, after, limit)) == wanted


async def test_an_unknown_deployment_has_no_lines(store: LogStore) -> None:
    assert await store.read(A) == []
    assert await store.search(A, "x") == []


async def test_search_ignores_letter_case_and_colours_and_stops_at_its_limit(store: LogStore) -> None:
    for start in range(0, 3000, 50):
        await store.append(block(*[f"line {number}" for number in range(start, start + 50)]))
    await store.append(block("\x1b[31mERR\x1b[0;1mor\x1b[m: STRASSE 100% _x", "nothing here"))
    assert numbers(await store.search(A, "error")) == [3001]
    assert numbers(await store.search(A, "straße")) == [3001]
    assert numbers(await store.search(A, "100% _X")) == [3001]
    assert await store.search(A, "31m") == []
    assert numbers(await store.search(A, "LINE", 120)) == list(range(1, 121))
    assert numbers(await store.search(A, "line 29", 1000)) == [30, *range(291, 301), *range(2901, 3001)]
    assert await store.search(B, "line") == []
    assert await store.search(A, "line", 0) == []


async def test_a_dropped_log_is_gone_and_no_other(store: LogStore) -> None:
    for deployment in (A, B):
        await store.append(block("x", deployment=deployment), attempt=1, seq=1)
    await store.drop(A)
    await store.drop(A)
    assert await store.read(A) == []
    assert texts(await store.read(B)) == ["x"]
    assert await store.append(block("fresh"), attempt=1, seq=1)
    assert numbers(await store.read(A)) == [1]


async def test_what_was_kept_is_there_after_opening_again(kind: str, tmp_path: Path) -> None:
    async with LOG_STORES[kind](tmp_path) as store:
        kept = await store.append(block("one", "two"), attempt=1, seq=1)
    assert kept is not None
    async with LOG_STORES[kind](tmp_path) as store:
        assert list(await store.read(A)) == list(kept.lines)
        assert await store.append(block("one", "two"), attempt=1, seq=1) is None


async def test_two_that_have_it_open_do_not_mix_up_their_numbers(kind: str, tmp_path: Path) -> None:
    """`scalemesh check` opens the store beside a living daemon."""
    async with LOG_STORES[kind](tmp_path) as one, LOG_STORES[kind](tmp_path) as other:
        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task((one, other)[number % 2].append(block(str(number), "x")))
        assert numbers(await one.read(A)) == list(range(1, 81))


async def test_the_check_proves_it(store: LogStore) -> None:
    findings = await store.check()
    assert findings
    assert all(finding.ok for finding in findings)
