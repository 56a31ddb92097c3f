"""What became of a job, as far as the cluster tells: pure functions of the Job and of its pods."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from plugins.executors.kubernetes.recipe import CONTAINER, TMP
from plugins.executors.kubernetes.watch import News
from scalemesh.values import BuildEnd, EndCause

MOST_WORDS: Final = 4000
#: What only an operator mends, however long it is waited for.
HOPELESS: Final = frozenset({"ErrImageNeverPull", "InvalidImageName"})
IMAGE_TROUBLE: Final = HOPELESS | {"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"}
CANNOT_RUN: Final = IMAGE_TROUBLE | {"CreateContainerConfigError"}
NEVER_RAN: Final = frozenset({"ContainerCannotRun", "StartError"})
#: How kubelets tell that a pod used up its own storage, not that its node is short of it.
OVER_ITS_STORAGE: Final = ("exceeds the limit", "exceeds the total limit", "exceeded its local ephemeral storage")
OVER_TMP: Final = f'volume "{TMP}" exceeds the limit'
IMAGE_FIX: Final = "Push the builder's image, and name it as nodes find it ([executor.kubernetes] image)"
Found = dict[str, Any]


def of_pods(news: News) -> BuildEnd | None:
    """How the job ended, where a pod of it tells; None: none does."""
    for pod in _oldest_first(news):
        end = None if _is_too_late(pod, news) else _of_pod(pod)
        if end is not None or _went(pod, news):
            return end  # what runs after a pod that was deleted is not the build
    return None


def of_rest(news: News) -> BuildEnd | None:
    """How the job ended, by what the Job says and what is not there any more; None: it never began."""
    if is_hopeless(news):
        return None
    if (end := _of_conditions(news)) is not None:
        return end
    if news.is_job_gone:
        return _lost("its Job was deleted")
    lost = [pod for pod in _oldest_first(news) if _went(pod, news)]
    if lost:
        return _lost(_why_it_went(lost[0]))
    return _lost("its pod was deleted") if is_finished(news) else None


def has_lost_a_pod(news: News) -> bool:
    """Whether somebody deleted a pod: the cluster makes another one, in which the build must not run twice."""
    return any(_went(pod, news) for pod in news.pods.values())


def has_begun(news: News) -> bool:
    """Whether the container runs or ran."""
    return bool(news.begun)


def is_finished(news: News) -> bool:
    """Whether the Job says so."""
    return news.job is not None and any(_true(news.job, kind) for kind in ("Complete", "Failed"))


def is_hopeless(news: News) -> bool:
    """Whether waiting for the container is in vain."""
    return any(_waiting(pod).get("reason") in HOPELESS or _is_too_late(pod, news) for pod in news.pods.values())


def never_began(news: News, image: str, waited_s: float, told: Iterable[str]) -> BuildEnd:
    """The end of a job whose container did not start within the time it has. *told*: the cluster's warnings."""
    reason, why, fix = _trouble(_oldest_first(news), image)
    more = next((text for text in reversed([*told]) if text), "")
    if "quota" in more:
        fix = "Raise the quota of the namespace, or run fewer builds at once (builds.parallel)"
    until = "cannot start" if is_hopeless(news) else f"did not start within {waited_s:.0f} s"
    words = [f"The build {until}: {reason}", why or more, fix]
    return BuildEnd(cause=EndCause.REFUSED, detail=". ".join(text.strip(". ") for text in words if text)[:MOST_WORDS])


def held_up(pods: list[Found], image: str) -> str:
    """What a job waits for, in few words."""
    reason, why, _ = _trouble(pods, image)
    return f"{reason}: {why}" if why else reason


def is_dead(pod: Found) -> bool:
    """Whether nothing of a deleted pod runs. A node tells late: what it calls waiting may run by now."""
    states = [status.get("state", {}) for status in _statuses(pod)]
    if not pod.get("spec", {}).get("nodeName") or _waiting(pod).get("reason") in CANNOT_RUN:
        return True
    if not states:  # its node would not have it, or has told all that it will
        return _phase(pod) in {"Succeeded", "Failed"} and pod["status"].get("reason") != "DeadlineExceeded"
    return all("terminated" in state for state in states)


def _of_pod(pod: Found) -> BuildEnd | None:
    status = pod.get("status", {})
    if status.get("reason") == "DeadlineExceeded":
        return BuildEnd(cause=EndCause.TIMEOUT, detail="the cluster ended it at its deadline")
    if status.get("reason") == "Evicted":
        return _of_eviction(str(status.get("message", "")))
    terminated = _terminated(pod)
    if terminated is not None:
        return _of_container(pod, terminated)
    if _phase(pod) == "Failed":
        return _lost(f"{status.get('reason') or 'its pod failed'}: {status.get('message', '')}".rstrip(": "))
    return None


def _is_too_late(pod: Found, news: News) -> bool:
    """Whether the time of the pod is up, and its container never began."""
    return pod.get("status", {}).get("reason") == "DeadlineExceeded" and pod["metadata"]["uid"] not in news.begun


def _of_eviction(message: str) -> BuildEnd:
    if OVER_TMP in message:
        limit = "The build wrote more into /tmp than there is for it. Raise executor.kubernetes.tmp_mib, or use $TMPDIR"
        return BuildEnd(cause=EndCause.DISK, detail=message[:MOST_WORDS], own_limit=limit)
    if any(words in message for words in OVER_ITS_STORAGE):
        return BuildEnd(cause=EndCause.DISK, detail=message[:MOST_WORDS])
    return _lost(f"its node ended it to help itself: {message}")


