"""What a task printed, from CloudWatch."""

import asyncio
import logging
from typing import Final

from plugins.executors.ecs.aws import Aws
from plugins.executors.ecs.definition import Definitions
from plugins.executors.ecs.tasks import Task
from scalemesh.errors import ScaleMeshError

log = logging.getLogger(__name__)
_EVENTS: Final = 20
_TRIES: Final = 3
_PAUSE_S: Final = 0.4


async def last_words(aws: Aws, definitions: Definitions, task: Task) -> str:
    """The last lines; empty where there is no log, or it cannot be read. They may come a moment after the end."""
    try:
        definition = await definitions.of(task.definition)
    except ScaleMeshError as error:
        log.debug("no definition of a task", extra={"task": task.arn, "error": str(error)})
        return ""
    if not definition.log_group:
        return ""
    stream = f"{definition.log_prefix}/{task.container}/{task.id}"
    for left in reversed(range(_TRIES)):
        try:
            answer = await aws.call(
                "logs",
                "get_log_events",
                region=definition.log_region,
                logGroupName=definition.log_group,
                logStreamName=stream,
                limit=_EVENTS,
                startFromHead=False,
            )
        except ScaleMeshError as error:
            log.debug("no log of a task", extra={"task": task.arn, "error": str(error)})
            answer = {}
        if answer.get("events") or not left:
            return "\n".join(event["message"] for event in answer.get("events", []))
        await asyncio.sleep(_PAUSE_S)
    return ""
