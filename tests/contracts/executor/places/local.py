"""Jobs as processes of this machine."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import builder
from plugins.executors.local import LocalConfig, LocalExecutor
from scalemesh.values import BuildJob, JobRef, Limits
from tests.contracts.executor.processes import groups_of, kill, processes_of, runs
from tests.contracts.executor.stand_in import make_entry, make_job


class LocalPlace:
    holds = frozenset({"memory", "pids"})
    stop_s = 2.0

    def __init__(self, folder: Path) -> None:
        self._jobs = folder / "jobs"
        self._entry = make_entry(folder / "entry", Path(builder.__file__).parent)
        self._sockets = folder / "sockets"
        self._sockets.mkdir(mode=0o711)

    def open(self) -> AbstractAsyncContextManager[LocalExecutor]:
        return LocalExecutor.open(LocalConfig(work_dir=self._jobs), entry=self._entry, grace_s=0)

    def job(
        self, program: str, *, deployment: str = "dpl_one", attempt: int = 1, within: Limits | None = None
    ) -> BuildJob:
        socket = self._sockets / "builds.sock"
        return make_job(program, socket, deployment=deployment, attempt=attempt, within=within)

    async def processes(self, ref: JobRef) -> list[int]:
        return processes_of(ref) if runs(ref) else []

    async def vanish(self, ref: JobRef) -> None:
        kill(int(ref.where.split(":")[0]))

    async def leftovers(self) -> list[str]:
        folders = [path.name for path in self._jobs.iterdir() if not path.name.startswith(".")]
        return folders + [str(group) for group in groups_of(self._jobs)]


@asynccontextmanager
async def open_place(folder: Path) -> AsyncIterator[LocalPlace]:
    yield LocalPlace(folder)
