"""Long pieces of work: one at a time, looked at, stopped, and gone on with after a restart."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest

from scalemesh.errors import ConflictError, InvalidError, UnreachableError
from scalemesh.services.chores import MOST_ERRORS, Chores, End, Progress, Result, Wanted

SWEEP = Wanted(kind="sweep")


class Sweeping:
    """Goes on until it is let go, is stopped, or fails as it is told."""

    def __init__(self) -> None:
        self.may_end, self.begun = asyncio.Event(), asyncio.Event()
        self.error: Exception | None = None

    async def run(self, wanted: Wanted, progress: Progress) -> Result:
        progress.begin("sweeping", 10)
        self.begun.set()
        while not self.may_end.is_set():
            await progress.pause(0.001)
            progress.advance(1, 100)
        if self.error is not None:
            raise self.error
        return {"well": True, "wanted": wanted.kind}


@asynccontextmanager
async def serving(sweeping: Sweeping, unfinished: Wanted | None = None) -> AsyncIterator[Chores]:
    async def asked() -> Wanted | None:
        return unfinished

    chores = Chores({"sweep": sweeping.run, "mop": sweeping.run}, asked, now=lambda: datetime.now(UTC))
    task = asyncio.create_task(chores.serve())
    try:
        async with asyncio.timeout(60):
            yield chores
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def ended(chores: Chores) -> End:
    while chores.current is None or chores.current.end is None:
        await asyncio.sleep(0.001)
    return chores.current.end


async def test_the_same_wish_twice_is_one_piece_of_work_and_another_one_waits_its_turn() -> None:
    sweeping = Sweeping()
    async with serving(sweeping) as chores:
        chore = chores.start(SWEEP)
        await sweeping.begun.wait()
        assert chores.start(SWEEP) is chore
        with pytest.raises(ConflictError, match="under way"):
            chores.start(Wanted(kind="mop"))
        sweeping.may_end.set()
        assert await ended(chores) is End.DONE
        assert chore.result == {"well": True, "wanted": "sweep"}
        assert chores.start(Wanted(kind="mop")) is not chore


async def test_it_stops_when_asked_to() -> None:
    async with serving(Sweeping()) as chores:
        with pytest.raises(ConflictError, match="nothing"):
            chores.stop()
        chores.start(SWEEP)
        chores.stop()
        assert await ended(chores) is End.STOPPED
        with pytest.raises(ConflictError, match="nothing"):
            chores.stop()


async def test_an_error_is_told_and_the_next_one_runs() -> None:
    sweeping = Sweeping()
    sweeping.may_end.set()
    async with serving(sweeping) as chores:
        for error, words in ((UnreachableError("no broom", fix="buy one"), "no broom\nbuy one"), (KeyError(), "a bug")):
            sweeping.error = error
            chore = chores.start(SWEEP)
            assert await ended(chores) is End.FAILED
            assert chore.progress.errors[0].startswith(words)


async def test_what_an_earlier_daemon_was_at_goes_on() -> None:
    sweeping = Sweeping()
    async with serving(sweeping, unfinished=SWEEP) as chores:
        await sweeping.begun.wait()
        assert chores.current is not None
        assert chores.current.wanted == SWEEP


async def test_what_is_no_chore_is_refused() -> None:
    async with serving(Sweeping()) as chores:
        with pytest.raises(InvalidError, match="choose one of sweep, mop"):
            chores.start(Wanted(kind="dust"))


def test_progress_counts_by_phase_and_keeps_a_bounded_number_of_words() -> None:
    now = 0.0
    progress = Progress(lambda: now)
    progress.begin("reading", 100, 10_000)
    for _ in range(40):
        now += 0.5
        progress.advance(2, 50)
    assert (progress.done, progress.done_bytes) == (80, 2000)
    assert progress.rates == pytest.approx((4, 100))
    progress.begin("comparing")
    assert (progress.done, progress.total, progress.rates) == (0, None, (0.0, 0.0))
    for number in range(MOST_ERRORS + 50):
        progress.fail(f"error {number}")
    assert (len(progress.errors), progress.error_count) == (MOST_ERRORS, MOST_ERRORS + 50)