def _of_container(pod: Found, terminated: Found) -> BuildEnd | None:
    code, reason = int(terminated.get("exitCode", 0)), terminated.get("reason")
    words = _last_line(terminated.get("message", ""))
    if reason in NEVER_RAN:
        detail = f"The container cannot start: {words}. Is it the builder's image ([executor.kubernetes] image)?"
        return BuildEnd(cause=EndCause.REFUSED, exit_code=code, detail=detail)
    if code == 0:
        return BuildEnd(cause=EndCause.OK, exit_code=0, detail=words)
    if reason == "OOMKilled":  # also where only a child of the first process was killed: the exit code is another one
        return BuildEnd(cause=EndCause.OOM, exit_code=code, detail="over its limit of memory")
    if reason == "ContainerStatusUnknown" or _true(pod, "DisruptionTarget"):
        return _lost(_why_it_went(pod))
    if _was_deleted_alive(pod, terminated):
        return None
    return BuildEnd(cause=EndCause.FAILED, exit_code=code, detail=words)


def _of_conditions(news: News) -> BuildEnd | None:
    """What the Job says, where its pod cannot tell any more."""
    if news.job is None or not is_finished(news):
        return None
    if _true(news.job, "Complete"):
        return BuildEnd(cause=EndCause.OK, exit_code=0)
    failed = _true(news.job, "Failed") or {}
    if failed.get("reason") == "DeadlineExceeded":
        return BuildEnd(cause=EndCause.TIMEOUT, detail=str(failed.get("message", "")))
    return None


def _went(pod: Found, news: News) -> bool:
    meta = pod["metadata"]
    return bool(meta.get("deletionTimestamp")) or meta["uid"] in news.gone


def _was_deleted_alive(pod: Found, terminated: Found) -> bool:
    """Whether the container ended because its pod was deleted, and not before by itself."""
    meta = pod["metadata"]
    if not meta.get("deletionTimestamp"):
        return False
    asked = _time(meta["deletionTimestamp"]) - int(meta.get("deletionGracePeriodSeconds") or 0)
    return not terminated.get("finishedAt") or _time(terminated["finishedAt"]) >= asked


def _why_it_went(pod: Found) -> str:
    node = pod.get("spec", {}).get("nodeName", "")
    disruption = _true(pod, "DisruptionTarget")
    if disruption is not None:
        return f"its pod was ended: {disruption.get('reason')}: {disruption.get('message', '')}".rstrip(": ")
    if (_terminated(pod) or {}).get("reason") == "ContainerStatusUnknown":
        return f"its node {node} does not know what became of it"
    if _is_unheard(pod):
        return f"its node {node} does not answer any more"
    return "its pod was deleted by somebody else"


def _is_unheard(pod: Found) -> bool:
    """The cluster takes readiness from pods of a node that it does not hear; their containers last said to run."""
    conditions = pod.get("status", {}).get("conditions", [])
    ready: Found = next((each for each in conditions if each["type"] == "Ready"), {})
    return ready.get("status") == "False" and any(
        status.get("ready") and "running" in status.get("state", {}) for status in _statuses(pod)
    )


def _oldest_first(news: News) -> list[Found]:
    return sorted(news.pods.values(), key=lambda pod: str(pod["metadata"].get("creationTimestamp")))


def _trouble(pods: list[Found], image: str) -> tuple[str, str, str]:
    """(what holds it up, the cluster's own words, how to mend it)."""
    if not pods:
        return "no pod was made", "", ""
    pod = pods[-1]
    scheduled: Found = next(
        (each for each in pod.get("status", {}).get("conditions", []) if each["type"] == "PodScheduled"), {}
    )
    if scheduled.get("status") == "False":
        fix = "Add nodes that fit, or lower builds.memory_mib, builds.disk_mib or cpu_request; see node_selector"
        return str(scheduled.get("reason", "Unschedulable")), str(scheduled.get("message", "")), fix
    waiting = _waiting(pod)
    reason, message = str(waiting.get("reason") or _phase(pod)), str(waiting.get("message", ""))
    if reason in IMAGE_TROUBLE:
        return f"{reason} for image {image}", message, IMAGE_FIX
    return reason, message, f"See kubectl describe pod {pod['metadata']['name']}"


def _lost(detail: str) -> BuildEnd:
    return BuildEnd(cause=EndCause.LOST, detail=detail[:MOST_WORDS])


def _phase(pod: Found) -> str:
    return str(pod.get("status", {}).get("phase", ""))


def _statuses(pod: Found) -> list[Found]:
    found = pod.get("status", {}).get("containerStatuses") or []
    return [status for status in found if status.get("name") == CONTAINER]


def _waiting(pod: Found) -> Found:
    return next((status["state"]["waiting"] for status in _statuses(pod) if "waiting" in status.get("state", {})), {})


def _terminated(pod: Found) -> Found | None:
    states = (status.get("state", {}) for status in _statuses(pod))
    return next((state["terminated"] for state in states if "terminated" in state), None)


def _true(found: Found, kind: str) -> Found | None:
    """The condition of that type, if it holds."""
    conditions = found.get("status", {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == kind and each["status"] == "True"), None)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][-MOST_WORDS:] if lines else ""


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
