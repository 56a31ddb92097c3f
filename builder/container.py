"""User commands where the job is a container, which is the only sandbox there is: no namespaces can be made in it.

Two things keep them from the builder's token and nonce:

- Where the builder is root (an image that may start so), commands run as a second user, without any capability. It
  needs CHOWN, DAC_OVERRIDE, KILL, SETGID, SETPCAP and SETUID of root's own.
- Else they run as the builder's own user, and the builder is not dumpable: the kernel then shows neither its memory nor
  its environment nor its open files to others of that user. They can end the builder, which ends the build.

Either way nothing of a command is alive once it has ended: everything in the container is killed, but the builder.
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


def enter() -> None:
    """Become a process that others of our user cannot look into. Before anything secret is read.

    Raises:
        GivenUp: this is no container, where others than the build's own would be killed; or the kernel refused.
    """
    if os.getpid() != 1 and not (os.getppid() == 1 and _first_process() in _INITS):
        raise GivenUp("SCALEMESH_SANDBOX=container is for the first process of a container alone")
    if ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise GivenUp("the kernel does not let the builder hide itself from other processes of its user")


class Container:
    """Holds user commands by their user."""

    def __init__(self, work: Path) -> None:
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
        """Kill all of the container but us and its first process, in one call: none can make another meanwhile."""
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)


def _first_process() -> str:
    with suppress(OSError):
        return Path("/proc/1/comm").read_text().strip()
    return ""
