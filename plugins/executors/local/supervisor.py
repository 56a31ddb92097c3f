"""One job's own process: starts it, holds its limits, writes down its end. Stdlib only; outlives the daemon.

    python -I -S -c START <root of the package>  with the job's description as JSON on standard input

answers with one JSON line on standard output, ``{"pid", "start"}``, ``{"busy": true}`` when another supervisor
holds the folder, or ``{"what", "why"}``, and goes on in the background. SIGTERM ends the job. SIGKILL does, too:
everything below dies with its parent; only the end is not written then.
"""

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from plugins.executors.local import kernel, network
from plugins.executors.local.cgroups import JobGroup
from plugins.executors.local.holder import Ends, become_job
from plugins.executors.local.jobs import JobFolder, start_time
from plugins.executors.local.limits import Hit, Watch
from plugins.executors.local.measures import tree_use

#: What is imported stays: looking through it again and again for garbage would take a quarter of the start.
START: Final = (
    "import gc, sys; gc.disable(); sys.path.append(sys.argv[1]); "
    "from plugins.executors.local.supervisor import main; gc.enable(); main()"
)
_TICK_S: Final = 0.2
_KEPT_OUTPUT: Final = 8000
_MOST_FILES: Final = 1 << 20


class SetupError(Exception):
    """The job could not be started; says what and why."""


def main() -> None:
    """See the module's docstring."""
    os.closerange(3, _MOST_FILES)  # uvloop lets its ends of our pipes through: held by the build, they never end
    spec = json.load(sys.stdin)
    folder = JobFolder(Path(spec["folder"]))
    try:
        held = folder.lock()
    except FileNotFoundError:  # discarded by a daemon that took us for dead
        held = None
    if held is None:
        sys.stdout.write('{"busy": true}\n')
        return
    sys.stdout.flush()
    if os.fork() != 0:
        os._exit(0)  # nobody waits for us: the daemon may be restarted at any time
    os.setsid()
    Supervisor(spec, folder).run()


