"""The road of a log line, over every pair of log store and bus."""

import asyncio
import os
import random
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.protocol import MAX_BLOCK_LINES, MAX_LINE_BYTES
from scalemesh.errors import InvalidError, TooLargeError, UnreachableError
from scalemesh.ports import Finding, LogBus
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.values import DeploymentId, LogBlock, LogLine
from tests.contracts.crash_logs import BLOCKS, LINES, A
from tests.contracts.openers import BUSES, LOG_STORES

ROOT: Final = Path(__file__).parents[2]
NOW: Final = datetime(2026, 7, 1, 12, tzinfo=UTC)
NOW_MS: Final = int(NOW.timestamp() * 1000)
PAIRS: Final = [(store, bus) for store in LOG_STORES for bus in BUSES]


class FickleBus:
    """Does all that a bus may do wrong: forgets, repeats and overtakes, as *fates* say, and then says nothing of it."""

    def __init__(self, bus: LogBus, fates: Sequence[str]) -> None:
        self._bus, self._fates = bus, iter(fates)
        self._late: list[LogBlock] = []

    async def publish(self, block: LogBlock) -> None:
        fate = next(self._fates, "tell")
        if fate == "unreachable":
            raise UnreachableError("the bus does not answer")
        if fate == "overtake":
            self._late.append(block)
        if fate in {"tell", "repeat"}:
            for one in [block, *self._late, *([block] if fate == "repeat" else [])]:
                await self._bus.publish(one)
            self._late.clear()

    def subscribe(self, deployment: DeploymentId) -> AbstractAsyncContextManager[AsyncGenerator[LogBlock | None]]:
        return self._bus.subscribe(deployment)

    async def check(self) -> Sequence[Finding]:
        return await self._bus.check()


@pytest.fixture(params=PAIRS, ids="-".join)
async def pipeline(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LogPipeline]:
    store_kind, bus_kind = request.param
    async with LOG_STORES[store_kind](tmp_path) as store, BUSES[bus_kind](8) as bus:
        yield LogPipeline(store, bus, now=lambda: NOW, poll_s=0.02)


def raw(*texts: str, at_ms: int = NOW_MS) -> list[object]:
    return [[at_ms, "out", "build", text] for text in texts]


async def take(
    pipeline: LogPipeline, seq: int, *texts: str, secrets: Sequence[str] = (), log_bytes: int = 10**6
) -> int:
    return await pipeline.take(A, 1, seq, raw(*texts), secrets=secrets, log_bytes=log_bytes)


async def kept(pipeline: LogPipeline) -> list[str]:
    return [line.text for line in await pipeline.read(A, limit=10_000)]


async def never() -> bool:
    return False


async def follow_all(pipeline: LogPipeline, after: int = 0) -> tuple[list[LogLine], bool]:
    """What a follower gets until it is let go, and whether that was by a block that closes."""
    lines: list[LogLine] = []
    closed = False
    async with aclosing(pipeline.follow(A, after, never)) as blocks:
        async for block in blocks:
            assert not closed, "nothing follows a block that closes"
            lines += block.lines
            closed = block.closes
    return lines, closed


async def test_a_block_is_kept_once_and_its_answer_names_the_next(pipeline: LogPipeline) -> None:
    assert await take(pipeline, 1, "one", "two") == 2
    assert await take(pipeline, 1, "one", "two") == 2
    assert await take(pipeline, 2, "three") == 3
    assert await kept(pipeline) == ["one", "two", "three"]


async def test_the_daemons_own_lines_stand_between_the_builders(pipeline: LogPipeline) -> None:
    await pipeline.write(A, "queue", "first\nsecond", once=1)
    await take(pipeline, 1, "built")
    await pipeline.write(A, "queue", "first\nsecond", once=1)
    await pipeline.write(A, "publish", "token tok_abcdef", secrets=["tok_abcdef"])
    lines = await pipeline.read(A)
    assert [line.text for line in lines] == ["first", "second", "built", "token ***"]
    assert [line.number for line in lines] == [1, 2, 3, 4]
    assert (lines[0].stream, lines[0].step, lines[0].at) == ("system", "queue", NOW)


