"""Build jobs as processes of this machine, each with a supervisor of its own that outlives the daemon."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from weakref import WeakValueDictionary

import builder
from plugins.executors.local import findings
from plugins.executors.local.cgroups import JobGroup
from plugins.executors.local.config import LocalConfig
from plugins.executors.local.description import Describer
from plugins.executors.local.jobs import JobFolder, empty
from plugins.executors.local.launch import end_supervisor, run_supervisor
from plugins.executors.local.limits import GRACE_S
from plugins.executors.local.machine import Machine, look_around
from plugins.executors.local.processes import ended, kill_by_argument, kill_quietly
from plugins.executors.local.staging import forget_others, stage_builder
from plugins.executors.local.turns import in_turn
from scalemesh.errors import RefusedError, ScaleMeshError, UnreachableError
from scalemesh.ports import Executor, Finding
from scalemesh.values import BuildEnd, BuildJob, DeploymentId, EndCause, JobRef, Network

_PROBE_S: Final = 9.0
_SETTLE_S: Final = 5.0
_TURN_S: Final = 3.0  #: for another process to let go of the jobs; a check that runs beside us takes less


class LocalExecutor:
    """Runs each build in two sandboxes on this machine. See ``ports.Executor`` for the contract."""

    Config = LocalConfig
    uses_this_machine: ClassVar[bool] = True

    def __init__(self, config: LocalConfig, machine: Machine, describer: Describer, jobs: Path) -> None:
        self._config = config
        self._machine = machine
        self._describer = describer
        self._jobs = jobs
        self._trash = jobs / ".trash"
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._deleting: set[asyncio.Task[None]] = set()
        self._serves = asyncio.Event()
        self._proving = asyncio.Lock()
        self._is_proven = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls, config: LocalConfig, *, entry: Path | None = None, grace_s: float = GRACE_S
    ) -> AsyncIterator[Self]:
        """Look around, yield, clean up; running jobs go on.

        Several processes may have the same ``work_dir`` open. One of them serves it: it alone sweeps and
        starts jobs. The others (``scalemesh check``) leave all that as it is.

        *entry*: a folder for Python to run instead of the builder. *grace_s*: how long a builder may go on
        after its time limit, which it keeps itself.
        """
        jobs, machine, code = await asyncio.to_thread(_get_ready, config, entry)
        state = jobs / ".state"
        describer = Describer(
            config=config,
            machine=machine,
            code=code,
            etc=state / "etc",
            grace_s=grace_s,
        )
        executor = cls(config, machine, describer, jobs)
        async with AsyncExitStack() as opened:
            opened.push_async_callback(executor._close)
            await opened.enter_async_context(in_turn(state / "serving.lock", executor._serve))
            yield executor

    @asynccontextmanager
    async def _serve(self) -> AsyncIterator[None]:
        await self._sweep()
        self._serves.set()
        try:
            yield
        finally:
            self._serves.clear()

    async def start(self, job: BuildJob) -> JobRef:
        """See the port."""
        await self._wait_for_turn()
        async with self._locked(job.deployment):
            folder = self._folder(job.deployment)
            known = await self._settled(folder)
            if known is not None and known["attempt"] == job.attempt:
                return _ref(job.deployment, known)
            if known is not None:
                await self._end_and_forget(folder, known)
            await self._prove()
            self._refuse_unreachable_socket(job.socket)
            return await self._launch(job, folder)

    async def wait(self, ref: JobRef) -> BuildEnd:
        """See the port."""
        folder = self._folder(ref.deployment)
        known = folder.job()
        if known is None or known["attempt"] != ref.attempt:
            return BuildEnd(cause=EndCause.LOST, detail="the job is not known here")
        if folder.end() is None:
            await ended(known["pid"], known["start"])
        end = folder.end()
        if end is None:
            return BuildEnd(cause=EndCause.LOST, detail="the job's supervisor vanished")
        return BuildEnd(
            cause=EndCause(end["cause"]),
            exit_code=end["exit_code"],
            peak_memory_bytes=end["peak_memory_bytes"],
            peak_pids=end["peak_pids"],
            detail=end["detail"],
        )

    async def stop(self, ref: JobRef) -> None:
        """See the port."""
        async with self._locked(ref.deployment):
            folder = self._folder(ref.deployment)
            known = folder.job()
            if known is not None and known["attempt"] == ref.attempt:
                await self._end_and_forget(folder, known)

    async def running(self) -> Sequence[JobRef]:
        """See the port."""
        found = []
        for folder in self._folders():
            known = folder.job()
            if known is not None:
                found.append(_ref(DeploymentId(folder.path.name), known))
        return found

    async def check(self) -> Sequence[Finding]:
        """Run a tiny job in the sandbox and tell what it saw."""
        async with self._proving:
            return await self._look()

    async def _look(self) -> Sequence[Finding]:
        if self._machine.lacks or self._config.sandbox == "off":
            return findings.tell(self._config, self._machine, None)
        seen, failure = await self._probe()
        found = findings.tell(self._config, self._machine, seen, failure)
        self._is_proven = all(finding.ok for finding in found)
        return found

    def _folder(self, deployment: str) -> JobFolder:
        if "/" in deployment or deployment in {"", ".", ".."}:
            raise RefusedError(f"{deployment!r} is no id of a deployment")
        return JobFolder(self._jobs / deployment)

    def _folders(self) -> list[JobFolder]:
        return [JobFolder(path) for path in self._jobs.iterdir() if not path.name.startswith(".")]

    async def _wait_for_turn(self) -> None:
        try:
            async with asyncio.timeout(_TURN_S):
                await self._serves.wait()
        except TimeoutError as error:
            raise UnreachableError("another process runs the builds here", why=f"it holds {self._jobs}") from error

    def _locked(self, deployment: str) -> asyncio.Lock:
        return self._locks.setdefault(deployment, asyncio.Lock())

    async def _settled(self, folder: JobFolder) -> dict[str, Any] | None:
        """What is known of the folder's job, once no supervisor is still beginning; leftovers are removed."""
        try:
            async with asyncio.timeout(_SETTLE_S):
                while (known := folder.job()) is None and folder.exists():
                    held = folder.lock()
                    if held is not None:  # made by a daemon that was killed before its supervisor began
                        self._forget(folder)  # while we hold it: one that begins late finds it gone
                        os.close(held)
                        return None
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            raise UnreachableError("a supervisor holds the job's folder and says nothing") from error
        return known

    async def _prove(self) -> None:
        """Raise RefusedError unless a job was seen to run in the sandbox as it should."""
        if not self._needs_proof():
            return
        async with self._proving:  # the check of the daemon's start may be under way: what it finds will do
            found = await self._look() if self._needs_proof() else []
        bad = [finding for finding in found if not finding.ok]
        if bad:
            raise RefusedError(
                "builds are refused: the sandbox cannot be had on this machine",
                why="; ".join(finding.what for finding in bad),
                fix="; ".join(finding.fix for finding in bad if finding.fix),
            )

    def _needs_proof(self) -> bool:
        return not self._is_proven and self._config.sandbox != "off"

    def _refuse_unreachable_socket(self, socket: str) -> None:
        """As root, the build's user must be able to call the daemon."""
        folder = Path(socket).parent
        if not folder.is_dir():
            raise UnreachableError("the daemon's socket for builds is not there", why=str(folder))
        is_other_user = self._machine.is_root and self._config.sandbox != "off"
        if is_other_user and not folder.stat().st_mode & 0o001:
            raise RefusedError(
                "builds cannot reach the daemon",
                why=f"the user of builds ({self._config.build_uid}) may not enter {folder}",
                fix=f"chmod 0711 {folder}; the folder above it keeps others out",
            )

    async def _launch(self, job: BuildJob, folder: JobFolder, run: Sequence[str] | None = None) -> JobRef:
        folder.path.mkdir(mode=0o700, exist_ok=True)
        spec = self._describer.describe(job, folder, self._group(folder), run)
        try:
            answer = await run_supervisor(self._machine.python, spec)
        except (OSError, TimeoutError) as error:
            raise UnreachableError("no process could be started for the build", why=str(error)) from error
        if "pid" in answer:
            return _ref(job.deployment, answer | {"attempt": job.attempt})
        if "busy" in answer:
            known = await self._settled(folder)
            if known is not None and known["attempt"] == job.attempt:
                return _ref(job.deployment, known)
            raise UnreachableError("another attempt of this deployment is still being started")
        self._forget(folder)
        why = answer.get("why", "")
        raise RefusedError(answer["what"], why=why, fix=findings.fix_for(why))

    def _group(self, folder: JobFolder) -> JobGroup | None:
        if self._machine.cgroups is None:
            return None
        return self._machine.cgroups.group(self._group_prefix() + folder.path.name)

    def _group_prefix(self) -> str:
        """Ours alone: another daemon on this machine may have the same deployment."""
        return f"scalemesh-{sha256(str(self._jobs).encode()).hexdigest()[:8]}-"

    async def _end_and_forget(self, folder: JobFolder, known: dict[str, Any]) -> None:
        await end_supervisor(known["pid"], known["start"])
        await asyncio.to_thread(self._clear_after_kill, folder, known)
        self._forget(folder)

    def _clear_after_kill(self, folder: JobFolder, known: dict[str, Any]) -> None:
        """End what a supervisor leaves behind that was killed."""
        helper = folder.helper()
        if helper is not None:
            kill_quietly(helper["pid"], helper["start"], signal.SIGKILL)
        if known["cgroup"]:
            JobGroup(**known["cgroup"]).remove()
        elif folder.end() is None and self._machine.bwrap:
            kill_by_argument(self._machine.bwrap, str(folder.work))

    def _forget(self, folder: JobFolder) -> None:
        place = folder.discard(self._trash)
        if place is not None:
            self._delete_later(place)

    async def _probe(self) -> tuple[dict[str, Any] | None, str]:
        """What the tiny job saw, or why it saw nothing."""
        job = findings.probe_job(self._describer.etc, Network(self._config.build_network))
        folder = self._folder(job.deployment)
        try:
            ref = await self._launch(job, folder, ("-c", findings.PROBE))
            async with asyncio.timeout(_PROBE_S):
                end = await self.wait(ref)
            return folder.report("probe.json"), end.detail
        except TimeoutError:
            return None, f"it did not end within {_PROBE_S:.0f} s"
        except ScaleMeshError as error:
            return None, error.why or error.what
        finally:
            known = folder.job()
            if known is not None:
                await self._end_and_forget(folder, known)

    async def _sweep(self) -> None:
        """Remove what a daemon that was killed left half made."""
        for folder in self._folders():
            if folder.job() is None and folder.is_old() and (held := folder.lock()) is not None:
                self._forget(folder)
                os.close(held)
        for folder in map(JobFolder, self._jobs.glob(f"{findings.PROBE_PREFIX}*")):
            known = folder.job()
            if known is not None and folder.is_old():
                await self._end_and_forget(folder, known)
        await asyncio.to_thread(self._sweep_groups)
        if not await self.running():
            await asyncio.to_thread(forget_others, self._jobs / ".state" / "builder", self._describer.code)
        for path in self._trash.iterdir() if self._trash.is_dir() else ():
            self._delete_later(path)

    def _sweep_groups(self) -> None:
        if self._machine.cgroups is None:
            return
        prefix = self._group_prefix()
        for name in self._machine.cgroups.groups(prefix):
            if not (self._jobs / name.removeprefix(prefix)).exists():
                self._machine.cgroups.group(name).remove()

    def _delete_later(self, path: Path) -> None:
        """A million small files take a while; nobody has to wait for it."""
        task = asyncio.create_task(asyncio.to_thread(empty, path))
        self._deleting.add(task)
        task.add_done_callback(self._deleting.discard)

    async def _close(self) -> None:
        if self._deleting:
            await asyncio.wait(self._deleting)


def _get_ready(config: LocalConfig, entry: Path | None) -> tuple[Path, Machine, Path]:
    """Folders, what the machine has, the builder's code."""
    jobs = config.work_dir.absolute()
    jobs.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = jobs / ".state"
    state.mkdir(mode=0o755, exist_ok=True)
    code = entry or stage_builder(Path(builder.__file__).resolve().parent, state / "builder")
    return jobs, look_around(config, state), code


def _ref(deployment: DeploymentId, known: dict[str, Any]) -> JobRef:
    where = f"{known['pid']}:{known['start']}"
    return JobRef(deployment=deployment, attempt=known["attempt"], where=where)


if TYPE_CHECKING:
    _fits: type[Executor] = LocalExecutor
