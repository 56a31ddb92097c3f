"""How long an executor that does not answer is left alone."""

from datetime import UTC, datetime, timedelta

from scalemesh.services.absences import Absences


class Clock:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def test_each_pause_is_twice_as_long_up_to_half_a_minute() -> None:
    clock = Clock()
    absences, pauses_s = Absences(clock), []
    for _ in range(6):
        until = absences.silent("docker")
        pauses_s.append((until - clock.now).total_seconds())
        assert absences.here(["local", "docker"]) == {"local"}
        clock.now = until
        assert absences.here(["local", "docker"]) == {"local", "docker"}
    assert pauses_s == [2, 4, 8, 16, 30, 30]


def test_several_that_failed_at_once_are_one_failure() -> None:
    absences = Absences(Clock())
    assert absences.silent("docker") == absences.silent("docker")


def test_one_build_tries_and_nothing_else_starts_before_its_answer() -> None:
    clock = Clock()
    absences = Absences(clock)
    clock.now = absences.silent("docker") + timedelta(seconds=1)
    absences.begins("docker")
    assert absences.here(["docker"]) == set()
    assert absences.next(clock.now - timedelta(minutes=1)) is None
    absences.answered("docker")
    assert absences.here(["docker"]) == {"docker"}
    assert not absences.is_doubtful("docker")
