"""An ordinary user for tests that run as root: the id, and a Python that this user can start."""

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

UID: Final = 61234
_ROOT: Final = Path(__file__).resolve().parents[3]


def python_path() -> str:
    """Where that Python finds this package and what it needs."""
    packages = {sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]}
    return ":".join([str(_ROOT), *sorted(packages)])


def python_for_everybody() -> str | None:
    """A Python of our version that does not lie in somebody's home."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    real = str(Path(sys.executable).resolve())
    twice = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
    for path in (real, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        words = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", path, "-c", twice]
        if subprocess.run(words, capture_output=True, check=False).returncode == 0:
            return path
    return None
