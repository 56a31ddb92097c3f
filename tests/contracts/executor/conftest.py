"""Opens every executor that the behaviour suite runs over."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import builder
from plugins.executors.local import LocalConfig, LocalExecutor
from scalemesh.values import BuildJob
from tests.contracts.executor.stand_in import make_entry, make_job

Opener = Callable[[], AbstractAsyncContextManager[LocalExecutor]]


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


@pytest.fixture
def open_executor(tmp_path: Path, work_dir: Path) -> Opener:
    """Opens the executor; twice in one test means: the daemon was restarted."""
    entry = make_entry(tmp_path / "entry", Path(builder.__file__).parent)
    config = LocalConfig(work_dir=work_dir)

    @asynccontextmanager
    async def opened() -> AsyncIterator[LocalExecutor]:
        async with LocalExecutor.open(config, entry=entry, grace_s=0) as executor:
            yield executor

    return opened


@pytest.fixture
async def executor(open_executor: Opener) -> AsyncIterator[LocalExecutor]:
    async with open_executor() as opened:
        yield opened
        for ref in await opened.running():
            await opened.stop(ref)


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., BuildJob]:
    """Makes jobs: ``job(program, deployment=..., attempt=..., within=...)``."""
    folder = tmp_path / "sockets"
    folder.mkdir()
    folder.chmod(0o711)

    def make(program: str, **words: Any) -> BuildJob:
        return make_job(program, folder / "builds.sock", **words)

    return make
