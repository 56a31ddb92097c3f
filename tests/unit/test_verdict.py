"""What the builder told and what the executor saw become one reason."""

import pytest

from scalemesh.services.verdict import verdict
from scalemesh.values import BuildEnd, EndCause, Limits, Reason

MIB = 1 << 20
LIMITS = Limits(
    memory_bytes=512 * MIB, pids=64, cpu_weight=50, time_s=60, disk_bytes=MIB, output_bytes=MIB, output_files=9,
    log_bytes=MIB,
)  # fmt: skip
TOLD = {"reason": "command_failed", "message": "npm run build ended with exit code 137"}


def test_what_the_builder_told_counts() -> None:
    found = verdict(BuildEnd(cause=EndCause.FAILED, exit_code=1), TOLD, LIMITS)
    assert (found.reason, found.message) == (Reason.COMMAND_FAILED, TOLD["message"])


@pytest.mark.parametrize(
    ("cause", "reason", "word"),
    [
        (EndCause.OOM, Reason.OUT_OF_MEMORY, "512 MiB"),
        (EndCause.PIDS, Reason.TOO_MANY_PROCESSES, "64"),
        (EndCause.TIMEOUT, Reason.TIMED_OUT, "60 s"),
        (EndCause.DISK, Reason.DISK_FULL, "1 MiB"),
    ],
)
@pytest.mark.parametrize("told", [None, TOLD])
def test_a_limit_explains_a_failed_command(
    cause: EndCause, reason: Reason, word: str, told: dict[str, str] | None
) -> None:
    found = verdict(BuildEnd(cause=cause, exit_code=1, peak_memory_bytes=600 * MIB), told, LIMITS)
    assert found.reason is reason
    assert word in found.message


def test_the_measured_peak_is_told() -> None:
    end = BuildEnd(cause=EndCause.OOM, peak_memory_bytes=600 * MIB)
    assert "600 MiB" in verdict(end, None, LIMITS).message


def test_a_limit_of_the_executors_own_is_told_in_its_words() -> None:
    end = BuildEnd(cause=EndCause.DISK, detail="evicted", own_limit="Too much in /tmp. Raise the limit of /tmp")
    found = verdict(end, TOLD, LIMITS)
    assert (found.reason, found.message) == (Reason.DISK_FULL, "Too much in /tmp. Raise the limit of /tmp")


def test_an_exact_reason_of_the_builder_stands_beside_a_limit() -> None:
    told = {"reason": "output_too_large", "message": "too large"}
    assert verdict(BuildEnd(cause=EndCause.DISK), told, LIMITS).reason is Reason.OUTPUT_TOO_LARGE


def test_a_vanished_job_and_a_builder_that_gave_up_are_lost() -> None:
    assert verdict(BuildEnd(cause=EndCause.LOST), None, LIMITS).reason is Reason.LOST
    assert verdict(BuildEnd(cause=EndCause.FAILED, exit_code=3), None, LIMITS).reason is Reason.LOST


def test_a_builder_that_ends_without_a_word_is_our_bug() -> None:
    found = verdict(BuildEnd(cause=EndCause.FAILED, exit_code=1), None, LIMITS)
    assert found.reason is Reason.INTERNAL
    assert "exit code 1" in found.message


def test_the_executors_peak_stands_also_where_the_builder_named_the_limit() -> None:
    told = {"reason": "out_of_memory", "message": "killed"}
    end = BuildEnd(cause=EndCause.OOM, peak_memory_bytes=600 * MIB)
    assert "600 MiB" in verdict(end, told, LIMITS).message
