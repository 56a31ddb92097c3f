"""How a build ended: what the builder told and what the executor saw, made into one reason and one sentence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from builder.protocol import EXIT_GIVEN_UP
from scalemesh.values import BuildEnd, EndCause, Limits, Reason

MIB: Final = 1024 * 1024

# A limit that the executor saw passed explains better than the exit code of the command that it killed.
LIMITS: Final = {
    EndCause.OOM: Reason.OUT_OF_MEMORY,
    EndCause.PIDS: Reason.TOO_MANY_PROCESSES,
    EndCause.TIMEOUT: Reason.TIMED_OUT,
    EndCause.DISK: Reason.DISK_FULL,
}
VAGUE: Final = frozenset({Reason.COMMAND_FAILED, Reason.INTERNAL, Reason.CLONE_FAILED})


@dataclass(frozen=True, slots=True)
class Verdict:
    reason: Reason
    message: str


def verdict(end: BuildEnd, reported: Mapping[str, object] | None, limits: Limits) -> Verdict:
    """Why the build failed; *reported* is the builder's Failure, None if it could not tell."""
    told = Reason(str(reported["reason"])) if reported else None
    if end.cause in LIMITS and (told is None or told in VAGUE or told is LIMITS[end.cause]):
        return Verdict(LIMITS[end.cause], _limit_message(end, limits))
    if told is not None and reported is not None:
        return Verdict(told, str(reported["message"]))
    if end.cause is EndCause.REFUSED:
        return Verdict(Reason.REJECTED, end.detail)
    if end.cause is EndCause.LOST:
        return Verdict(Reason.LOST, f"The build vanished: {end.detail or 'its job is not there any more'}")
    if end.exit_code == EXIT_GIVEN_UP:
        return Verdict(Reason.LOST, "The builder could not reach the daemon any more and gave up")
    detail = f": {end.detail}" if end.detail else ""
    return Verdict(Reason.INTERNAL, f"The builder ended with exit code {end.exit_code} and no word{detail}")


def _limit_message(end: BuildEnd, limits: Limits) -> str:
    if end.own_limit:
        return end.own_limit
    if end.cause is EndCause.OOM:
        peak = f"; the peak was {end.peak_memory_bytes // MIB} MiB" if end.peak_memory_bytes else ""
        return (
            f"The build needed more than its {limits.memory_bytes // MIB} MiB of memory{peak}. "
            "Raise builds.memory_mib, or let the build do less at once"
        )
    if end.cause is EndCause.PIDS:
        peak = f"; the peak was {end.peak_pids}" if end.peak_pids else ""
        return f"The build started more than its {limits.pids} processes{peak}. Raise builds.pids, or start fewer"
    if end.cause is EndCause.DISK:
        detail = f" ({end.detail})" if end.detail else ""
        return (
            f"The build wrote more than its {limits.disk_bytes // MIB} MiB, or too many files{detail}. "
            "Raise builds.disk_mib, or write less"
        )
    return f"The build took longer than its {limits.time_s} s. Raise builds.time_limit_s, or make it faster"