async def test_lines_are_cleaned_and_masked_at_the_door(pipeline: LogPipeline) -> None:
    hostile = "\x1b[31mred\x1b[0m\x1b]0;title\x07 pass\x1b[Kword1 \ud800\n"
    await take(pipeline, 1, hostile, "plain", "a\nb", secrets=["password1"])
    assert await kept(pipeline) == ["\x1b[31mred\x1b[0m *** \ufffd", "plain", "ab"]


async def test_a_long_line_is_split_between_characters_and_never_inside_a_secret(pipeline: LogPipeline) -> None:
    secret = "s3cret-value"
    await take(pipeline, 1, "é" * 20_000, "x" * (MAX_LINE_BYTES - 5) + secret + "y" * 30, secrets=[secret])
    await take(pipeline, 2, "a" * (MAX_LINE_BYTES - 3) + "\x1b[1;31m" + "b")
    texts = await kept(pipeline)
    assert all(len(text.encode()) <= MAX_LINE_BYTES for text in texts)
    assert "".join(texts[:3]) == "é" * 20_000
    assert "".join(texts[3:5]) == "x" * (MAX_LINE_BYTES - 5) + "***" + "y" * 30
    assert texts[5:] == ["a" * (MAX_LINE_BYTES - 3), "\x1b[1;31mb"]


@pytest.mark.parametrize(
    ("sent", "kept_at"),
    [
        (NOW_MS - 5000, NOW - timedelta(seconds=5)),
        (NOW_MS + 1, NOW),
        (10**30, NOW),
        (0, NOW - timedelta(minutes=10)),
        (-(10**30), NOW - timedelta(minutes=10)),
    ],
)
async def test_a_time_is_put_between_ten_minutes_ago_and_now(
    pipeline: LogPipeline, sent: int, kept_at: datetime
) -> None:
    await pipeline.take(A, 1, 1, raw("x", at_ms=sent), secrets=[], log_bytes=100)
    assert (await pipeline.read(A))[0].at == kept_at


@pytest.mark.parametrize(
    "bad",
    [
        [NOW_MS, "out", "cook", "x"],
        [NOW_MS, "in", "build", "x"],
        [1.5, "out", "build", "x"],
        [NOW_MS, "out", "build"],
        [NOW_MS, "out", "build", None],
        {"at": 1},
        "four",
        None,
    ],
)
async def test_what_is_no_line_is_refused_with_its_whole_block(pipeline: LogPipeline, bad: object) -> None:
    with pytest.raises(InvalidError, match="is no line"):
        await pipeline.take(A, 1, 1, [*raw("good"), bad], secrets=[], log_bytes=100)
    assert await kept(pipeline) == []


async def test_a_block_over_its_bounds_is_refused(pipeline: LogPipeline) -> None:
    with pytest.raises(TooLargeError):
        await take(pipeline, 1, *["x"] * (MAX_BLOCK_LINES + 1))
    with pytest.raises(TooLargeError):
        await take(pipeline, 1, "x" * 600_000)
    with pytest.raises(InvalidError):
        await take(pipeline, 0, "x")
    assert await kept(pipeline) == []


async def test_past_the_cap_lines_are_dropped_and_one_line_says_so(pipeline: LogPipeline, tmp_path: Path) -> None:
    for seq in range(1, 20):
        assert await take(pipeline, seq, *["x" * 999] * 100, log_bytes=1000) == seq + 1
    texts = await kept(pipeline)
    assert len(texts) == 525 + 1, "the cap is 1000 bytes, a quarter more, and one block of 512 KiB for the end"
    assert texts[-1] == "The log has reached 525538 bytes: what the build printed from here on is not kept."
    await take(pipeline, 6, *["x" * 999] * 100, log_bytes=1000)
    await pipeline.write(A, "end", "the daemon still speaks")
    assert (await kept(pipeline))[525:] == [texts[-1], "the daemon still speaks"]


