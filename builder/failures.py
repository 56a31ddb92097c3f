"""Why a command failed, from its exit code and its newest lines: one sentence that says what to do."""

import re
import signal
from collections.abc import Sequence
from typing import Final

from builder.errors import BuildFailed

_SGR: Final = re.compile("\x1b\\[[0-9;:]*m")
_NPM_LOCK: Final = re.compile(r"(?:Missing|Invalid): .+? (?:from lock file|does not satisfy .+)")
_TELLING: Final = re.compile(
    r"\b(error|err!|fail(?:ed|ure)?|cannot|could not|not found|missing|fatal)\b", re.IGNORECASE
)
_NPM: Final = re.compile(r"npm (?:error|ERR!)(?P<text>.*)", re.IGNORECASE)
_NPM_IDLE: Final = re.compile(
    r"\s*$| {2,}| (?:code|errno|path|command|syscall|cwd|workspace|location)\b| A complete log| Run "
)
_IDLE: Final = re.compile(r"npm (?:warn|notice)|at ", re.IGNORECASE)

#: pattern in the newest lines -> reason, sentence
_LIMITS: Final = (
    (
        r"JavaScript heap out of memory|FATAL ERROR: .*[Aa]llocation|Cannot allocate memory|ENOMEM|"
        r"MemoryError|bad_alloc",
        "out_of_memory",
        "ran out of memory. Make the build smaller, or have its memory limit raised.",
    ),
    (
        r"fork: (?:retry: )?Resource temporarily unavailable|Cannot fork|spawn \S+ EAGAIN|uv_thread_create|"
        r"pthread_create.*(?:EAGAIN|Resource temporarily)",
        "too_many_processes",
        "started more processes than one build may have. Run fewer at once, or have its limit of processes raised.",
    ),
    (
        r"ENOSPC: no space left|No space left on device|EDQUOT|Disk quota exceeded",
        "disk_full",
        "filled the disk of the build. Write less, or have its disk limit raised.",
    ),
)


def explain(command: str, code: int, tail: Sequence[str]) -> BuildFailed:
    """The failure of *command*, which ended with *code* and printed *tail* last."""
    lines = [_SGR.sub("", line).strip() for line in tail]
    lines = [line for line in lines if line]
    shown = command if len(command) <= 200 else command[:197] + "..."
    for pattern, reason, sentence in _LIMITS:
        if any(re.search(pattern, line) for line in lines):
            return BuildFailed(reason, f"`{shown}` {sentence}")
    if code == 128 + signal.SIGKILL:
        return BuildFailed(
            "out_of_memory",
            f"`{shown}` was killed by the system, most likely because the build ran out of memory. "
            "Make the build smaller, or have its memory limit raised.",
        )
    if lock := [match[0] for line in lines if (match := _NPM_LOCK.search(line))]:
        more = f" (and {len(lock) - 1} more)" if len(lock) > 1 else ""
        return BuildFailed(
            "command_failed",
            f"`{shown}` failed: the lock file does not fit package.json: {lock[0]}{more}. "
            "Run `npm install` and commit the new lock file.",
        )
    return BuildFailed("command_failed", _plain(shown, code, lines))


def _plain(shown: str, code: int, lines: Sequence[str]) -> str:
    if code == 127:
        words = next((line for line in reversed(lines) if "not found" in line), "")
        return f"`{shown}` failed: a program is not there{f' ({words[:200]})' if words else ''}. Is it a dependency?"
    ended = f"exit code {code}" if code <= 128 else f"signal {code - 128}"
    theirs = [line for line in lines if not _NPM.match(line) and not _IDLE.match(line)]
    npms = [line for line in lines if (match := _NPM.match(line)) and not _NPM_IDLE.match(match["text"])]
    telling = [line for line in theirs if _TELLING.search(line)][-1:] or npms[:1] or theirs[-1:]
    return f"`{shown}` failed with {ended}" + (f": {telling[0][:300]}" if telling else ".")
