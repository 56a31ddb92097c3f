"""What pods and Jobs tell of a build's end: objects as clusters of several versions have them."""

from typing import Any

import pytest

from plugins.executors.kubernetes import ends
from plugins.executors.kubernetes.patience import SETTLE_S, Patience
from plugins.executors.kubernetes.watch import News
from scalemesh.values import EndCause

ASKED, BEFORE, AFTER = "2026-11-25T12:00:30Z", "2026-11-25T12:00:27Z", "2026-11-25T12:00:30Z"
JOB: dict[str, Any] = {"metadata": {"name": "job", "uid": "job"}, "status": {}}


def pod(
    state: dict[str, Any] | None = None, *, uid: str = "one", deleted: bool = False, **status: Any
) -> dict[str, Any]:
    """A pod of a node; *deleted*: somebody asked for its end at 12:00:28, with two seconds to go."""
    meta: dict[str, Any] = {"name": f"job-{uid}", "uid": uid, "creationTimestamp": f"2026-11-25T12:00:0{len(uid) - 2}Z"}
    if deleted:
        meta |= {"deletionTimestamp": ASKED, "deletionGracePeriodSeconds": 2}
    statuses = [] if state is None else [{"name": "builder", "ready": "running" in state, "state": state}]
    return {"metadata": meta, "spec": {"nodeName": "node-7"}, "status": {"containerStatuses": statuses, **status}}


def ended(code: int, reason: str = "Error", message: str = "", at: str = BEFORE) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": at}}


def condition(kind: str, status: str = "True", **words: str) -> dict[str, Any]:
    return {"type": kind, "status": status, **words}


def news(*pods: dict[str, Any], job: dict[str, Any] | None = JOB, gone: bool = False) -> News:
    found = News()
    found.look(job, list(pods))
    found.is_job_gone = gone
    return found


RUNNING = {"running": {"startedAt": "2026-11-25T12:00:10Z"}}
DISRUPTED = condition("DisruptionTarget", reason="EvictionByEvictionAPI", message="Eviction API: evicting")


@pytest.mark.parametrize(
    ("told", "cause", "code", "words"),
    [
        (pod(ended(0, "Completed")), EndCause.OK, 0, ""),
        (pod(ended(7, message="a\nno good\n")), EndCause.FAILED, 7, "no good"),
        (pod(ended(137)), EndCause.FAILED, 137, ""),
        (pod(ended(137, "OOMKilled")), EndCause.OOM, 137, "memory"),
        (pod(ended(1, "OOMKilled")), EndCause.OOM, 1, "memory"),
        (pod(ended(0, "OOMKilled")), EndCause.OK, 0, ""),
        (pod(ended(127, "ContainerCannotRun", "exec: none")), EndCause.REFUSED, 127, "exec: none"),
        (pod(ended(128, "StartError", "exec: none")), EndCause.REFUSED, 128, "exec: none"),
        (pod(ended(137, "ContainerStatusUnknown")), EndCause.LOST, None, "does not know"),
        (pod(RUNNING, phase="Failed", reason="DeadlineExceeded"), EndCause.TIMEOUT, None, "deadline"),
        (pod(ended(137), phase="Failed", reason="DeadlineExceeded"), EndCause.TIMEOUT, None, "deadline"),
        (pod(phase="Failed", reason="OutOfmemory", message="Node didn't have enough"), EndCause.LOST, None, "enough"),
        (pod(phase="Failed", reason="NodeShutdown", message="Node is shutting down"), EndCause.LOST, None, "shutting"),
        (pod(phase="Failed"), EndCause.LOST, None, "its pod failed"),
        (pod(ended(143, at=BEFORE), deleted=True), EndCause.FAILED, 143, ""),
        (pod(ended(0, at=AFTER), deleted=True), EndCause.OK, 0, ""),
    ],
)
def test_a_pod_that_came_to_its_end_tells_how(
    told: dict[str, Any], cause: EndCause, code: int | None, words: str
) -> None:
    end = ends.of_pods(news(told))
    assert end is not None
    assert (end.cause, end.exit_code) == (cause, code)
    assert words in end.detail


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ('Usage of EmptyDir volume "work" exceeds the limit "8Gi". ', EndCause.DISK),
        ('Usage of EmptyDir volume "tmp" exceeds the limit "1Gi". ', EndCause.DISK),
        ("Pod ephemeral local storage usage exceeds the total limit of containers 9Gi. ", EndCause.DISK),
        ('Container builder exceeded its local ephemeral storage limit "9Gi". ', EndCause.DISK),
        ("The node was low on resource: ephemeral-storage. Container builder was using 3Gi. ", EndCause.LOST),
        ("The node was low on resource: memory. ", EndCause.LOST),
        ("The node had condition: [DiskPressure]. ", EndCause.LOST),
    ],
)
def test_an_eviction_is_the_builds_fault_only_where_it_passed_its_own_limit(message: str, cause: EndCause) -> None:
    end = ends.of_pods(news(pod(phase="Failed", reason="Evicted", message=message)))
    assert end is not None
    assert end.cause is cause
    assert message.strip() in end.detail
    assert ("executor.kubernetes.tmp_mib" in end.own_limit) is ('"tmp"' in message)


def test_a_pod_that_was_killed_by_its_deletion_did_not_end_by_itself() -> None:
    """Its exit code says nothing of the build."""
    killed = news(pod(ended(137, at=AFTER), deleted=True))
    assert ends.of_pods(killed) is None
    end = ends.of_rest(killed)
    assert end is not None
    assert (end.cause, end.detail) == (EndCause.LOST, "its pod was deleted by somebody else")


