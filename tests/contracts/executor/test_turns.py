"""Several processes with the same jobs: one serves them, the others look and touch nothing, the next one follows."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

import builder
from plugins.executors.local import LocalConfig, LocalExecutor
from plugins.executors.local import executor as local
from scalemesh.errors import UnreachableError
from scalemesh.values import BuildJob, EndCause
from tests.contracts.executor.processes import until
from tests.contracts.executor.stand_in import make_entry

Job = Callable[..., BuildJob]

#: waits until the test says so, then ends well if the code that it began with is still there
GOES_ON = """
    while not os.path.exists("/work/src/go"):
        time.sleep(0.01)
    from builder import hosts
    sys.exit(0)
"""


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """These checks succeed, however slow the machine is."""
    monkeypatch.setattr(local, "_PROBE_S", 60.0)


@pytest.fixture
def config(work_dir: Path) -> LocalConfig:
    return LocalConfig(work_dir=work_dir, network="proxy")


@pytest.fixture
def entry(work_dir: Path) -> Path:
    """The builder of an older daemon, where that one staged it."""
    builders = work_dir / ".state" / "builder"
    builders.mkdir(parents=True)
    return make_entry(builders / "older", Path(builder.__file__).parent)


async def test_a_check_beside_a_daemon_takes_nothing_from_it(
    config: LocalConfig, entry: Path, job: Job, work_dir: Path
) -> None:
    async with LocalExecutor.open(config, entry=entry) as daemon:
        ref = await daemon.start(job(GOES_ON))
        await daemon.stop(await daemon.start(job("pass", deployment="dpl_two")))
        async with LocalExecutor.open(config) as beside:
            assert all(finding.ok for finding in await beside.check())
        go(work_dir, "dpl_one")
        assert (await daemon.wait(ref)).cause is EndCause.OK
        await daemon.stop(ref)


async def test_the_builder_of_an_idle_daemon_stays(config: LocalConfig, entry: Path, job: Job) -> None:
    async with LocalExecutor.open(config, entry=entry) as daemon:
        async with LocalExecutor.open(config) as beside:
            await beside.check()
        ref = await daemon.start(job("sys.exit(0)"))
        assert (await daemon.wait(ref)).cause is EndCause.OK
        await daemon.stop(ref)


async def test_half_made_folders_are_left_to_the_process_that_serves(config: LocalConfig, work_dir: Path) -> None:
    async with LocalExecutor.open(config):
        half = work_dir / ".trash" / "half"
        half.mkdir(parents=True)
        async with LocalExecutor.open(config):
            pass
        assert half.exists()
    async with LocalExecutor.open(config):
        await until(lambda: not half.exists())


async def test_jobs_are_started_by_one_process_at_a_time(config: LocalConfig, entry: Path, job: Job) -> None:
    async with LocalExecutor.open(config, entry=entry), LocalExecutor.open(config, entry=entry) as beside:
        with pytest.raises(UnreachableError, match="another process runs the builds"):
            await beside.start(job("pass"))
        assert list(await beside.running()) == []


async def test_a_daemon_that_starts_during_a_check_serves_once_that_is_over(
    config: LocalConfig, entry: Path, job: Job, work_dir: Path
) -> None:
    async with LocalExecutor.open(config, entry=entry) as former:
        ref = await former.start(job(GOES_ON))
    checking = LocalExecutor.open(config)
    await checking.__aenter__()
    async with LocalExecutor.open(config, entry=entry) as daemon:
        starting = asyncio.create_task(daemon.start(job("sys.exit(0)", deployment="dpl_two")))
        await checking.__aexit__(None, None, None)
        assert (await daemon.wait(await starting)).cause is EndCause.OK
        go(work_dir, "dpl_one")
        assert (await daemon.wait(ref)).cause is EndCause.OK
        for each in await daemon.running():
            await daemon.stop(each)


def go(work_dir: Path, deployment: str) -> None:
    (work_dir / deployment / "work" / "src" / "go").touch()