class Supervisor:
    """Runs one job from its first process to its written end."""

    def __init__(self, spec: dict[str, Any], folder: JobFolder) -> None:
        self._spec = spec
        self._folder = folder
        self._group = JobGroup(**spec["cgroup"]) if spec["cgroup"] else None
        self._helper: network.Helper | None = None
        self._child = 0
        self._exit_code: int | None = None
        self._output = b""

    def run(self) -> None:
        """Start, watch, clean up, write the end."""
        stop = _stop_pipe()
        kernel.adopt_orphans()
        started = start_time(os.getpid())
        try:
            self._folder.write_job(
                {"attempt": self._spec["attempt"], "pid": os.getpid(), "start": started}
                | {"cgroup": self._spec["cgroup"]}
            )
            output = self._start()
        except (OSError, SetupError, network.NoWayOutError) as error:
            self._clean_up()
            _answer({"what": "the build's sandbox could not be set up", "why": str(error)})
            return
        _answer({"pid": os.getpid(), "start": started})
        end = self._watched(output, stop)
        self._clean_up()
        self._folder.write_end(end | {"attempt": self._spec["attempt"], "detail": self._detail(end)})

    def _start(self) -> int:
        """Set everything up in order; return where the builder's own output is read."""
        self._prepare_folder()
        if self._group is not None:
            limits = self._spec["limits"]
            self._group.create(
                memory_bytes=limits["memory_bytes"], pids=limits["pids"], cpu_weight=limits["cpu_weight"]
            )
        output, says = self._fork_holder()
        try:
            if self._spec["network"] in {"slirp4netns", "pasta"} and self._spec["sandbox"] == "bwrap":
                self._give_network(says)
            said = _read_all(says)
            if said:
                raise SetupError(said.lstrip("!"))
        finally:
            os.close(says)
            os.close(self._steps)
        return output

    def _prepare_folder(self) -> None:
        uid = self._spec["uid"]
        for path in (self._folder.work, *(self._folder.work / name for name in self._spec["folders"])):
            path.mkdir(mode=0o700, exist_ok=True)
            if uid is not None:
                os.chown(path, uid, uid)

    def _fork_holder(self) -> tuple[int, int]:
        steps_in, self._steps = os.pipe()
        says, steps_out = os.pipe()
        output, printed = os.pipe()
        token, secret = os.pipe()
        os.write(secret, self._spec["token"].encode())
        os.close(secret)
        self._child = os.fork()
        if self._child == 0:
            os.close(self._steps)
            os.close(says)
            become_job(self._spec, Ends(steps_in, steps_out, printed, token))
        for fd in (steps_in, steps_out, printed, token):
            os.close(fd)
        if self._group is not None:
            self._group.add(self._child)
        os.write(self._steps, b"g")
        os.set_blocking(output, False)
        return output, says

    def _give_network(self, says: int) -> None:
        said = os.read(says, 4000).decode(errors="replace")
        if said != "u":
            raise SetupError(said.lstrip("!") or "the first process of the sandbox ended at once")
        uid = os.getuid() if self._spec["uid"] is None else self._spec["uid"]
        gid = os.getgid() if self._spec["uid"] is None else self._spec["uid"]
        proc = Path(f"/proc/{self._child}")
        (proc / "setgroups").write_text("deny")
        (proc / "uid_map").write_text(f"0 {uid} 1")
        (proc / "gid_map").write_text(f"0 {gid} 1")
        self._helper = network.start_helper(self._spec["network"], self._spec["helper"], self._child, self._spec["uid"])
        self._folder.note_helper(self._helper.pid)
        os.write(self._steps, b"n")

    def _watched(self, output: int, stop: int) -> dict[str, Any]:
        """Wait for the end, by itself or by a limit; return it."""
        watch = Watch(self._spec, self._folder.work, self._group, self._left_out())
        poller = select.poll()
        child = os.pidfd_open(self._child)
        for fd in (child, output, stop):
            poller.register(fd, select.POLLIN)
        for fd, events in watch.event_fds():
            poller.register(fd, events)
        hit: Hit | None = None
        while hit is None:
            ready = dict(poller.poll(_TICK_S * 1000))
            if output in ready and not self._keep_output(output):
                poller.unregister(output)
            hit = Hit("failed", "stopped") if stop in ready else watch.look(is_event=bool(set(ready) - {output}))
            if hit is None and child in ready:
                break
        self._kill()
        self._keep_output(output)
        return watch.end(hit, self._exit_code)

    def _keep_output(self, output: int) -> bool:
        """Read what the builder printed; False: nothing more will come."""
        with suppress(BlockingIOError):
            while fresh := os.read(output, 65536):
                self._output = (self._output + fresh)[-_KEPT_OUTPUT:]
            return False
        return True

    def _detail(self, end: dict[str, Any]) -> str:
        printed = self._output.decode(errors="replace").strip()
        return str(end["detail"]) or (printed if end["cause"] == "failed" else "")

    def _kill(self) -> None:
        """End every process of the job. Orphans become our children, so none can hide."""
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            self._reap()
            left = tree_use(os.getpid(), self._left_out()).pids
            if not left:
                return
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.003)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None or found.si_pid in self._left_out():
                    return
                _, status = os.waitpid(found.si_pid, 0)
                if found.si_pid == self._child:
                    self._exit_code = os.waitstatus_to_exitcode(status)

    def _left_out(self) -> set[int]:
        return {self._helper.pid} if self._helper is not None else set()

    def _clean_up(self) -> None:
        if self._helper is not None:
            self._helper.close()
        if self._child:
            self._kill()
        if self._group is not None:
            self._group.remove()


def _stop_pipe() -> int:
    """A descriptor that becomes readable when somebody asks us to end."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return reader


def _answer(facts: dict[str, Any]) -> None:
    """Tell the daemon, and let go of everything that ties us to it."""
    with suppress(OSError):
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)


def _read_all(fd: int) -> str:
    parts = []
    while part := os.read(fd, 4096):
        parts.append(part)
    return b"".join(parts).decode(errors="replace")
