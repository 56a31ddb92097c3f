"""What became of a task, from what ECS says of it."""

import re
from collections.abc import Mapping
from typing import Any, Final

from plugins.executors.ecs.tasks import NEVER_RAN, NEWER, STOP, TIME_IS_UP, Task
from plugins.executors.ecs.words import is_no_room
from scalemesh.values import BuildEnd, EndCause

MOST_DETAIL: Final = 4000
#: Of a task that failed to start: what passes by itself. Everything else there is a matter of settings.
_PASSES: Final = re.compile(
    r"Timeout waiting for|InternalError|Unexpected EC2 error|ContainerRuntimeTimeout|DockerTimeout",
    re.IGNORECASE,
)
_FIXES: Final = (
    (
        r"CannotPullContainer|CannotPullImage|pull image|pull container",
        "check that the image is there and its architecture fits, that execution_role_arn may pull it "
        "(ecr:GetAuthorizationToken, ecr:BatchGetImage, ecr:GetDownloadUrlForLayer), and that the subnets reach the "
        "registry: a NAT, a public IP, or VPC endpoints for ecr.api, ecr.dkr and s3",
    ),
    (
        r"secret|registry auth",
        "check that execution_role_arn may read the secret, and that the subnets reach Secrets Manager and ECR",
    ),
    (
        r"logging driver|log group|logs:",
        "check that executor.ecs.log_group exists in its region, and that execution_role_arn may write to it",
    ),
    (r"", "see docs/executors.md, AWS ECS; `scalemesh check` tries a task of its own"),
)


def end_of(task: Task | None, words: str = "") -> BuildEnd:
    """The end of a stopped task; None: ECS does not know it any more. *words*: the last that the job printed."""
    if task is None:
        return _lost("ECS does not know the task any more; it forgets one an hour after its end")
    if task.stop_code == "UserInitiated" or task.stopped_reason.startswith("scalemesh:"):
        return _stopped_on_purpose(task)
    if task.stop_code in {"SpotInterruption", "TerminationNotice", "InfrastructureHealth", "ServiceSchedulerInitiated"}:
        return _lost(f"AWS took the machine away: {task.stop_code}: {task.stopped_reason}")
    seen = _container(task)
    why = "; ".join(filter(None, (task.stopped_reason, str(seen.get("reason") or ""))))
    exit_code = seen.get("exitCode")
    if "OutOfMemory" in why:
        return BuildEnd(cause=EndCause.OOM, exit_code=exit_code, detail=_cut(why))
    if task.stop_code == "TaskFailedToStart" or exit_code is None:
        return _never_began(task, str(seen.get("image") or ""), why)
    cause = EndCause.FAILED if exit_code else EndCause.OK
    return BuildEnd(cause=cause, exit_code=exit_code, detail=_cut(words or str(seen.get("reason") or "")))


def _stopped_on_purpose(task: Task) -> BuildEnd:
    if task.stopped_reason == TIME_IS_UP:
        return BuildEnd(
            cause=EndCause.TIMEOUT, detail="its executor ended it: the builder had not kept the limit itself"
        )
    if task.stopped_reason == NEVER_RAN:
        detail = f"The task did not begin to run in time; {fix_for('')}"
        return BuildEnd(cause=EndCause.REFUSED, detail=detail)
    if task.stopped_reason in {STOP, NEWER}:
        return _lost("it was stopped")
    return _lost(f"somebody stopped the task: {task.stopped_reason}")


def _never_began(task: Task, image: str, why: str) -> BuildEnd:
    if task.started_at is not None:  # it ran, and how it ended is not known
        return _lost(why)
    if is_no_room(why) or _PASSES.search(why):
        return _lost(f"the task could not be started now: {why}")
    detail = f"ECS could not start the task with the image {image}: {why}. To mend it: {fix_for(why)}"
    return BuildEnd(cause=EndCause.REFUSED, detail=_cut(detail))


def fix_for(why: str) -> str:
    """What to look at for a task that never began."""
    return next(fix for word, fix in _FIXES if re.search(word, why, re.IGNORECASE))


def _container(task: Task) -> Mapping[str, Any]:
    return next((item for item in task.containers if item.get("name") == task.container), {})


def _lost(detail: str) -> BuildEnd:
    return BuildEnd(cause=EndCause.LOST, detail=_cut(detail))


def _cut(text: str) -> str:
    return text.strip()[-MOST_DETAIL:]
