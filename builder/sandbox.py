"""The inner sandbox: wraps every user command so that neither the builder nor its token is in reach.

What a user command sees: the system and Node read-only, ``src`` and ``home`` of the work directory, a /tmp of
its own (in the work directory too, so that it counts as disk and not as memory). What it does not: the builder's
process (own PID namespace), its spool, the daemon's sockets, the token. It can make no user namespace of its own.

    command = InnerSandbox().command(["npm", "ci"], cwd=src)
    subprocess.Popen(command, env=<small and explicit>, stdin=subprocess.DEVNULL)

The environment given to Popen is the command's own: bubblewrap's first process has it too, and it is the only
one that /proc/1/environ shows. Killing the started process (SIGKILL) kills all that the command started.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_SHARED_MEMORY: Final = 64 << 20
_VISIBLE: Final = ("src", "home")


class InnerSandbox:
    """Knows, from the environment that the executor gave the builder, how user commands are wrapped."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._is_off = environ.get("SCALEMESH_SANDBOX") == "off"
        self._bwrap = environ.get("SCALEMESH_BWRAP", "/usr/bin/bwrap")
        self._sees = [path for path in environ.get("SCALEMESH_SEES", "/usr").split(":") if path]
        self._work = Path(environ.get("SCALEMESH_WORK", "/work"))
        self._nproc = environ.get("SCALEMESH_NPROC", "")

    def command(self, argv: Sequence[str], *, cwd: str | Path) -> list[str]:
        """The words that run *argv* in *cwd* (below ``src`` or ``home``); *argv* itself without a sandbox.

        With no sandbox the caller has to set the working directory itself; with one it may, and nothing changes.
        """
        if self._is_off:
            return list(argv)
        words = [self._bwrap, "--unshare-user", "--disable-userns", "--unshare-pid", "--unshare-ipc"]
        words += ["--unshare-uts", "--unshare-cgroup-try", "--die-with-parent", "--new-session"]
        words += ["--cap-drop", "ALL", "--uid", "1000", "--gid", "1000", "--hostname", "build"]
        words += self._files()
        words += ["--proc", "/proc", "--dev", "/dev"]
        words += ["--size", str(_SHARED_MEMORY), "--tmpfs", "/dev/shm"]  # noqa: S108 - inside the sandbox
        words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(cwd), "--"]
        return [*words, *self._limited(argv)]

    def end_all(self) -> None:
        """Nothing: what a command started dies with its namespace."""

    def _files(self) -> list[str]:
        words = ["--bind", str(self._work / "tmp"), "/tmp"]  # noqa: S108 - inside the sandbox; first, for what lies in it
        for path in self._sees:
            words += ["--ro-bind", path, path]
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
            link = Path("/", name)
            if link.is_symlink():
                words += ["--symlink", str(link.readlink()), str(link)]
        for name in _VISIBLE:
            words += ["--bind", str(self._work / name), str(self._work / name)]
        return words

    def _limited(self, argv: Sequence[str]) -> list[str]:
        """Without a control group, count processes in this user namespace: the innermost one, so only ours."""
        return ["prlimit", f"--nproc={self._nproc}", "--", *argv] if self._nproc else list(argv)
