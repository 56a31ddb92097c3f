"""An engine that is away: jobs are waited for, starts are tried later, and nothing of ours piles up."""

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from plugins.executors.docker import DockerExecutor
from scalemesh.errors import UnreachableError
from scalemesh.values import DeploymentId, EndCause, JobRef
from tests.contracts.executor.places import has_ended, let_go
from tests.contracts.executor.places.docker import DockerPlace
from tests.contracts.executor.processes import eventually
from tests.contracts.executor.stand_in import TOLD
from tests.rigs import tls
from tests.rigs.docker import docker

pytestmark = pytest.mark.timeout(300)
ENGINE = "/var/run/docker.sock"


@dataclass
class Answers:
    """Of the engine: what is found in them is exchanged for something of the same length."""

    found: bytes = b""
    instead: bytes = b""

    def changed(self, data: bytes) -> bytes:
        return data.replace(self.found, self.instead) if self.found else data


class Relay:
    """Stands before the engine's socket, and can be cut, or fall silent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_mute = False  #: takes connections and answers nothing
        self.answers = Answers()
        self._server: asyncio.Server | None = None
        self._carried: set[asyncio.Task[None]] = set()
        self._streams: set[asyncio.Task[None]] = set()
        self._silent: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, str(self.path))

    async def start_tls(self, address: str, context: ssl.SSLContext) -> int:
        """Listen on TCP with TLS instead; returns the port."""
        self._server = await asyncio.start_server(self._accept, address, 0, ssl=context)
        return int(self._server.sockets[0].getsockname()[1])

    async def lose_streams(self) -> None:
        """Carry no more of the streams of events that are open: neither end hears that they are dead."""

        async def is_open() -> bool:  # between two there is none for a moment
            return bool(self._streams)

        await eventually(is_open)
        for task in self._streams:
            task.cancel()

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        self.path.unlink(missing_ok=True)
        for task in self._carried:
            task.cancel()
        await asyncio.gather(*self._carried, return_exceptions=True)
        for writer in self._silent:
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._carried.add(task)
        task.add_done_callback(self._carried.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_mute:
            self._silent.append(writer)
            return
        far_reader, far_writer = await asyncio.open_unix_connection(ENGINE)
        task = asyncio.current_task()
        assert task is not None
        try:
            first = await reader.read(65536)
            if b"/events?" in first:
                self._streams.add(task)
            far_writer.write(first)
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer, self.answers))
        finally:
            far_writer.transport.abort()
            if task in self._streams and self._server is not None and self._server.is_serving():
                self._silent.append(writer)
            else:
                writer.transport.abort()
            self._streams.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Answers | None = None) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(answers.changed(data) if answers else data)
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
        ref = await executor.start(place.job(TOLD))
        waiting = asyncio.create_task(executor.wait(ref))
        await eventually(lambda: is_alive(place, ref))
        await relay.cut()
        await let_go(place, ref)
        await eventually(lambda: has_ended(place, ref))
        assert not waiting.done()
        await relay.start()
        assert (await asyncio.wait_for(waiting, 60)).exit_code == 4
        await executor.stop(ref)


async def test_a_stream_of_events_that_died_without_a_word_is_begun_anew(place: DockerPlace, relay: Relay) -> None:
    async with DockerExecutor.open(place.config, renew_s=1) as executor:
        ref = await executor.start(place.job(TOLD))
        waiting = asyncio.create_task(executor.wait(ref))
        await eventually(lambda: is_alive(place, ref))
        await relay.lose_streams()
        await let_go(place, ref)
        assert (await asyncio.wait_for(waiting, 60)).exit_code == 4
        await executor.stop(ref)


async def test_an_engine_that_comes_back_older_is_spoken_to_in_its_own_version(
    place: DockerPlace, relay: Relay
) -> None:
    """Told a version that it does not have, the client is refused by the engine as after a downgrade."""
    version = docker("version", "--format", "{{.Server.APIVersion}}").encode()
    relay.answers = Answers(b'"ApiVersion":"' + version, b'"ApiVersion":"9' + version[1:])
    async with DockerExecutor.open(place.config, renew_s=1) as executor:
        ref = JobRef(deployment=DeploymentId("dpl_one"), attempt=1, where="")
        with pytest.raises(UnreachableError, match="exchanged for another"):
            await executor.stop(ref)
        with pytest.raises(UnreachableError, match="exchanged for another"):
            await executor.running()
        waiting = asyncio.create_task(executor.wait(ref))
        relay.answers.found = b""
        assert (await asyncio.wait_for(waiting, 20)).cause is EndCause.LOST
        await executor.stop(ref)
        ref = await executor.start(place.job("sys.exit(6)"))
        assert (await executor.wait(ref)).exit_code == 6
        await executor.stop(ref)


async def test_what_the_engine_refuses_of_a_stop_is_asked_again(place: DockerPlace, relay: Relay) -> None:
    """A proxy before an engine, which lets only some through, answers so."""
    async with place.open() as executor:
        ref = JobRef(deployment=DeploymentId("dpl_one"), attempt=1, where="")
        relay.answers = Answers(b" 404 Not Found", b" 403 Forbidden")
        with pytest.raises(UnreachableError, match="cannot be removed"):
            await executor.stop(ref)
        relay.answers.found = b""
        await executor.stop(ref)


async def test_events_that_are_no_events_make_nobody_deaf(
    place: DockerPlace, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    """No engine says such; whatever it is that we did not think of, the stream is begun anew."""
    relay.answers = Answers(b'{"status":', b'7 {"stat":')
    async with place.open() as executor:
        ref = await executor.start(place.job("time.sleep(1.5); sys.exit(6)"))
        assert (await asyncio.wait_for(executor.wait(ref), 60)).exit_code == 6
        await executor.stop(ref)
    assert "events could not be read" in caplog.text


@pytest.mark.parametrize("spoke_before", [False, True])
async def test_a_check_of_an_engine_that_says_nothing_ends_in_time(
    place: DockerPlace, relay: Relay, spoke_before: bool
) -> None:
    async with place.open() as executor:
        if spoke_before:
            await executor.running()
        relay.is_mute = True
        began = time.monotonic()
        (finding,) = await executor.check()
        assert time.monotonic() - began < 30
    assert time.monotonic() - began < 40, "the daemon ends all the same"
    assert not finding.ok
    assert "does not answer" in finding.what
    assert "systemctl start docker" in finding.fix


@pytest.mark.parametrize("words", [("stop",), ("kill",), ("kill", "--signal", "TERM"), ("kill", "--signal", "HUP")])
async def test_a_job_that_somebody_ends_is_lost_and_so_tried_again(place: DockerPlace, words: tuple[str, ...]) -> None:
    """So does an engine that stops: it ends its containers in the way of ``docker stop``."""
    async with place.open() as executor:
        ref = await executor.start(place.job("time.sleep(1000)"))
        await eventually(lambda: is_alive(place, ref))
        await asyncio.to_thread(docker, *words, ref.where)
        assert (await asyncio.wait_for(executor.wait(ref), 60)).cause is EndCause.LOST
        await executor.stop(ref)


@pytest.fixture
async def by_tls(place: DockerPlace, tmp_path: Path) -> AsyncIterator[None]:
    """The place's engine is reached by TCP with TLS, and asks for a certificate."""
    pem = tls.certificate(tmp_path, "127.0.0.1")
    context = tls.serving(pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(pem)
    relay = Relay(tmp_path / "unused")
    host = f"tcp://127.0.0.1:{await relay.start_tls('127.0.0.1', context)}"
    place.config = replace(place.config, host=host, tls_ca=pem, tls_cert=pem, tls_key=pem)
    yield
    await relay.cut()


@pytest.mark.usefixtures("by_tls")
async def test_an_engine_elsewhere_runs_jobs_by_tls(place: DockerPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")
    async with place.open() as executor:
        assert not executor.uses_this_machine
        ref = await executor.start(replace(place.job("sys.exit(6)"), url="http://192.0.2.1"))
        assert (await executor.wait(ref)).exit_code == 6
        await executor.stop(ref)
    assert await place.leftovers() == []


@pytest.mark.usefixtures("by_tls")
async def test_an_engine_that_does_not_know_us_is_not_spoken_to(place: DockerPlace) -> None:
    place.config = replace(place.config, tls_cert=None, tls_key=None)
    assert "tls_cert" in await told_of(place)


@pytest.mark.usefixtures("by_tls")
async def test_an_engine_that_we_do_not_know_is_not_spoken_to(place: DockerPlace) -> None:
    place.config = replace(place.config, tls_ca=None)
    assert "tls_ca" in await told_of(place)


async def test_a_certificate_that_is_not_there_is_told(place: DockerPlace) -> None:
    place.config = replace(place.config, host="tcp://127.0.0.1:9", tls_ca=Path("/nowhere/ca.pem"))
    assert "tls_ca" in await told_of(place)


async def told_of(place: DockerPlace) -> str:
    """What a start and a check say is to be done."""
    async with place.open() as executor:
        with pytest.raises(UnreachableError) as told:
            await executor.start(replace(place.job("sys.exit(6)"), url="http://192.0.2.1"))
        (finding,) = await executor.check()
    assert not finding.ok
    assert finding.fix == told.value.fix
    return finding.fix


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


@pytest.mark.timeout(300)
async def test_threads_and_files_stay_few_while_many_jobs_are_waited_for(place: DockerPlace) -> None:
    """How many calls were under way at once before, and so how many connections wait in the pool, is chance."""
    waiting = 100
    async with place.open() as executor:
        ref = await executor.start(place.job("time.sleep(1000)"))
        first = asyncio.create_task(executor.wait(ref))
        await eventually(lambda: is_alive(place, ref))
        before = threading.active_count(), open_files()
        more = [asyncio.create_task(executor.wait(ref)) for _ in range(waiting)]
        await asyncio.gather(*(executor.running() for _ in range(20)))

        async def is_few() -> bool:
            """Each has looked once, and waits for events: nothing is held by each of them."""
            grown = threading.active_count() - before[0], open_files() - before[1]
            return max(grown) <= waiting // 4

        await eventually(is_few, within_s=75)  # a busy engine has been seen to be silent for most of a minute
        await executor.stop(ref)
        assert {end.cause for end in await asyncio.gather(first, *more)} <= {EndCause.LOST}


async def is_alive(place: DockerPlace, ref: object) -> bool:
    return bool(await place.processes(ref))  # type: ignore[arg-type]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