@pytest.mark.parametrize("store_kind", LOG_STORES)
async def test_the_cap_holds_across_a_restart_of_the_daemon(store_kind: str, tmp_path: Path) -> None:
    counts = []
    for start in (1, 11):
        async with LOG_STORES[store_kind](tmp_path) as store, BUSES["memory"](8) as bus:
            pipeline = LogPipeline(store, bus, now=lambda: NOW)
            for seq in range(start, start + 10):
                await take(pipeline, seq, *["x" * 999] * 100, log_bytes=1000)
            counts.append(len(await kept(pipeline)))
    assert counts == [526, 526]


async def test_a_follower_gets_the_past_then_the_present_until_the_log_is_closed(pipeline: LogPipeline) -> None:
    await take(pipeline, 1, "one", "two")
    async with asyncio.timeout(30), aclosing(pipeline.follow(A, 1, never)) as blocks:
        assert [line.text for line in (await anext(blocks)).lines] == ["two"]
        await take(pipeline, 2, "three")
        assert [line.number for line in (await anext(blocks)).lines] == [3]
        await pipeline.close(A)
        await pipeline.close(A)
        assert await anext(blocks) == LogBlock(deployment=A, lines=(), closes=True)
        with pytest.raises(StopAsyncIteration):
            await anext(blocks)


async def test_a_follower_of_an_ended_deployment_gets_it_all_and_is_let_go(pipeline: LogPipeline) -> None:
    for seq in range(1, 5):
        await take(pipeline, seq, *["x"] * 400)

    async def ended() -> bool:
        return True

    async with asyncio.timeout(30), aclosing(pipeline.follow(A, 0, ended)) as blocks:
        got = [block async for block in blocks]
    assert [line.number for block in got for line in block.lines] == list(range(1, 1601))
    assert [block.closes for block in got] == [False] * (len(got) - 1) + [True]


async def test_a_follower_is_let_go_when_the_log_is_dropped(pipeline: LogPipeline) -> None:
    await take(pipeline, 1, "one")
    async with asyncio.timeout(30), aclosing(pipeline.follow(A, 0, never)) as blocks:
        await anext(blocks)
        await pipeline.drop(A)
        assert (await anext(blocks)).closes
    assert await kept(pipeline) == []


async def test_search_goes_through_to_the_store(pipeline: LogPipeline) -> None:
    await take(pipeline, 1, "one", "TWO")
    assert [line.number for line in await pipeline.search(A, "two")] == [2]


async def test_a_follower_that_leaves_or_is_cancelled_leaves_no_task(pipeline: LogPipeline) -> None:
    async with asyncio.timeout(30):
        await take(pipeline, 1, "one")
        async with aclosing(pipeline.follow(A, 0, never)) as blocks:
            await anext(blocks)
        waiting = asyncio.create_task(follow_all(pipeline))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize(("store_kind", "bus_kind"), PAIRS)
async def test_closing_the_bus_lets_followers_go_without_saying_that_the_log_ended(
    store_kind: str, bus_kind: str, tmp_path: Path
) -> None:
    async with asyncio.timeout(30), LOG_STORES[store_kind](tmp_path) as store:
        async with BUSES[bus_kind](8) as bus:
            pipeline = LogPipeline(store, bus, now=lambda: NOW)
            await take(pipeline, 1, "one")
            follower = pipeline.follow(A, 0, never)
            assert len((await anext(follower)).lines) == 1
        with pytest.raises(StopAsyncIteration):
            await anext(follower)


FATES: Final = ("tell", "tell", "tell", "forget", "repeat", "overtake", "unreachable")


