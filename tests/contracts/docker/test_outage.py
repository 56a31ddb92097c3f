"""An engine that is away: jobs are waited for, starts are tried later, and nothing of ours piles up."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from scalemesh.errors import UnreachableError
from scalemesh.values import EndCause
from tests.contracts.executor.places.docker import DockerPlace
from tests.contracts.executor.processes import eventually

pytestmark = pytest.mark.timeout(90)
ENGINE = "/var/run/docker.sock"


class Relay:
    """Stands before the engine's socket, and can be cut."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._server: asyncio.Server | None = None
        self._carried: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, str(self.path))

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        self.path.unlink(missing_ok=True)
        for task in self._carried:
            task.cancel()
        await asyncio.gather(*self._carried, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._carried.add(task)
        task.add_done_callback(self._carried.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(ENGINE)
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            for one in (writer, far_writer):
                one.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()


@pytest.fixture
async def relay(place: DockerPlace, tmp_path: Path) -> AsyncIterator[Relay]:
    relay = Relay(tmp_path / "engine.sock")
    await relay.start()
    place.config = replace(place.config, host=f"unix://{relay.path}")
    yield relay
    await relay.cut()


async def test_a_job_that_ends_while_the_engine_is_away_is_told_when_it_is_back(
    place: DockerPlace, relay: Relay
) -> None:
    async with place.open() as executor:
        ref = await executor.start(place.job("time.sleep(1.5); sys.exit(6)"))
        waiting = asyncio.create_task(executor.wait(ref))
        await eventually(lambda: is_alive(place, ref))
        await relay.cut()
        await eventually(lambda: has_ended(place, ref))
        assert not waiting.done()
        await relay.start()
        assert (await asyncio.wait_for(waiting, 20)).exit_code == 6
        await executor.stop(ref)


async def test_without_an_engine_the_executor_opens_and_says_what_is_wrong(place: DockerPlace, tmp_path: Path) -> None:
    place.config = replace(place.config, host=f"unix://{tmp_path}/none.sock")
    async with place.open() as executor:
        with pytest.raises(UnreachableError, match="does not answer"):
            await executor.start(place.job("sys.exit(0)"))
        with pytest.raises(UnreachableError):
            await executor.running()
        (finding,) = await executor.check()
        assert not finding.ok
        assert "systemctl start docker" in finding.fix


async def test_threads_and_files_stay_as_many_while_many_jobs_are_waited_for(place: DockerPlace) -> None:
    async with place.open() as executor:
        ref = await executor.start(place.job("time.sleep(1000)"))
        first = asyncio.create_task(executor.wait(ref))
        await eventually(lambda: is_alive(place, ref))
        await asyncio.gather(*(executor.running() for _ in range(20)))
        before = threading.active_count(), open_files()
        more = [asyncio.create_task(executor.wait(ref)) for _ in range(100)]
        await asyncio.gather(*(executor.running() for _ in range(20)))
        after = threading.active_count(), open_files()
        assert after[0] <= before[0]
        assert after[1] <= before[1] + 8
        await executor.stop(ref)
        assert {end.cause for end in await asyncio.gather(first, *more)} <= {EndCause.LOST}


async def is_alive(place: DockerPlace, ref: object) -> bool:
    return bool(await place.processes(ref))  # type: ignore[arg-type]


async def has_ended(place: DockerPlace, ref: object) -> bool:
    return not await place.processes(ref)  # type: ignore[arg-type]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
