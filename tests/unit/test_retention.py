"""The rules of retention: what stays whatever they say, and what each of them lets go."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from scalemesh.db.retention import Ended
from scalemesh.keeping import Retention
from scalemesh.services.retention import Rule, logs_over, over
from scalemesh.values import DeploymentId, Environment, OwnRetention, State

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WINDOW = timedelta(days=7)
FINAL = (State.READY, State.FAILED, State.CANCELED, State.SUPERSEDED)

DAYS = st.integers(0, 60)


@st.composite
def deployments(draw: st.DrawFn) -> list[Ended]:
    """Those of one project, each with a past of its own."""
    return [
        Ended(
            id=DeploymentId(f"dpl_{sequence}"),
            sequence=sequence,
            environment=draw(st.sampled_from(list(Environment))),
            state=draw(st.sampled_from(FINAL)),
            is_kept=draw(st.booleans()),
            is_shown=draw(st.booleans()),
            ended_at=NOW - timedelta(days=(age := draw(DAYS))),
            left_at=None if draw(st.booleans()) else NOW - timedelta(days=min(age, draw(DAYS))),
            is_log_dropped=draw(st.booleans()),
        )
        for sequence in draw(st.lists(st.integers(1, 1000), unique=True, max_size=30))
    ]


RULES = st.builds(Retention, production=st.integers(0, 8), preview_days=DAYS, failed_days=DAYS, log_days=DAYS)


def gone(ended: list[Ended], rules: Retention) -> dict[Ended, Rule]:
    return dict(over(ended, rules, window=WINDOW, now=NOW))


@given(deployments(), RULES)
def test_what_is_shown_kept_or_in_the_asset_window_never_goes(ended: list[Ended], rules: Retention) -> None:
    for one in gone(ended, rules):
        assert not one.is_shown
        assert not one.is_kept
        assert one.left_at is None or one.left_at <= NOW - WINDOW


@given(deployments(), RULES)
def test_the_newest_former_production_deployments_stay_as_many_as_the_rule_says(
    ended: list[Ended], rules: Retention
) -> None:
    found = gone(ended, rules)
    former = [one for one in ended if is_former(one)]
    stay = sorted(one.sequence for one in former if one not in found)
    assert len(stay) >= min(rules.production or len(former), len(former))
    for one in (one for one in found if is_former(one)):
        assert found[one] is Rule.PRODUCTION
        assert sum(sequence > one.sequence for sequence in stay) >= rules.production


@given(deployments(), RULES)
def test_each_that_goes_goes_by_the_rule_of_its_kind_and_is_older_than_it_says(
    ended: list[Ended], rules: Retention
) -> None:
    for one, rule in gone(ended, rules).items():
        if rule is Rule.PREVIEW:
            assert (one.state, one.environment) == (State.READY, Environment.PREVIEW)
        elif rule is Rule.FAILED:
            assert one.state is not State.READY
        if rule is not Rule.PRODUCTION:
            days = rules.preview_days if rule is Rule.PREVIEW else rules.failed_days
            assert days > 0
            assert one.ended_at <= NOW - timedelta(days=days)


@given(deployments(), RULES)
def test_all_that_is_over_goes(ended: list[Ended], rules: Retention) -> None:
    """Old enough, and nothing speaks for it."""
    found = gone(ended, rules)
    for one in ended:
        speaks_for_it = one.is_shown or one.is_kept or one.left_at is not None
        days = rules.preview_days if one.state is State.READY else rules.failed_days
        is_old = days and one.ended_at <= NOW - timedelta(days=days)
        is_production = one.state is State.READY and one.environment is Environment.PRODUCTION
        if is_old and not speaks_for_it and not is_production:
            assert one in found


@given(deployments(), RULES)
def test_a_second_round_finds_nothing_that_the_first_has_left(ended: list[Ended], rules: Retention) -> None:
    found = gone(ended, rules)
    assert not gone([one for one in ended if one not in found], rules)


@given(deployments(), RULES)
def test_they_go_in_the_order_in_which_they_came(ended: list[Ended], rules: Retention) -> None:
    found = [one.sequence for one in gone(ended, rules)]
    assert found == sorted(found)


@given(deployments())
def test_nothing_goes_where_every_rule_is_nought(ended: list[Ended]) -> None:
    assert not gone(ended, Retention(production=0, preview_days=0, failed_days=0))


@given(deployments(), RULES)
def test_a_log_goes_once_after_its_days_and_never_where_its_deployment_is_kept(
    ended: list[Ended], rules: Retention
) -> None:
    found = logs_over(ended, rules, NOW)
    for one in ended:
        is_over = bool(rules.log_days) and one.ended_at <= NOW - timedelta(days=rules.log_days)
        assert (one in found) == (is_over and not one.is_kept and not one.is_log_dropped)


def test_what_a_project_has_of_its_own_outweighs_the_config_also_where_it_is_nought() -> None:
    rules = Retention(production=20, preview_days=30).of(OwnRetention(production=0, failed_days=3))
    assert rules == Retention(production=0, preview_days=30, failed_days=3)


def is_former(one: Ended) -> bool:
    is_production = one.state is State.READY and one.environment is Environment.PRODUCTION
    return is_production and not one.is_shown and not one.is_kept