class Scenario:
    """Two writers that repeat themselves, and followers that begin at any time, behind any line, and dawdle."""

    BLOCKS: Final = range(1, 15)
    TALK: Final = 10
    TOTAL: Final = sum(seq % 5 + 1 for seq in BLOCKS) + TALK

    def __init__(self, pipeline: LogPipeline, chance: random.Random) -> None:
        self.pipeline, self.chance, self.is_over = pipeline, chance, False

    async def run(self, followers: Sequence[int]) -> list[list[int]]:
        """The numbers that each of *followers*, who begins after that line, has got in the end."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.follow(after)) for after in followers]
            async with asyncio.TaskGroup() as writers:
                writers.create_task(self.build())
                writers.create_task(self.talk())
            await self.pipeline.close(A)
            self.is_over = True
        return [task.result() for task in tasks]

    async def follow(self, after: int) -> list[int]:
        await self.dawdle(60)
        got: list[int] = []
        async with aclosing(self.pipeline.follow(A, after, self.is_final)) as blocks:
            async for block in blocks:
                got += [line.number for line in block.lines]
                await self.dawdle(12)
        return got

    async def build(self) -> None:
        for seq in self.BLOCKS:
            for _ in range(self.chance.choice([1, 1, 2])):
                await take(self.pipeline, seq, *map(str, range(seq % 5 + 1)))
            await self.dawdle(12)

    async def talk(self) -> None:
        for number in range(self.TALK):
            await self.pipeline.write(A, "publish", str(number))
            await self.dawdle(12)

    async def is_final(self) -> bool:
        return self.is_over

    async def dawdle(self, most: int) -> None:
        for _ in range(self.chance.randrange(most)):
            await asyncio.sleep(0)


@pytest.mark.parametrize(("store_kind", "bus_kind"), PAIRS)
@settings(max_examples=40, deadline=None)
@given(
    fates=st.lists(st.sampled_from(FATES), max_size=60),
    room=st.integers(1, 5),
    seed=st.integers(0, 2**32),
    followers=st.lists(st.integers(0, 40), min_size=1, max_size=6),
)
def test_every_follower_gets_every_line_once_in_order_whatever_the_bus_does(
    store_kind: str, bus_kind: str, fates: list[str], room: int, seed: int, followers: list[int]
) -> None:
    async def play(where: Path) -> None:
        async with asyncio.timeout(30), LOG_STORES[store_kind](where) as store, BUSES[bus_kind](room) as bus:
            pipeline = LogPipeline(store, FickleBus(bus, fates), now=lambda: NOW, poll_s=0.02)
            got = await Scenario(pipeline, random.Random(seed)).run(followers)
            assert len(await pipeline.read(A)) == Scenario.TOTAL
            assert got == [list(range(after + 1, Scenario.TOTAL + 1)) for after in followers]

    with tempfile.TemporaryDirectory() as where:
        asyncio.run(play(Path(where)))


async def send(store_kind: str, where: Path, *, fault: str = "", kill_after: int | None = None) -> int:
    """Run the sending program; kill it once it has said that block *kill_after* was taken. Its exit status."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.contracts.crash_logs", store_kind, str(where)),
        env={**os.environ, "SCALEMESH_FAULT": fault, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(90):
        async for taken in process.stdout:
            if int(taken) == kill_after:
                process.kill()
        return await process.wait()


@pytest.mark.parametrize("store_kind", LOG_STORES)
@pytest.mark.parametrize(
    ("fault", "kill_after"),
    [(f"logs.after_append:{hit}", None) for hit in (1, 2, 17, BLOCKS + 2, BLOCKS + 3)]
    + [("", after) for after in (1, 13, BLOCKS - 1)],
)
async def test_no_line_is_lost_or_doubled_when_the_daemon_is_killed(
    store_kind: str, tmp_path: Path, fault: str, kill_after: int | None
) -> None:
    assert await send(store_kind, tmp_path, fault=fault, kill_after=kill_after) == -signal.SIGKILL
    assert await send(store_kind, tmp_path) == 0
    async with LOG_STORES[store_kind](tmp_path) as store:
        lines = await store.read(A, limit=10_000)
    wanted = [f"{seq}.{number}" for seq in range(1, BLOCKS + 1) for number in range(LINES)]
    assert [line.text for line in lines] == ["queued", *wanted, "ended"]
    assert [line.number for line in lines] == list(range(1, len(wanted) + 3))
