"""The janitor's rounds: every part has its turn, whatever becomes of the others; who asks gets a round of their own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from scalemesh.errors import UnreachableError
from scalemesh.services.janitor import Done, Freed, Janitor, Part


class Counting:
    """A part that notes how it was called, and waits where it is told to."""

    def __init__(self, name: str, *, fails: Exception | None = None) -> None:
        self.name, self._fails = name, fails
        self.runs: list[bool] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    def part(self) -> Part:
        return Part(self.name, self._run, self._preview)

    async def _run(self, is_tight: bool) -> Freed:
        self.runs.append(is_tight)
        await self.may_end.wait()
        if self._fails:
            raise self._fails
        return Freed(len(self.runs), 10)

    async def _preview(self, is_tight: bool) -> Freed:
        return Freed(70 if is_tight else 7)


@asynccontextmanager
async def serving(parts: Sequence[Counting], *, is_tight: bool = False) -> AsyncIterator[Janitor]:
    janitor = Janitor([one.part() for one in parts], is_tight=lambda: is_tight, now=lambda: datetime.now(UTC))
    task = asyncio.create_task(janitor.serve())
    try:
        yield janitor
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_part_that_fails_is_told_of_and_holds_up_no_other() -> None:
    away = Counting("away", fails=UnreachableError("the store is away"))
    buggy, fine = Counting("buggy", fails=KeyError("x")), Counting("fine")
    async with serving([away, buggy, fine]) as janitor:
        found = await janitor.ended(janitor.wake(), 5)
    assert found.parts == (
        Done("away", Freed(), "the store is away"),
        Done("buggy", Freed(), "a mistake in Scale Mesh; the daemon's log tells more"),
        Done("fine", Freed(1, 10)),
    )


async def test_who_asks_while_a_round_runs_gets_the_one_after_it() -> None:
    part = Counting("slow")
    part.may_end.clear()
    async with serving([part]) as janitor:
        first = janitor.wake()
        while not part.runs:
            await asyncio.sleep(0.001)
        second = janitor.wake()
        assert (first, second) == (1, 2)
        assert janitor.round.now == "slow"
        assert (await janitor.ended(first, 0.01)).ended_at is None
        part.may_end.set()
        assert (await janitor.ended(second, 5)).number == 2
    assert len(part.runs) == 2


async def test_many_who_ask_before_a_round_share_it() -> None:
    part = Counting("one")
    async with serving([part]) as janitor:
        assert [janitor.wake() for _ in range(5)] == [1] * 5
        await janitor.ended(1, 5)
    assert part.runs == [False]


async def test_the_parts_are_told_when_room_is_short() -> None:
    part = Counting("one")
    async with serving([part], is_tight=True) as janitor:
        await janitor.ended(janitor.wake(), 5)
    assert part.runs == [True]


async def test_a_preview_throws_nothing_away() -> None:
    part = Counting("one")
    janitor = Janitor([part.part()], is_tight=lambda: False, now=lambda: datetime.now(UTC))
    assert await janitor.preview() == [Done("one", Freed(7))]
    tight = Janitor([part.part()], is_tight=lambda: True, now=lambda: datetime.now(UTC))
    assert await tight.preview() == [Done("one", Freed(70))]
    assert not part.runs


async def test_a_part_of_which_the_caller_knows_is_not_looked_at_again() -> None:
    janitor = Janitor(
        [Counting("one").part(), Counting("two").part()], is_tight=lambda: False, now=lambda: datetime.now(UTC)
    )
    assert await janitor.preview({"two": Freed(3)}) == [Done("one", Freed(7)), Done("two", Freed(3))]
