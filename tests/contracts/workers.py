"""Encoding workers that do something wrong, as scripts."""

from pathlib import Path

DIES = "raise SystemExit(1)"
BABBLES = "import sys; sys.stdout.buffer.write(b'no frames, only words, and many of them' * 9); sys.stdout.flush()"
SLEEPS = "import time; time.sleep(60)"
DIES_ONCE = """
import pathlib, sys
mark = pathlib.Path(__file__).with_suffix(".died")
if not mark.exists():
    mark.touch()
    raise SystemExit(1)
sys.argv[0] = {worker!r}
exec(compile(open({worker!r}).read(), {worker!r}, "exec"))
"""


def worker(folder: Path, script: str) -> Path:
    path = folder / "worker.py"
    path.write_text(script)
    return path
