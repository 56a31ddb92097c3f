"""What no rule keeps is deleted as a person would delete it; what changes meanwhile stays."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scalemesh.db import retention as rows
from scalemesh.db.retention import RetentionRows
from scalemesh.errors import ConflictError, NotFoundError
from scalemesh.keeping import Retention
from scalemesh.services.deployer import Wanted
from scalemesh.services.retention import Expiry, Rule
from scalemesh.values import DeploymentId, OwnRetention, State
from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import Life, begin


def expiry(life: Life, *, days: float = 0, window_days: int = 7, rules: Retention | None = None) -> Expiry:
    """That of *life*, *days* from now."""
    return Expiry(
        life.services.ledger.database,
        life.services.deployer,
        life.services.logs,
        rules=rules or Retention(),
        window_days=window_days,
        now=lambda: datetime.now(UTC) + timedelta(days=days),
    )


async def versions(life: Life, count: int) -> list[DeploymentId]:
    """Production deployments, one after another."""
    return [await life.ready(b"version %d" % number) for number in range(count)]


async def there(life: Life, deployments: list[DeploymentId]) -> list[bool]:
    found = {one.id for one in await life.services.deployer.page(None, before=None, limit=100)}
    return [deployment in found for deployment in deployments]


async def gone(life: Life) -> list[DeploymentId]:
    return [one async for page in RetentionRows(life.services.ledger.database).gone() for one in page]


async def test_former_production_deployments_go_beyond_the_newest_and_after_the_asset_window(life: Life) -> None:
    made = await versions(life, 5)
    rules = Retention(production=2)
    assert await expiry(life, rules=rules).run() == 0  # the window has their files
    assert await expiry(life, days=8, rules=rules).run() == 2
    assert await there(life, made) == [False, False, True, True, True]
    assert life.live() == made[-1]
    assert await gone(life) == sorted(made[:2])
    assert not await life.log(made[0])
    assert await expiry(life, days=8, rules=rules).run() == 0


async def test_what_a_person_keeps_stays_until_the_person_lets_it_go(life: Life) -> None:
    made = await versions(life, 3)
    assert (await life.services.deployer.keep(made[0], kept=True)).is_kept
    rules = Retention(production=1)
    assert await expiry(life, days=8, rules=rules).run() == 0
    await life.services.deployer.keep(made[0], kept=False)
    assert await expiry(life, days=8, rules=rules).run() == 1
    assert await there(life, made) == [False, True, True]


async def test_a_rollback_target_that_is_live_stays_however_old(life: Life) -> None:
    made = await versions(life, 4)
    await life.services.releases.rollback(await life.project(), await life.services.deployer.get(made[0]))
    assert await expiry(life, days=400, rules=Retention(production=1)).run() == 2
    assert await there(life, made) == [True, False, False, True]
    assert life.live() == made[0]


async def test_previews_go_after_their_days_but_for_the_newest_of_each_branch(life: Life) -> None:
    await versions(life, 1)
    previews = [await life.ready(b"p%d" % number, Wanted(branch="next")) for number in range(3)]
    assert await expiry(life, days=29).run() == 0
    assert await expiry(life, days=31).run() == 2
    assert await there(life, previews) == [False, False, True]


async def test_failed_ones_go_with_their_logs_and_what_waits_or_builds_stays(life: Life) -> None:
    failed, waiting = await life.submit(), await life.submit(Wanted(branch="other"))
    await life.services.deployer.cancel(failed)
    assert await expiry(life, days=31, rules=Retention(failed_days=30)).run() == 1
    assert await there(life, [failed, waiting]) == [False, True]
    assert not await life.log(failed)


async def test_the_rules_of_a_project_outweigh_those_of_the_config(life: Life) -> None:
    made = await versions(life, 3)
    project = await life.project()
    await life.services.projects.retain(project.id, OwnRetention(production=0))
    assert await expiry(life, days=8, rules=Retention(production=1)).run() == 0
    await life.services.projects.retain(project.id, OwnRetention(production=1))
    assert await expiry(life, days=8).run() == 1
    assert await there(life, made) == [False, True, True]


async def test_a_round_deletes_no_more_than_it_may_and_the_next_goes_on(life: Life) -> None:
    made = await versions(life, 5)
    rules = Retention(production=1)
    assert await expiry(life, days=8, rules=rules).run(most=2) == 2
    assert await there(life, made) == [False, False, True, True, True]
    assert await expiry(life, days=8, rules=rules).run(most=2) == 1


async def test_a_preview_tells_what_would_go_by_which_rule_and_how_much_room_it_has(life: Life) -> None:
    made = await versions(life, 3)
    found = await expiry(life, days=8, rules=Retention(production=1)).preview()
    assert [(one.project, one.deployment, one.rule) for one in found.over] == [("site", made[0], Rule.PRODUCTION)]
    assert found.over[0].size_bytes == found.size_bytes
    assert found.size_bytes > len(b"version 0")
    assert await there(life, made) == [True, True, True]


async def test_what_was_kept_between_the_look_and_the_deletion_is_not_deleted(life: Life) -> None:
    made = await versions(life, 2)
    database = life.services.ledger.database
    seen = (await RetentionRows(database).ended((await life.project()).id))[0]
    await life.services.deployer.keep(made[0], kept=True)
    with pytest.raises(ConflictError, match="changed meanwhile"):
        await life.services.deployer.delete(made[0], only_if=lambda tx: rows.is_as_seen(tx, seen))
    assert await there(life, made) == [True, True]


async def test_logs_go_after_their_days_and_their_deployments_stay(life: Life) -> None:
    made = await versions(life, 2)
    rules = Retention(log_days=10)
    assert await expiry(life, days=9, rules=rules).run_logs() == 0
    assert await expiry(life, days=11, rules=rules).run_logs() == 2
    assert await expiry(life, days=11, rules=rules).run_logs() == 0
    assert not await life.log(made[0])
    assert await there(life, made) == [True, True]


async def test_the_deployments_of_a_deleted_project_are_remembered_as_gone(life: Life) -> None:
    made = await versions(life, 2)
    await life.services.deployer.delete_project(await life.project())
    assert await gone(life) == sorted(made)


async def test_keeping_what_is_not_there_is_told(life: Life) -> None:
    with pytest.raises(NotFoundError):
        await life.services.deployer.keep("dpl_none", kept=True)


async def test_what_is_kept_is_so_after_a_restart(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold()) as life:
        made = await life.ready(b"one")
        await life.services.deployer.keep(made, kept=True)
    async with begin(tmp_path, EndsWhenTold()) as life:
        found = await life.services.deployer.get(made)
        assert (found.is_kept, found.state) == (True, State.READY)
