"""The folder of one job: what is in it, who holds it, how it ended, and how it goes away. Stdlib only.

<work_dir>/<deployment>/lock      locked (flock) by the supervisor as long as it lives
<work_dir>/<deployment>/job.json  attempt, pid, start time of the supervisor, names of the control group
<work_dir>/<deployment>/end.json  how it ended, once it has
<work_dir>/<deployment>/work/     /work of the build: src, home, tmp, spool
"""

import fcntl
import json
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

OLD_S: Final = 60.0
WORK_FOLDERS: Final = ("src", "home", "tmp", "spool")


class JobFolder:
    """One job's folder. Reading one that is not there gives None, never an error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.work = path / "work"

    def exists(self) -> bool:
        """Whether it is there."""
        return self.path.exists()

    def is_old(self) -> bool:
        """Whether nobody who works on it now can have made it: another process of ours may be starting a job."""
        return time.time() - self.path.stat().st_mtime > OLD_S

    def job(self) -> dict[str, Any] | None:
        """What the supervisor wrote about itself when it began."""
        return _read(self.path / "job.json")

    def end(self) -> dict[str, Any] | None:
        """How the job ended; None: not yet, or its supervisor was killed."""
        return _read(self.path / "end.json")

    def write_job(self, facts: dict[str, Any]) -> None:
        """Keep *facts* durably."""
        _write(self.path / "job.json", facts)

    def write_end(self, facts: dict[str, Any]) -> None:
        """Keep *facts* durably."""
        _write(self.path / "end.json", facts)

    def note_helper(self, pid: int) -> None:
        """Remember the network's helper: should its supervisor be killed, it may have to be ended, too."""
        (self.path / "helper.json").write_text(json.dumps({"pid": pid, "start": start_time(pid)}))

    def helper(self) -> dict[str, Any] | None:
        """What ``note_helper`` wrote."""
        return _read(self.path / "helper.json")

    def report(self, name: str) -> dict[str, Any] | None:
        """A small JSON file that the job left in its work directory; never read through a link."""
        with suppress(OSError, ValueError):
            fd = os.open(self.work / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as file:
                found = json.loads(file.read(1 << 16))
                return found if isinstance(found, dict) else None
        return None

    def lock(self) -> int | None:
        """Take the folder for this process and its life; None: another process holds it."""
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        if not self._is_current(fd):  # the folder was discarded while we opened it
            os.close(fd)
            return None
        return fd

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), (self.path / "lock").stat())
        except FileNotFoundError:
            return False

    def discard(self, trash: Path) -> Path | None:
        """Take the folder out of sight at once; return where it waits to be emptied. Repeatable."""
        trash.mkdir(mode=0o700, exist_ok=True)
        place = trash / f"{self.path.name}.{os.urandom(6).hex()}"
        try:
            self.path.rename(place)
        except FileNotFoundError:
            return None
        return place


def empty(path: Path) -> None:
    """Delete *path* and all below it, however deep, also folders that were made unreadable to their owner."""
    delete = ["rm", "-rf", "--one-file-system", "--", str(path)]  # no recursion of ours: trees are hostile
    if subprocess.run(delete, capture_output=True, check=False).returncode != 0:
        subprocess.run(["chmod", "-R", "u+rwX", "--", str(path)], capture_output=True, check=False)
        subprocess.run(delete, capture_output=True, check=False)


def start_time(pid: int) -> int | None:
    """When the process *pid* began, in clock ticks since boot: with the pid it names one process for ever."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, facts: dict[str, Any]) -> None:
    fresh = path.with_suffix(f".{os.getpid()}")
    with fresh.open("w") as file:
        json.dump(facts, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
