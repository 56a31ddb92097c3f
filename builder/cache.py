"""Keep what the package manager downloaded between builds, as one archive at the daemon. Never a failure.

The archive is packed and unpacked by user commands in the inner sandbox, since its names come from hostile code.
It is packed before the build command runs, and sent while that runs.
"""

import hashlib
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from builder.api import Api
from builder.commands import Commands
from builder.detect import Plan
from builder.disk import disk_use
from builder.lines import Log
from builder.tree import MAX_CONFIG_BYTES, Tree

FOLDERS: Final = (".npm", ".cache/yarn", ".local/share/pnpm")
MAX_BYTES: Final = 256 * 1024 * 1024
MAX_WAIT_S: Final = 20  #: for an archive still on its way when the build is done
ARCHIVE: Final = ".packages.tar"  #: in the home folder, where both sandboxes see it

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Cache:
    """The downloads of one lock file: ``restore`` before the install, ``save`` after it, ``finish`` at the end."""

    def __init__(self, key: str | None, home: Path, api: Api, log: Log) -> None:
        """*key* None: nothing is kept."""
        self._key, self._home, self._api, self._log = key, home, api, log
        self._sending: threading.Thread | None = None

    def restore(self, commands: Commands) -> None:
        """Bring back what an earlier build kept; then there is nothing to save."""
        if self._key is None or any((self._home / folder).exists() for folder in FOLDERS):
            self._key = None
            return
        archive = self._home / ARCHIVE
        with suppress(OSError):
            archive.unlink(missing_ok=True)
            with os.fdopen(os.open(archive, _NEW), "wb") as file:
                arrived = self._api.download(f"/build/v1/cache/{self._key}", file, MAX_BYTES)
            if arrived and commands.quietly(["tar", "-xf", ARCHIVE], self._home):
                self._key = None
                self._log.say("restore", "Restored the packages of an earlier build")
            archive.unlink(missing_ok=True)

    def save(self, commands: Commands) -> None:
        """Pack the downloads and begin to send them."""
        folders = [folder for folder in FOLDERS if Tree(self._home).has_folder(folder)]
        if self._key is None or not folders:
            return
        size = sum(disk_use(self._home / folder).size_bytes for folder in folders)
        if size > MAX_BYTES or not commands.quietly(["tar", "-cf", ARCHIVE, *folders], self._home):
            self._log.say("save", "The packages are not kept for later builds: they are too large")
            return
        with suppress(OSError):  # what lies there may be anything: user commands can write to this folder
            with Tree(self._home).file(ARCHIVE) as opened:
                kept = os.dup(opened)
            (self._home / ARCHIVE).unlink()
            path = f"/build/v1/cache/{self._key}"
            self._sending = threading.Thread(target=_send, args=(self._api.another(), path, kept), daemon=True)
            self._sending.start()

    def finish(self) -> None:
        """Wait, though not for long, until what is being sent has arrived."""
        if self._sending:
            self._sending.join(timeout=MAX_WAIT_S)


def _send(api: Api, path: str, kept: int) -> None:
    size = os.fstat(kept).st_size
    api.offer(path, os.fdopen(kept, "rb"), size)
    api.close()


def cache_key(plan: Plan, src: Path) -> str | None:
    """A name of the lock file's content, the package manager and Node's major version; None without a lock."""
    lock = Tree(src).text(plan.lock_file) if plan.lock_file else None
    if not lock or len(lock) >= MAX_CONFIG_BYTES or not plan.install_command:
        return None
    node = plan.node.version[0] if plan.node else 0
    digest = hashlib.sha256(f"1 {plan.package_manager} {node}\n{lock}".encode("utf-8", "replace"))
    return digest.hexdigest()[:40]
