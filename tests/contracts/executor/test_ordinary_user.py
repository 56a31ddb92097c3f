"""The behaviour suite once more, as a user who is not root and has no control groups."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.executor.ordinary import UID, python_for_everybody, python_path

_ROOT = Path(__file__).resolve().parents[3]
_SUITE = [str(Path(__file__).with_name(name)) for name in ("test_executor.py", "test_crashes.py")]


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of that user's own, that the user can reach: pytest's are behind closed doors."""
    folder = Path(tempfile.mkdtemp(prefix="scalemesh-user-"))
    folder.chmod(0o755)
    os.chown(folder, UID, UID)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="this suite runs as an ordinary user already")
@pytest.mark.timeout(520)
@pytest.mark.parametrize("has_tun", [True, False], ids=["slirp4netns", "proxy"])
def test_every_behaviour_holds_for_an_ordinary_user(home: Path, has_tun: bool) -> None:
    python = python_for_everybody()
    if python is None:
        pytest.skip("no Python that an ordinary user can start")
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "PYTHONPATH": python_path(),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    words = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={home}/tmp", *_SUITE]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", _with_tun(home, has_tun), "sh", *words],
        env=environment,
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def _with_tun(home: Path, has_tun: bool) -> str:
    """Shell that opens or closes /dev/net/tun in a mount namespace, and then is the user."""
    mode = "0666" if has_tun else "0600"
    return f"""
        set -e
        mkdir {home}/dev
        mount -t tmpfs none {home}/dev
        mknod -m {mode} {home}/dev/tun c 10 200
        mount --bind {home}/dev/tun /dev/net/tun
        exec setpriv --reuid {UID} --regid {UID} --clear-groups "$@"
    """