def test_a_lost_node_is_told_as_such() -> None:
    """The cluster takes its pods for not ready, then deletes them; nobody is there to end their containers."""
    lost = pod(RUNNING, deleted=True, conditions=[condition("Ready", "False")])
    end = ends.of_rest(news(lost))
    assert end is not None
    assert (end.cause, end.detail) == (EndCause.LOST, "its node node-7 does not answer any more")


@pytest.mark.parametrize(
    "told",
    [
        pod(RUNNING, deleted=True, conditions=[DISRUPTED]),
        pod(ended(137, at=AFTER), deleted=True, conditions=[DISRUPTED]),
        pod(ended(137), phase="Failed", conditions=[DISRUPTED]),
    ],
)
def test_a_disruption_is_told_in_the_clusters_words(told: dict[str, Any]) -> None:
    """As clusters from 1.26 on tell it: a drain, a more important pod, a node that is taken away."""
    end = ends.of_pods(news(told)) or ends.of_rest(news(told))
    assert end is not None
    assert (end.cause, end.exit_code) == (EndCause.LOST, None)
    assert "EvictionByEvictionAPI: Eviction API: evicting" in end.detail


def test_what_runs_after_a_pod_that_went_is_not_the_build() -> None:
    first, second = pod(RUNNING, uid="one", deleted=True), pod(ended(0), uid="three")
    assert ends.of_pods(news(first, second)) is None
    assert ends.of_pods(news(second)) is not None


def test_a_pod_that_was_seen_and_is_not_there_any_more_went() -> None:
    told = news(pod(RUNNING))
    assert not ends.has_lost_a_pod(told)
    told.look(JOB, [])
    assert ends.has_lost_a_pod(told)
    assert ends.of_pods(told) is None


def test_a_pod_that_went_after_its_end_still_tells_it() -> None:
    told = news(pod(RUNNING))
    told.hear("pods", "MODIFIED", pod(ended(4)))
    told.hear("pods", "DELETED", pod(ended(4)))
    end = ends.of_pods(told)
    assert end is not None
    assert end.exit_code == 4


@pytest.mark.parametrize(
    ("conditions", "cause"),
    [
        ([condition("Complete")], EndCause.OK),
        ([condition("Failed", reason="DeadlineExceeded", message="Job was active longer")], EndCause.TIMEOUT),
        ([condition("Failed", reason="BackoffLimitExceeded")], EndCause.LOST),
    ],
)
def test_a_job_tells_where_its_pod_cannot_any_more(conditions: list[dict[str, Any]], cause: EndCause) -> None:
    end = ends.of_rest(news(job={**JOB, "status": {"conditions": conditions}}))
    assert end is not None
    assert end.cause is cause


def test_a_deadline_that_came_before_the_start_is_no_time_out_of_the_build() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    late = news(pod(waiting, phase="Failed", reason="DeadlineExceeded"))
    assert ends.of_pods(late) is None
    assert ends.is_hopeless(late)
    assert ends.of_rest(late) is None
    end = ends.never_began(late, "example/builder:1", 300, [])
    assert end.cause is EndCause.REFUSED
    assert "ImagePullBackOff for image example/builder:1" in end.detail


def test_the_last_warning_of_the_cluster_is_told_where_the_pod_says_nothing() -> None:
    creating = news(pod({"waiting": {"reason": "ContainerCreating"}}))
    end = ends.never_began(creating, "x", 300, ["first", 'MountVolume.SetUp failed: secret "s" not found'])
    assert 'did not start within 300 s: ContainerCreating. MountVolume.SetUp failed: secret "s" not found' in end.detail
    assert "kubectl describe pod job-one" in end.detail


@pytest.mark.parametrize(
    ("told", "dead"),
    [
        (pod(RUNNING, deleted=True), False),
        (pod({"waiting": {"reason": "ContainerCreating"}}, deleted=True), False),
        (pod({"waiting": {"reason": "ErrImagePull"}}, deleted=True), True),
        (pod(ended(137), deleted=True), True),
        (pod(deleted=True), False),
        (pod(deleted=True, phase="Failed", reason="Evicted"), True),
        (pod(RUNNING, deleted=True, phase="Failed", reason="DeadlineExceeded"), False),
        (pod(deleted=True, phase="Failed", reason="DeadlineExceeded"), False),
        ({**pod(deleted=True), "spec": {}}, True),
    ],
)
def test_a_pod_is_dead_only_when_its_node_says_so(told: dict[str, Any], dead: bool) -> None:
    assert ends.is_dead(told) is dead


def test_patience_looks_when_there_is_something_to_see() -> None:
    now = [100.0]
    patience = Patience(30, lambda: now[0])
    assert patience.due_s(news()) == 30
    assert patience.due_s(news(pod(RUNNING))) is None
    lost = news(pod(RUNNING, deleted=True))
    assert patience.due_s(lost) == SETTLE_S  # the Job itself may have ended it, and tells so a moment later
    now[0] += SETTLE_S
    assert patience.due_s(lost) == 0
    assert patience.due_s(news(gone=True)) == 0
    assert patience.due_s(news(pod({"waiting": {"reason": "ErrImageNeverPull"}}))) == 0
    now[0] += 60
    assert patience.due_s(news()) == 0


def test_what_is_heard_while_somebody_looks_makes_the_look_doubtful() -> None:
    told = news()
    assert not told.is_doubtful
    told.hear("pods", "MODIFIED", pod(ended(4)))
    told.look(JOB, [pod(RUNNING)])
    assert told.is_doubtful


def test_another_job_of_the_same_name_is_not_ours() -> None:
    told = news(pod(RUNNING))
    told.hear("jobs", "DELETED", {"metadata": {"name": "job", "uid": "another"}})
    assert not told.is_job_gone
    told.hear("jobs", "DELETED", JOB)
    assert told.is_job_gone
