"""Where the behaviour suite of executors runs: one module a kind, each with a ``Place``."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol

from scalemesh.ports import Executor
from scalemesh.values import BuildJob, JobRef, Limits
from tests.contracts.executor.processes import eventually

#: A module here of each name has ``open_place(tmp_path)``; it skips (under CI: fails) where its service is not there.
KINDS: Final = ("local", "docker", "kubernetes", "ecs")


class Place(Protocol):
    """One place of jobs, that of this test alone: another test's jobs are not seen here."""

    #: Limits that the place itself holds a job to, and tells: of "memory", "pids".
    holds: frozenset[str]
    stop_s: float  #: within which a stop has ended the job's processes

    def open(self) -> AbstractAsyncContextManager[Executor]:
        """An executor on it; once more means: the daemon was restarted."""

    def job(
        self, program: str, *, deployment: str = "dpl_one", attempt: int = 1, within: Limits | None = None
    ) -> BuildJob:
        """A job that runs *program* (Python; os, subprocess, sys and time are there) instead of the builder."""

    async def processes(self, ref: JobRef) -> list[int]:
        """The host's pids of the job's processes, the program among them; empty before it begins and after its end."""

    async def vanish(self, ref: JobRef) -> None:
        """Let somebody else end and remove the job behind the executor's back."""

    async def leftovers(self) -> list[str]:
        """Names of all that exists of our jobs: containers, volumes, secrets, folders, control groups."""


OpenPlace = Callable[[Path], AbstractAsyncContextManager[Place]]


def opener(kind: str) -> OpenPlace:
    """How to open a place of *kind* below a folder of the test's own."""
    found: OpenPlace = import_module(f"{__name__}.{kind}").open_place
    return found


async def let_go(place: Place, ref: JobRef) -> None:
    """Tell a job to end that waits for it (``stand_in.TOLD``), once it has begun."""
    await eventually(lambda: _tell(place, ref))


async def has_ended(place: Place, ref: JobRef) -> bool:
    return not await place.processes(ref)


async def _tell(place: Place, ref: JobRef) -> bool:
    is_told = False
    for pid in await place.processes(ref):
        with suppress(OSError):  # not each of them sees the job's files, and each may end
            Path(f"/proc/{pid}/root/work/src/go").touch()
            is_told = True
    return is_told
