"""Starts supervisors and ends them, from the daemon's side."""

import asyncio
import json
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from plugins.executors.local.processes import ended, kill_quietly
from plugins.executors.local.supervisor import START

_PACKAGE_ROOT: Final = Path(__file__).resolve().parents[3]
_START_S: Final = 20.0
_TERM_S: Final = 1.2  # of the two seconds that a stop may take
_KILL_S: Final = 0.6


async def run_supervisor(python: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Start a supervisor and return its answer (see ``supervisor``). Raises TimeoutError, OSError."""
    process = await asyncio.create_subprocess_exec(
        *(python, "-I", "-S", "-c", START, str(_PACKAGE_ROOT)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
    )
    async with asyncio.timeout(_START_S):
        out, err = await process.communicate(json.dumps(spec).encode())
    with suppress(ValueError):
        answer = json.loads(out)
        if isinstance(answer, dict):
            return answer
    return {"what": "the build's supervisor did not start", "why": err.decode(errors="replace")[-2000:]}


async def end_supervisor(pid: int, start: int) -> None:
    """Ask the supervisor to end its job, and kill it with its job if it does not. Repeatable."""
    for number, patience_s in ((signal.SIGTERM, _TERM_S), (signal.SIGKILL, _KILL_S)):
        kill_quietly(pid, start, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await ended(pid, start)
                return
