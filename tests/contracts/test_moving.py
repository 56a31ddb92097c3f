"""Moving all blobs to another store while they are read, written and removed: nothing is lost at any step."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, LiteralString

import pytest

from scalemesh.db import homes
from scalemesh.errors import ConfigError, ConflictError, InvalidError, NotFoundError, RefusedError, UnreachableError
from scalemesh.ports import Store
from scalemesh.services.chores import Progress, Stopped, Wanted
from scalemesh.services.home_store import HomeStore
from scalemesh.services.lanes import in_lanes
from scalemesh.values import DeploymentId, Digest
from tests.contracts.crash_moving import CONTENTS
from tests.contracts.moves import TO, Two, blob_of, chunks_of, comes_and_goes, new_progress, put, read, two, utc_now

ROOT = Path(__file__).parents[2]
A = DeploymentId("dpl_aaaa1111")
WANTED_BACK = Wanted(kind="migrate", to="disk")


GOES_ON = (
    "INSERT INTO user (id, name, created_at) VALUES ('usr_1', 'owner', 0)",
    "INSERT INTO project (id, name, user_id, created_at) VALUES ('prj_1', 'one', 'usr_1', 0)",
    """INSERT INTO deployment (id, project_id, user_id, environment, state, source_kind, source_ready, settings,
    memory_bytes, place, created_at, started_at)
    VALUES ('dpl_aaaa1111', 'prj_1', 'usr_1', 'production', 'building', 'git', 1, '{}', 1, 1, 0, 0)""",
)
IS_OVER = ("UPDATE deployment SET state = 'failed'",)


async def change(both: Two, statements: Sequence[LiteralString]) -> None:
    async with both.database.transaction() as tx:
        for statement in statements:
            await tx.run(statement)


async def held(store: Store) -> set[Digest]:
    async with aclosing(store.blobs()) as pages:
        return {kept.sha256 async for page in pages for kept in page}


def damage(folder: Path, sha256: Digest) -> None:
    damage_file(folder / "store" / "blobs" / sha256[:2] / sha256)


def damage_file(path: Path) -> None:
    data = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


class Actor:
    """Writes, reads and removes blobs of its own, one after the other, as long as it is let."""

    def __init__(self, number: int, chance: random.Random, home: HomeStore) -> None:
        self._number, self._chance, self._home = number, chance, home
        self.there: dict[Digest, bytes] = {}
        self.gone: set[Digest] = set()

    async def act(self, steps: int) -> None:
        for step in range(steps):
            await self._act(b"%d %d " % (self._number, step) * self._chance.randrange(1, 400))

    async def _act(self, data: bytes) -> None:
        kind = self._chance.choice(["put", "put", "adopt", "remove", "again", "read"])
        blob = blob_of(data)
        if kind == "put":
            await self._surely_put(data)
        elif kind == "adopt":
            deployment = DeploymentId(f"dpl_a{self._number}")
            await self._home.receive(deployment, 1, blob, chunks_of(data))
            while True:
                with suppress(UnreachableError):
                    await self._home.adopt(deployment, 1, [blob.sha256])
                    break
            self.there[blob.sha256] = data
            await self._home.clear(deployment)
        elif kind == "remove" and self.there:
            digest = self._chance.choice(sorted(self.there))
            del self.there[digest]
            await self._home.delete([digest])
            self.gone.add(digest)
        elif kind == "again" and self.there:
            digest = self._chance.choice(sorted(self.there))
            data = self.there[digest]
            await self._home.delete([digest])
            await self._surely_put(data)
        await self._look()

    async def _surely_put(self, data: bytes) -> None:
        while True:
            with suppress(UnreachableError):
                self.there[(await put(self._home, data)).sha256] = data
                return

    async def _look(self) -> None:
        if self.there:
            digest = self._chance.choice(sorted(self.there))
            assert await read(self._home, digest) == self.there[digest]
            assert await self._home.missing([digest]) == set()


async def move_at_last(both: Two, chance: random.Random) -> int:
    """Move, stopped now and then; how often it was stopped."""
    for stops in range(1000):
        progress = new_progress()
        stopping = asyncio.create_task(stop_later(progress, chance))
        try:
            assert (await both.move(progress))["is_moved"]
        except (Stopped, RefusedError):  # the latter: away when it was to prove itself
            continue
        finally:
            stopping.cancel()
        return stops
    raise AssertionError("it does not come to an end")


async def stop_later(progress: Progress, chance: random.Random) -> None:
    await asyncio.sleep(chance.uniform(0, 2))
    progress.ask_to_stop()


@pytest.mark.parametrize("seed", range(6))
async def test_nothing_is_lost_in_any_order_of_events(tmp_path: Path, seed: int) -> None:
    """A target that is away every now and then, moves that are stopped, writes and removals all the while."""
    chance = random.Random(seed)
    flaw = chance.choice([0.0, 0.02, 0.2])
    async with two(tmp_path, comes_and_goes(lambda: chance.random() < flaw)) as both:
        actors = [Actor(number, random.Random(seed * 100 + number), both.home) for number in range(6)]
        for actor in actors:
            await actor.act(6)
        async with asyncio.timeout(150), asyncio.TaskGroup() as group:
            for actor in actors:
                group.create_task(actor.act(40))
            moving = group.create_task(move_at_last(both, chance))
        assert both.told == [TO]
    async with two(tmp_path) as both:
        assert both.home.home.kind == TO
        expected = {digest: data for actor in actors for digest, data in actor.there.items()}
        assert expected
        for digest, data in expected.items():
            assert await read(both.home.home.raw, digest) == data
        if not flaw and not moving.result():  # what is removed while the target is not told of it stays there
            assert await held(both.home.home.raw) == set(expected)


async def run_until_killed(folder: Path, fault: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.contracts.crash_moving", str(folder)),
        env={**os.environ, "SCALEMESH_FAULT": fault, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    async with asyncio.timeout(90):
        return await process.wait()


@pytest.mark.parametrize(
    "point",
    [
        "move.after_begin",
        "move.after_copy:1",
        "move.after_copy:20",
        "move.after_note",
        "move.before_switch",
        "move.after_switch",
    ],
)
async def test_a_move_killed_at_any_step_has_lost_nothing_and_goes_on(tmp_path: Path, point: str) -> None:
    assert await run_until_killed(tmp_path, point) == -signal.SIGKILL
    async with two(tmp_path) as both:
        assert both.home.home.kind == (TO if point == "move.after_switch" else "disk")
        for data in CONTENTS:
            assert await read(both.home, blob_of(data).sha256) == data
        if point != "move.after_switch":
            unfinished = await both.moving.unfinished()
            assert unfinished is not None
            assert unfinished.to == TO
    assert await run_until_killed(tmp_path, "") == 0
    async with two(tmp_path) as both:
        assert both.home.home.kind == TO
        assert await held(both.home.home.raw) == {blob_of(data).sha256 for data in CONTENTS}
        assert await both.moving.unfinished() is None


async def test_a_target_that_is_away_holds_up_no_write_and_is_waited_for(tmp_path: Path) -> None:
    away = False
    async with two(tmp_path, comes_and_goes(lambda: away)) as both:
        for number in range(30):
            await put(both.home, b"before %d" % number)
        progress = new_progress()
        moving = asyncio.create_task(both.move(progress))
        async with asyncio.timeout(30):
            while progress.phase != "copying":
                await asyncio.sleep(0)
            away = True
            while "does not answer" not in progress.words:
                await asyncio.sleep(0.001)
            during = await put(both.home, b"during")
            assert await read(both.home, during.sha256) == b"during"
            away = False
            assert (await moving)["well"]
        assert await read(both.home.home.raw, during.sha256) == b"during"
        assert len(await held(both.home.home.raw)) == 31


async def test_a_target_on_a_disk_that_is_full_is_waited_for_before_it_takes_the_last_byte(tmp_path: Path) -> None:
    asked: list[Path] = []

    async def lacks(place: Path) -> str:
        asked.append(place)
        return "3 MB are free" if 5 < len(asked) < 50 else ""

    progress, seen = new_progress(), set[str]()

    async def watch() -> None:
        while True:
            seen.add(progress.words)
            await asyncio.sleep(0)

    async with two(tmp_path, lacks=lacks) as both:
        for number in range(20):
            await put(both.home, b"blob %d" % number)
        watching = asyncio.create_task(watch())
        assert (await both.move(progress))["well"]
        watching.cancel()
        assert len(await held(both.home.home.raw)) == 20
    assert "waiting: there is no room for more blobs (3 MB are free)" in seen
    assert all(place.is_relative_to(tmp_path / TO) for place in asked)


async def test_what_the_target_missed_during_the_last_look_makes_it_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, progress = False, new_progress()
    late = min((b"late %d" % number for number in range(3000)), key=lambda data: blob_of(data).sha256)
    async with two(tmp_path, comes_and_goes(lambda: away)) as both:
        for number in range(30):
            await put(both.home, b"blob %d" % number)
        assert min(await held(both.home)) > blob_of(late).sha256

        async def lanes(*words: Any, **more: Any) -> None:
            nonlocal away
            if progress.phase == "comparing" and progress.done and await both.home.missing([blob_of(late).sha256]):
                away = True  # for just so long that one write misses it, whose place was looked at already
                await put(both.home, late)
                away = False
            await in_lanes(*words, **more)

        monkeypatch.setattr("scalemesh.services.moving.in_lanes", lanes)
        assert (await both.move(progress))["well"]
        assert await read(both.home.home.raw, blob_of(late).sha256) == late


async def test_a_target_that_does_not_work_begins_no_move(tmp_path: Path) -> None:
    async with two(tmp_path, comes_and_goes(lambda: True)) as both:
        with pytest.raises(RefusedError, match="other"):
            await both.move()
        assert await both.moving.unfinished() is None
        assert (await both.moving.state()).move is None


async def test_a_damaged_blob_is_told_and_keeps_everything_where_it_is(tmp_path: Path) -> None:
    async with two(tmp_path) as both:
        blobs = [await put(both.home, b"blob %d" % number) for number in range(10)]
        damage(tmp_path, blobs[3].sha256)
        result = await both.move()
        assert (result["well"], result["is_moved"]) == (False, False)
        assert result["damaged"]["first"] == [{"sha256": blobs[3].sha256, "size_bytes": 6}]
        assert both.home.home.kind == "disk"
        assert await both.moving.unfinished() is None  # a restart does not try again by itself
        result = await both.move(despite_damage=True)
        assert (result["well"], result["is_moved"], result["damaged"]["count"]) == (False, True, 1)
        assert await held(both.home.home.raw) == {blob.sha256 for blob in blobs} - {blobs[3].sha256}


async def test_a_move_whose_target_left_the_config_is_stopped_and_not_begun_at_every_start(tmp_path: Path) -> None:
    @asynccontextmanager
    async def taken_out(_: Path) -> AsyncIterator[Store]:
        raise ConfigError("there is no table store.other")
        yield

    async with two(tmp_path, taken_out) as both:
        async with both.database.transaction() as tx:
            await homes.begin_move(tx, TO, utc_now(), despite_damage=False)
        wanted = await both.moving.unfinished()
        assert wanted is not None
        with pytest.raises(ConfigError):
            await both.moving.run(wanted, new_progress())
        assert await both.moving.unfinished() is None
        move = (await both.moving.state()).move
        assert move is not None
        assert move.is_stopped
    async with two(tmp_path) as both:  # the table is back
        assert (await both.move())["is_moved"]


async def test_a_stopped_move_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalemesh.services.moving.NOTE_S", 0.0)
    async with two(tmp_path) as both:
        for number in range(300):
            await put(both.home, b"blob %d" % number)
        progress = new_progress()
        monkeypatch.setattr(
            "scalemesh.services.moving.fault",
            lambda point: progress.ask_to_stop() if point == "move.after_note" and progress.done > 100 else None,
        )
        with pytest.raises(Stopped):
            await both.move(progress)
        move = (await both.moving.state()).move
        assert move is not None
        assert move.is_stopped
        assert move.copied_to is not None
        assert move.copied_to > Digest("4")
        later = await put(both.home, b"written while it stood still")
        monkeypatch.undo()
        assert (await both.move())["blobs"] == 301
        assert await read(both.home.home.raw, later.sha256)


async def test_uploads_from_before_the_switch_are_adopted_after_it_and_after_a_restart(tmp_path: Path) -> None:
    first, second, third = b"first" * 9, b"second" * 9, b"third" * 9
    async with two(tmp_path) as both:
        await change(both, GOES_ON)
        for data in (first, second):
            await both.home.receive(A, 1, blob_of(data), chunks_of(data))
        assert (await both.move())["well"]
        await both.home.receive(A, 1, blob_of(third), chunks_of(third))
        assert set(await both.home.received(A, 1)) == {blob_of(data).sha256 for data in (first, second, third)}
        await both.home.adopt(A, 1, [blob_of(first).sha256, blob_of(third).sha256])
        await both.moving.look_at_leftovers()
        with pytest.raises(ConflictError, match="before the last move"):
            await both.moving.run(WANTED_BACK, new_progress())
    async with two(tmp_path) as both:
        await both.home.adopt(A, 1, [blob_of(second).sha256])
        for data in (first, second, third):
            assert await read(both.home.home.raw, blob_of(data).sha256) == data
        assert await both.home.staged() == [A]
        await both.home.clear(A)
        assert await both.home.staged() == []
        await both.moving.look_at_leftovers()
        assert both.home.former is not None, "a signed URL may still bring something there"
        await change(both, IS_OVER)
        await both.moving.look_at_leftovers()
        assert both.home.former is None
        with pytest.raises(NotFoundError):
            await both.home.adopt(A, 1, [blob_of(b"never sent").sha256])
    async with two(tmp_path) as both:
        assert both.home.former is None


async def test_there_and_back_again(tmp_path: Path) -> None:
    async with two(tmp_path) as both:
        blob = await put(both.home, b"there")
        assert (await both.move())["well"]
        with pytest.raises(InvalidError, match="already"):
            await both.move()
        later = await put(both.home, b"and back")
        await both.moving.look_at_leftovers()
        assert (await both.moving.run(WANTED_BACK, new_progress()))["well"]
        assert both.home.home.kind == "disk"
        assert await held(both.home.home.raw) == {blob.sha256, later.sha256}
        assert both.told == [TO, "disk"]


async def test_what_has_rotted_in_the_old_store_meanwhile_is_brought_anew_on_the_way_back(tmp_path: Path) -> None:
    async with two(tmp_path) as both:
        rotten, fine = await put(both.home, b"rotten"), await put(both.home, b"fine")
        assert (await both.move())["well"]
        damage(tmp_path, rotten.sha256)
        await both.moving.look_at_leftovers()
        assert (await both.moving.run(WANTED_BACK, new_progress()))["well"]
        assert both.home.home.kind == "disk"
        assert await read(both.home.home.raw, rotten.sha256) == b"rotten"
        assert await read(both.home.home.raw, fine.sha256) == b"fine"
