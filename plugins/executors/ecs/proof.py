"""A task of its own that looks whether builds could run: what ``check`` starts, and what its end means."""

import asyncio
import json
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from plugins.executors.ecs.aws import Aws
from plugins.executors.ecs.config import EcsConfig
from plugins.executors.ecs.definition import Definitions, family
from plugins.executors.ecs.ends import end_of
from plugins.executors.ecs.printed import last_words
from plugins.executors.ecs.request import run_words
from plugins.executors.ecs.tasks import STOP, Label, Task, Tasks
from plugins.executors.ecs.watch import Watch
from plugins.executors.ecs.words import refused_to_run
from scalemesh.ports import Finding
from scalemesh.values import BuildEnd, BuildJob, DeploymentId, EndCause, Limits, Secret

PROOF: Final = DeploymentId("proof")  #: stands where a deployment's id does
_FRESH_S: Final = 900  #: what a proof said that ended so long ago is still worth telling
_LIMITS: Final = Limits(
    memory_bytes=512 << 20,
    pids=64,
    cpu_weight=100,
    time_s=60,
    disk_bytes=1 << 20,
    output_bytes=1,
    output_files=1,
    log_bytes=1,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prover:
    """Starts such tasks and waits for them."""

    config: EcsConfig
    aws: Aws
    tasks: Tasks
    watch: Watch
    definitions: Definitions

    async def prove(self, within_s: float) -> Finding:
        """Start a proof, or find one that runs; tell how it ended.

        On Fargate a task takes longer to begin than a check may: then the one before it is told, if there is any.

        Raises:
            UnreachableError, RefusedError: as AWS answered.
        """
        before = await self._ended_last()
        arn = await self._running() or await self._start()
        try:
            async with asyncio.timeout(within_s):
                task = await self.watch.ended(arn)
        except TimeoutError:
            return await self._told_late(before) if before else await self._still(arn)
        return told(self.config, end_of(task), await self._printed(task))

    async def _told_late(self, task: Task) -> Finding:
        found = told(self.config, end_of(task), await self._printed(task))
        return replace(found, what=f"{found.what} (seen {_age_s(task.stopped_at):.0f} s ago; another task was started)")

    async def _running(self) -> str | None:
        """One that is on its way; one that never began is stopped."""
        for task in await self.tasks.running(self._started_by):
            if task.started_at is None and _age_s(task.created_at) > self.config.start_timeout_s:
                await self.tasks.stop(task.arn, STOP)
            else:
                return task.arn
        return None

    async def _ended_last(self) -> Task | None:
        stopped = [task for task in await self.tasks.stopped(family(self.config)) if self._counts(task)]
        return min(stopped, key=lambda task: _age_s(task.stopped_at), default=None)

    def _counts(self, task: Task) -> bool:
        label = task.label
        is_ours = label is not None and label.owner == self.config.owner and label.deployment == PROOF
        is_over = task.is_stopped and task.stopped_reason != STOP
        return is_ours and is_over and _age_s(task.stopped_at) < _FRESH_S

    async def _start(self) -> str:
        definition = await self.definitions.ready()
        label = Label(owner=self.config.owner, deployment=PROOF, attempt=1, limit_s=_LIMITS.time_s)
        words = run_words(self.config, self._job(), definition, label)
        words |= {"startedBy": self._started_by, "clientToken": secrets.token_hex(16)}
        words["overrides"]["containerOverrides"][0]["command"] = ["proof"]
        answer = await self.aws.call("ecs", "run_task", **words)
        if not answer.get("tasks"):
            raise refused_to_run(answer.get("failures", []))
        arn: str = answer["tasks"][0]["taskArn"]
        return arn

    @property
    def _started_by(self) -> str:
        """Not as builds are: nobody adopts these."""
        return f"{self.config.owner}-check"

    def _job(self) -> BuildJob:
        return BuildJob(
            deployment=PROOF,
            attempt=1,
            socket="",
            url=self.config.url or None,
            token=Secret("none"),
            limits=_LIMITS,
        )

    async def _still(self, arn: str) -> Finding:
        task = (await self.tasks.describe([arn])).get(arn)
        status = task.status if task else "not known yet"
        return Finding(
            ok=True,
            what=f"a task that proves builds was started and is {status}: {arn}",
            fix="run `scalemesh check` again in a minute: it tells then how that task ended",
        )

    async def _printed(self, task: Task | None) -> dict[str, Any]:
        """The proof's own words; empty where there is no log."""
        if task is None or not any("exitCode" in item for item in task.containers):
            return {}
        lines = (await last_words(self.aws, self.definitions, task)).strip().splitlines()
        try:
            said = json.loads(lines[-1])
        except (ValueError, IndexError):
            return {}
        return said if isinstance(said, dict) else {}


def told(config: EcsConfig, end: BuildEnd, said: dict[str, Any]) -> Finding:
    """How the proof ended, in words."""
    why = str(said.get("why") or end.detail)
    url = config.url
    if end.cause is EndCause.OK:
        versions = ", ".join(map(str, said.get("node", []))) or "not told, since there is no log"
        return Finding(ok=True, what=f"a task reached the daemon at {url}; Node: {versions}")
    if end.exit_code == 20:
        return Finding(
            ok=False,
            what=f"a task cannot reach the daemon at {url}: {why}",
            fix="set builds.public_url to an address that the subnets reach, let the security groups allow it, and "
            "let the image trust its certificate (executor.ecs.ca_path)",
        )
    if end.exit_code == 21:
        return Finding(
            ok=False,
            what=f"the image holds another builder than this daemon's: {why}",
            fix="scalemesh builder image build and push, then name that image",
        )
    if end.exit_code == 22:
        fix = "the image must hold git, and declare VOLUME /work and /tmp as its user's: see docs/executors.md, AWS ECS"
        return Finding(ok=False, what=f"something is missing in the task: {why}", fix=fix)
    fix = "see docs/executors.md, AWS ECS"
    return Finding(ok=False, what=f"a task that proves builds ended as {end.cause}: {why or end.exit_code}", fix=fix)


def _age_s(since: datetime | None) -> float:
    return (datetime.now(UTC) - since).total_seconds() if since else 0.0
