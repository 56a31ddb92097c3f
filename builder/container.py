"""User commands where the job is a container, which is the only sandbox there is: no namespaces can be made in it.

Two things keep them from the builder's token and nonce:

- Where the builder is root (an image that may start so), commands run as a second user, without any capability.
- Else they run as the builder's own user, and the builder is not dumpable: the kernel then shows neither its memory nor
  its environment nor its open files to others of that user. They can end the builder, which ends the build.

Either way nothing of a command is alive once it has ended: all processes of its user are killed, but the builder.
"""

import ctypes
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from builder.errors import GivenUp

SECOND_USER: Final = 1001  #: of user commands, where the builder is root; the image knows it as "commands"
_PR_SET_DUMPABLE: Final = 4
_INITS: Final = frozenset({"docker-init", "tini", "catatonit"})  #: what engines put before the first program
_OWN_FOLDERS: Final = ("src", "home", "tmp")


def is_container(environ: Mapping[str, str]) -> bool:
    return environ.get("SCALEMESH_SANDBOX") == "container"


def hide() -> None:
    """Become a process that others of our user cannot look into. Before anything secret is read.

    Raises:
        OSError: the kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the builder cannot be hidden from other processes of its user")


class Container:
    """Holds user commands by their user."""

    def __init__(self, work: Path) -> None:
        """Raises GivenUp where we are in no container: there, others than user commands would be killed."""
        if os.getpid() != 1 and not (os.getppid() == 1 and _first_process() in _INITS):
            raise GivenUp("SCALEMESH_SANDBOX=container is for the first process of a container alone")
        self._work = work
        self._is_root = os.geteuid() == 0

    def command(self, argv: Sequence[str], *, cwd: str) -> list[str]:
        """The words that run *argv*."""
        if not self._is_root:
            return list(argv)
        user = [f"--reuid={SECOND_USER}", f"--regid={SECOND_USER}", "--clear-groups"]
        return ["setpriv", *user, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--", *argv]

    def hand_over(self) -> None:
        """Give the source and the home folder to the user of the commands."""
        if not self._is_root:
            return
        for name in _OWN_FOLDERS:
            top = self._work / name
            os.chown(top, SECOND_USER, SECOND_USER)
            for _, folders, files, at in os.fwalk(top, follow_symlinks=False):
                for each in (*folders, *files):
                    os.chown(each, SECOND_USER, SECOND_USER, dir_fd=at, follow_symlinks=False)

    def end_all(self) -> None:
        """Kill every process of the commands' user at once, so that none can make another meanwhile."""
        if not self._is_root:
            _kill_others()
            return
        pid = os.fork()
        if pid == 0:
            try:
                os.setresgid(SECOND_USER, SECOND_USER, SECOND_USER)
                os.setresuid(SECOND_USER, SECOND_USER, SECOND_USER)
                _kill_others()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)


def _first_process() -> str:
    with suppress(OSError):
        return Path("/proc/1/comm").read_text().strip()
    return ""


def _kill_others() -> None:
    """All that this user may signal, but for us and the first process of the container."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(-1, signal.SIGKILL)
