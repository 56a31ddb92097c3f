"""The process that becomes a job: it leaves everything of the machine behind, step by step, and then execs.

It runs no code of a user's before the last step, and the last step comes only after the supervisor said that
the control group holds it and the network's routes stand. Stdlib only.
"""

import os
import resource
import signal
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from plugins.executors.local import kernel, network, seccomp
from plugins.executors.local.sandbox import STAGE, Bind, outer_command

_OPEN_FILES: Final = 65536
_NICE: Final = 5


@dataclass(frozen=True, slots=True)
class Ends:
    """The holder's ends of its pipes."""

    steps_in: int  #: one byte from the supervisor for each step that it took
    steps_out: int  #: one byte to it for each of ours; end of file: the exec was done
    output: int  #: what the builder itself prints
    token: int


def become_job(spec: dict[str, Any], ends: Ends) -> NoReturn:
    """Turn this (forked) process into the job that *spec* describes; never returns."""
    try:
        _wait(ends)  # the control group holds us
        kernel.die_with_parent(signal.SIGKILL)
        command = _prepared(spec, ends)
        _limit_ourselves(spec)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(ends.output, 1)
        os.dup2(ends.output, 2)
        os.set_inheritable(ends.token, True)
        for name in ("SIGPIPE", "SIGTERM", "SIGINT"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        environment = spec["env"] | {"SCALEMESH_TOKEN_FD": str(ends.token)}
        os.execve(command[0], command, environment)  # noqa: S606 - this process is to become the job
    except BaseException as error:  # noqa: BLE001 - the supervisor tells it; nothing else can be done here
        with suppress(OSError):
            os.write(ends.steps_out, f"!{type(error).__name__}: {error}".encode())
    os._exit(127)


def _prepared(spec: dict[str, Any], ends: Ends) -> list[str]:
    command: list[str] = spec["command"]
    if spec["sandbox"] == "off":
        os.chdir(spec["work"])
        return command
    binds, bwrap = [Bind.of(bind) for bind in spec["binds"]], spec["bwrap"]
    if spec["uid"] is not None:
        named, binds = binds, _stage(binds)
        bwrap = _staged(bwrap, named, binds)
        _drop_to(spec["uid"])
    has_own = spec["network"] == "proxy"
    if not has_own:
        _wait_for_network(spec, ends)
    return outer_command(bwrap, binds, spec["links"], own_network=has_own, filter_fd=_filter()) + command


def _filter() -> int | None:
    program = seccomp.program()
    if not program:
        return None
    fd = os.memfd_create("filter", 0)  # bubblewrap reads and closes it
    os.write(fd, program)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _stage(binds: list[Bind]) -> list[Bind]:
    """As root: bind everything under one folder that the build's user may enter, seen by this job alone."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    opened = [(os.open(bind.source, os.O_PATH | os.O_CLOEXEC), bind) for bind in binds]  # before /mnt is covered
    flags = kernel.MS_NOSUID
    kernel.mount("scalemesh", STAGE, "tmpfs", flags, "mode=0711,size=1m")
    network.make_tun(STAGE)
    staged = []
    for number, (fd, bind) in enumerate(opened):
        place = f"{STAGE}/{number}"
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            Path(place).mkdir()
        else:
            Path(place).touch()
        kernel.mount(f"/proc/self/fd/{fd}", place, "", kernel.MS_BIND | kernel.MS_REC)
        staged.append(Bind(place, bind.target, bind.writable))
        os.close(fd)
    return staged


def _staged(program: str, named: list[Bind], staged: list[Bind]) -> str:
    """Where *program* is found by a user who may not enter the folders of root that lead to it."""
    for before, after in zip(named, staged, strict=True):
        if program == before.source or program.startswith(f"{before.source}/"):
            return after.source + program.removeprefix(before.source)
    return program


def _drop_to(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    kernel.become_dumpable()  # the helper of our network runs as the same user and opens our namespaces
    kernel.die_with_parent(signal.SIGKILL)  # a change of user had cleared it


def _wait_for_network(spec: dict[str, Any], ends: Ends) -> None:
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
    os.write(ends.steps_out, b"u")
    _wait(ends)  # our user is mapped and the helper has made the interface
    kernel.die_with_parent(signal.SIGKILL)
    network.forbid(spec["forbid"], spec["allow"])


def _limit_ourselves(spec: dict[str, Any]) -> None:
    limits = spec["limits"]
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, limits["disk_bytes"])
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES)
    if spec["cgroup"] is None:
        # Never RLIMIT_AS: Node reserves far more than it uses. Twice, since some of the data is never touched;
        # what is really used is watched.
        _lower(resource.RLIMIT_DATA, 2 * limits["memory_bytes"])
    with suppress(OSError):
        os.nice(_NICE)
    kernel.idle_io()


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (most, most))


def _wait(ends: Ends) -> None:
    if not os.read(ends.steps_in, 1):
        os._exit(127)  # the supervisor is gone, and so are we
