"""Which deployments and logs stay: the rules, by a project's rows alone, and the deletion of what is over by them."""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from scalemesh.db import retention as rows
from scalemesh.db.database import Database, Transaction
from scalemesh.db.retention import Ended, RetentionRows
from scalemesh.errors import ConflictError, NotFoundError
from scalemesh.faults import fault
from scalemesh.keeping import Retention
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.values import DeploymentId, Environment, State

log = logging.getLogger(__name__)
ROUND: Final = 100  #: deployments that are deleted in one round
TOLD: Final = 200  #: of which a preview tells each one's own bytes


class Rule(StrEnum):
    """Why a deployment goes: the setting that did not keep it."""

    PRODUCTION = "production"
    PREVIEW = "preview_days"
    FAILED = "failed_days"


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """A deployment that no rule keeps."""

    project: str  #: name
    deployment: DeploymentId
    rule: Rule
    ended_at: datetime
    size_bytes: int | None = None  #: that nobody else holds; None: not looked at


@dataclass(frozen=True, slots=True)
class Preview:
    """What would go now, and the bytes that nobody but all of it together holds."""

    over: Sequence[Over] = field(default_factory=tuple)
    size_bytes: int = 0


class Deletes(Protocol):
    """Deletes as a person does."""

    async def delete(
        self, deployment: str, *, only_if: Callable[[Transaction], Awaitable[bool]] | None = None
    ) -> None: ...


def over(ended: Iterable[Ended], rules: Retention, *, window: timedelta, now: datetime) -> list[tuple[Ended, Rule]]:
    """Those of one project's *ended* that go, oldest first, and the rule that lets each go.

    Nothing goes that a host name besides its permalink shows, that a person keeps, or whose files may still be asked
    for because it was production until less than *window* ago.
    """
    loose = [one for one in ended if not one.is_shown and not one.is_kept]
    former = sorted((one for one in loose if _is_former_production(one)), key=lambda one: -one.sequence)
    surplus = {one.id for one in former[rules.production :]} if rules.production else set()
    found = [
        (one, rule) for one in loose if (rule := _rule(one, rules, surplus, now)) and not _answers(one, window, now)
    ]
    return sorted(found, key=lambda pair: pair[0].sequence)


def logs_over(ended: Iterable[Ended], rules: Retention, now: datetime) -> list[Ended]:
    """Those of *ended* whose log goes before they do."""
    if rules.log_time is None:
        return []
    before = now - rules.log_time
    return [one for one in ended if not one.is_log_dropped and not one.is_kept and one.ended_at <= before]


def _rule(one: Ended, rules: Retention, surplus: Collection[DeploymentId], now: datetime) -> Rule | None:
    if _is_former_production(one):
        return Rule.PRODUCTION if one.id in surplus else None
    is_ready = one.state is State.READY
    days, rule = (rules.preview_days, Rule.PREVIEW) if is_ready else (rules.failed_days, Rule.FAILED)
    since = max(one.ended_at, one.left_at or one.ended_at)
    return rule if days and since <= now - timedelta(days=days) else None


def _is_former_production(one: Ended) -> bool:
    return one.state is State.READY and one.environment is Environment.PRODUCTION


def _answers(one: Ended, window: timedelta, now: datetime) -> bool:
    """Whether the asset window has its files."""
    return one.left_at is not None and now < one.left_at + window


class Expiry:
    """Deletes deployments and logs that no rule keeps. What a crash cuts off, the next round goes on with."""

    def __init__(
        self,
        database: Database,
        deployer: Deletes,
        logs: LogPipeline,
        *,
        rules: Retention,
        window_days: int,
        now: Callable[[], datetime],
    ) -> None:
        """*rules* are the config's, for projects without their own; *window_days* those of the asset window."""
        self._db, self._rows, self._deployer, self._logs = database, RetentionRows(database), deployer, logs
        self._rules, self._window, self._now = rules, timedelta(days=window_days), now

    async def run(self, most: int = ROUND) -> int:
        """Delete at most *most* deployments that are over, as a person would; how many. Fewer: no other is.

        Raises:
            UnreachableError: database or store does not answer.
        """
        deleted = 0
        async for project in self._rows.projects():
            ended = await self._rows.ended(project.id)
            for one, rule in over(ended, self._rules.of(project.own), window=self._window, now=self._now()):
                if deleted == most:
                    return deleted
                deleted += await self._delete(one, rule)
        return deleted

    async def run_logs(self, most: int = ROUND) -> int:
        """Drop at most *most* logs whose time is over; how many."""
        dropped = 0
        async for project in self._rows.projects():
            ended = await self._rows.ended(project.id) if self._rules.of(project.own).log_days else []
            for one in logs_over(ended, self._rules.of(project.own), self._now()):
                if dropped == most:
                    return dropped
                await self._logs.drop(one.id)
                fault("expiry.after_log")
                async with self._db.transaction() as tx:
                    await rows.log_dropped(tx, one.id)
                dropped += 1
        return dropped

    async def logs_over(self) -> int:
        """How many logs ``run_logs`` would drop."""
        found = 0
        async for project in self._rows.projects():
            rules = self._rules.of(project.own)
            if rules.log_days:
                found += len(logs_over(await self._rows.ended(project.id), rules, self._now()))
        return found

    async def preview(self) -> Preview:
        """What ``run`` would delete, were it called again and again."""
        found: list[Over] = []
        async for project in self._rows.projects():
            ended = await self._rows.ended(project.id)
            for one, rule in over(ended, self._rules.of(project.own), window=self._window, now=self._now()):
                found.append(Over(project=project.name, deployment=one.id, rule=rule, ended_at=one.ended_at))
        async with self._db.aside() as reader:  # sums over many files: nobody waits for them
            for number, known in enumerate(found[:TOLD]):
                size_bytes = await rows.alone_bytes(reader, [known.deployment])
                found[number] = replace(known, size_bytes=size_bytes)
            return Preview(found, await rows.alone_bytes(reader, [known.deployment for known in found]))

    async def _delete(self, one: Ended, rule: Rule) -> bool:
        async def is_still_over(tx: Transaction) -> bool:
            return await rows.is_as_seen(tx, one)

        try:
            await self._deployer.delete(one.id, only_if=is_still_over)
        except (ConflictError, NotFoundError):  # promoted, kept or deleted meanwhile
            return False
        log.info("a deployment's time is over", extra={"deployment": one.id, "rule": rule})
        return True
